#!/usr/bin/env bash
# Checks the GPU path and measures it beside PyTorch, and prints one table: below ten minutes on one card.
#
#   scripts/gpu_check.sh [DEVICE [RIVALS [PART...]]]
#
# DEVICE is cuda (default), or cpu to rehearse the same without a card. RIVALS is the folder with torch_ddp.py and
# spec_*.json (default scripts/rivals). PARTs are `checks` and `speed` (default both). SIZES are presets with patches a step
# (default "compact:32 compact:128 compact:512 paper:32", and compact:8 on a CPU). PyTorch and coreloss both let cuDNN try
# its algorithms first: a minute for the paper's layers.
#
# Builds nothing: `cargo build --release` first, with LIBTORCH of a PyTorch 2.11 that has CUDA (scripts/setup.sh --cuda).
# PYTHON names a Python with that torch (default python3).
set -euo pipefail

exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/gpu_check.py" "$@"
