#!/bin/bash
# Runs the trial (configs/experiments/trial.yaml) on two ranks and prints its tables.
#   scripts/trial.sh                              the conditions to choose by (even numbers), with two trainings each
#   scripts/trial.sh --linear                     the same without the network
#   scripts/trial.sh --conditions 2,14 [...]      some
#   scripts/trial.sh --judged, --all              those that judge (odd numbers), or all forty
#   scripts/trial.sh ... --set KEY=VALUE ...      with another setting, as model.preset=blind; its results are kept apart
#   scripts/trial.sh ... --name NAME, --fresh     into out/experiments/trial/NAME; without what is there
# Started again, it continues where it stopped; after a change of the program give another --name, or --fresh. All share their
# simulated cubes. CORELOSS=PATH takes that program in place of one built now.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
. scripts/env.sh
if [ -z "${CORELOSS:-}" ]; then
    cargo build --release
    CORELOSS="${CARGO_TARGET_DIR:-target}/release/coreloss"
fi
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
log="${sweep%.yaml}.log"
echo "running: $log"
mpirun --oversubscribe --bind-to none -n 2 "$CORELOSS" sweep run "$sweep" "${sets[@]}" >>"$log" 2>&1 || {
    tail -n 20 "$log"
    exit 1
}
"$CORELOSS" sweep collect "$sweep" "${sets[@]}" >>"$log"
"$python" scripts/trial.py tables "$sweep"
