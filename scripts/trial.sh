#!/bin/bash
# Runs the trial (configs/experiments/trial.yaml) on two ranks and prints its tables.
#   scripts/trial.sh                              the conditions to choose by (even numbers), with two trainings each
#   scripts/trial.sh --linear                     the same without the network: a few minutes
#   scripts/trial.sh --conditions 2,14 [...]      some
#   scripts/trial.sh --judged, --all              those that judge (odd numbers), or all forty: below two hours
#   scripts/trial.sh ... --set KEY=VALUE ...      with another setting; its results are kept apart
# Started again, it continues where it stopped. Results: out/experiments/trial.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
. scripts/env.sh
cargo build --release
coreloss="${CARGO_TARGET_DIR:-target}/release/coreloss"
python="${CORELOSS_TEST_VENV:-.venv-test}/bin/python"
sets=()
chosen=()
while [ $# -gt 0 ]; do
    if [ "$1" = --set ]; then
        sets+=("$1" "$2")
        shift
    else
        chosen+=("$1")
    fi
    shift
done
sweep=$("$python" scripts/trial.py plan "${chosen[@]}")
mpirun --oversubscribe --bind-to none -n 2 "$coreloss" sweep run "$sweep" "${sets[@]}"
"$coreloss" sweep collect "$sweep" "${sets[@]}"
"$python" scripts/trial.py tables "$sweep"
