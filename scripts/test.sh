#!/usr/bin/env bash
# Everything that must hold before a change lands: layers, format, lints, documentation, licences, tests.
#
#   scripts/test.sh [ARGUMENT...]     arguments go to cargo test: scripts/test.sh --test ranks
#
# Sets up first what is missing (scripts/setup.sh --test). Stops at the first step that fails and names it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

step=
trap '[ $? = 0 ] || echo "test: FAILED: $step" >&2' EXIT

run() {
    step=$1
    shift
    echo "test: $step" >&2
    "$@"
}

run "set-up" bash scripts/setup.sh --test
step=environment
# shellcheck source=scripts/env.sh
. scripts/env.sh
export CORELOSS_PYTHON="${CORELOSS_PYTHON:-${CORELOSS_TEST_VENV:-$PWD/.venv-test}/bin/python}"
run "layers" bash scripts/check_layers.sh
run "format" cargo fmt --check
run "lints" cargo clippy --release --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" run "documentation" cargo doc --release --no-deps
run "licences" python3 scripts/licences.py >/dev/null
run "tests" cargo test --release "$@"
