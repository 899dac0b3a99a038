#!/usr/bin/env bash
# Everything that must hold before a change lands: layers, format, lints, documentation, licences, tests.
#
#   scripts/test.sh [ARGUMENT...]     arguments go to cargo test: scripts/test.sh --test suite memory::
#
# First sets up what is missing (scripts/setup.sh --test). Stops at the first step that fails, and names it.
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

run "layers" python3 scripts/check_layers.py
run "set-up" bash scripts/setup.sh
# HyperSpy and a browser are downloaded while cargo compiles.
bash scripts/setup.sh --test &
judges=$!
step=environment
# shellcheck source=scripts/env.sh
. scripts/env.sh
export CORELOSS_PYTHON="${CORELOSS_PYTHON:-${CORELOSS_TEST_VENV:-$PWD/.venv-test}/bin/python}"
# HDF5 opens files without close-on-exec: a lock that a test takes on a file would be held by any program that another test starts
# at that moment. The programs that are tested take locks all the same (tests/common/mod.rs).
export HDF5_USE_FILE_LOCKING=FALSE
# Jobs of small tests fill the cores better when there are more tests to choose from (tests/common/cores.rs).
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}"
run "format" cargo fmt --check
run "lints" cargo clippy --release --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" run "documentation" cargo doc --release --no-deps
run "licences" python3 scripts/licences.py >/dev/null
run "building of tests" cargo test --release --no-run "$@"
run "set-up of HyperSpy" wait "$judges"
run "tests" cargo test --release "$@"
