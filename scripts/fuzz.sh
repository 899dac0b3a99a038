#!/usr/bin/env bash
# Reads broken files by the million: Gatan files, Zarr's descriptions and chunks, the JSON of Velox and Nion Swift, the axes of HDF5,
# the tags of DM5, configurations, sweeps and checkpoints with changed bytes.
#
#   scripts/fuzz.sh [N] [SEED]        N mutants for each of eleven readers (200000), drawn with SEED (1)
#
# There must be no panic, no hang, and at most 4 GiB of address space, most of it for libraries. A file that breaks a reader stays
# in the folder for temporary files, and the message names it: make it a test beside the reader.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/env.sh
[ -n "${LIBTORCH:-}" ] || . scripts/env.sh
export CORELOSS_FUZZ_RUNS=${1:-200000} CORELOSS_FUZZ_SEED=${2:-1}
cargo test --release --lib --no-run
ulimit -v $((4 << 20))
exec cargo test --release --lib fuzz -- --nocapture
