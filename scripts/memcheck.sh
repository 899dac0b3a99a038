#!/bin/bash
# Runs the whole pipeline on two ranks under valgrind, and fails on any wrong read or write of memory. Ten minutes.
#   scripts/memcheck.sh
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --test
# shellcheck source=scripts/env.sh
. scripts/env.sh
cargo build --release
coreloss="$(realpath "${CARGO_TARGET_DIR:-target}/release/coreloss")"
if ! command -v valgrind >/dev/null; then
    echo "memcheck: valgrind is missing: apt-get install valgrind" >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >config.yaml <<YAML
archive: {inputs: [archive/*.hspy]}
simulate:
  dir: archive
  cubes: [{name: tiny, scene: {shape: [16, 16, 64], dispersion_ev: 6}}]
train: {steps: 3}
output: run
YAML
# Not our error: PMIx sends the padding of its records.
cat >pmix.supp <<SUPP
{
   padding
   Memcheck:Param
   writev(vector[...])
   ...
   fun:pmix_ptl_base_send_handler
}
SUPP
suppressions=(--suppressions=pmix.supp)
while read -r file; do
    suppressions+=("--suppressions=$file")
done < <(find /usr -name 'openmpi-valgrind.supp' 2>/dev/null | head -n 1)
"$coreloss" simulate config.yaml
OMP_NUM_THREADS=1 mpirun --oversubscribe --bind-to none -n 2 valgrind --error-exitcode=9 "${suppressions[@]}" \
    --log-file=valgrind.%p "$coreloss" run config.yaml || {
    grep -h -A 30 -e "Invalid\|Syscall\|Conditional\|Use of" valgrind.* >&2
    echo "memcheck: FAILED" >&2
    exit 1
}
grep -h "ERROR SUMMARY" valgrind.*
echo "memcheck: passed"
