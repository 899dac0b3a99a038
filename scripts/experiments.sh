#!/bin/bash
# Runs the experiments in configs/experiments and collects their tables into out/experiments/NAME/.
#   scripts/experiments.sh                      all of them: about five hours on two cores
#   scripts/experiments.sh e1_shift_phys ...    some
# Started again, it continues where it stopped. All experiments share simulated cubes and trained models.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --test
# shellcheck source=scripts/env.sh
. scripts/env.sh
cargo build --release
coreloss="${CARGO_TARGET_DIR:-target}/release/coreloss"
if [ $# = 0 ]; then
    set -- e1_shift_phys e1_shift_post e1_shift_same e3_none e3_concentration e4_latent e5_fidelity e6_dose e7_contaminated \
        e8_others e8_benign e9_measured e10_network e11_shuffled
fi
for name in "$@"; do
    config="configs/experiments/$name.yaml"
    mpirun --oversubscribe --bind-to none -n 2 "$coreloss" sweep run "$config"
    "$coreloss" sweep collect "$config"
    case "$name" in
    e4_latent) judge=scripts/latent.py ;;
    e5_fidelity) judge=scripts/fidelity.py ;;
    *) continue ;;
    esac
    "${CORELOSS_TEST_VENV:-.venv-test}/bin/python" "$judge" "out/experiments/$name"
done
