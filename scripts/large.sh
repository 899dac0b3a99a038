#!/usr/bin/env bash
# Runs cubes of several sizes on two ranks, each under a kernel limit of 2 GiB of data, and prints time and memory.
#
#   scripts/large.sh [FOLDER [GIB...]]     out/large 1.25 5 20
#
# FOLDER needs about four fifths of the GiB on disk. The network trains on a small cube of the same kind for 20 steps only:
# what it has learned changes neither the time nor the memory of what follows. Build first: cargo build --release.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-out/large}
sizes=("${@:2}")
[ ${#sizes[@]} != 0 ] || sizes=(1.25 5 20)
binary=${CARGO_TARGET_DIR:-target}/release/coreloss
limit_kib=$((2 << 20))
mkdir -p "$folder"

on_two_ranks() { mpirun --oversubscribe --bind-to none -n 2 "$@"; }

# 1024 pixels of 1280 channels, float32: a line takes 5 MiB.
{
    echo "archive: {train_inputs: [$folder/small.hspy]}"
    echo "train: {steps: 20}"
    echo "io: {memory_mib: 512}"
    echo "output: {reconstruction: none}"
    echo "simulate:"
    echo "  dir: $folder"
    echo "  cubes:"
    echo "    - {name: small, scene: {shape: [96, 96, 1280], dispersion_ev: 0.3125}}"
    for size in "${sizes[@]}"; do
        lines=$(bc <<<"$size * 1024 / 5")
        anomalies="[{kind: oxygen, amount: -0.3, concentration: 0.01}]"
        echo "    - {name: large_$size, scene: {shape: [$lines, 1024, 1280], dispersion_ev: 0.3125, anomalies: $anomalies}}"
    done
} >"$folder/large.yaml"
on_two_ranks "$binary" simulate "$folder/large.yaml"

for size in "${sizes[@]}"; do
    # shellcheck disable=SC2016
    on_two_ranks bash -c 'ulimit -d "$1"; shift; exec "$@"' limited "$limit_kib" "$binary" run "$folder/large.yaml" --fresh \
        --set "archive.inputs=[$folder/large_$size.hspy]" --set "output.dir=$folder/run_$size"
done

python3 scripts/large_table.py "$folder" "${sizes[@]}"
