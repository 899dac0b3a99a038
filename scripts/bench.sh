#!/usr/bin/env bash
# Measures this machine beside what users would run instead, in turns, and prints the tables of scripts/README.md.
#
#   scripts/bench.sh [RIVALS [ROUNDS [CUBE DATASET]]]
#
# RIVALS is the folder of the rival programs (default scripts/rivals), ROUNDS how often all is measured (default 5). CUBE is
# an HDF5 file with a spectrum image in DATASET; without it one of 256 x 256 x 1312 is simulated, float32 behind shuffle and
# gzip. PYTHON names a Python with the packages of scripts/rivals/requirements.txt (default python3). Build first:
# cargo build --release.
set -euo pipefail

exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/bench.py" "$@"
