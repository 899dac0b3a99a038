#!/usr/bin/env bash
# Checks the GPU path and measures it beside PyTorch, and prints one table: below ten minutes on one card.
#
#   scripts/gpu_check.sh [DEVICE [ANCHORS [PART...]]]
#
# DEVICE is cuda (default), or cpu to rehearse the same without a card. ANCHORS is the folder with torch_ddp.py and
# spec_*.json (default ../shared/anchors). PARTs are `checks` and `speed` (default both). SIZES are presets with patches a
# step (default "compact:32 compact:128 compact:512 paper:32", and compact:8 on a CPU; PyTorch and coreloss both let cuDNN
# try its ways first, a minute for the paper's layers). Builds nothing: `cargo build --release` first, with LIBTORCH of a PyTorch 2.11 that has
# CUDA (scripts/setup.sh --cuda). PYTHON names a Python with that torch (default python3).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
device=${1:-cuda}
anchors=${2:-../shared/anchors}
shift $(($# > 2 ? 2 : $#))
parts=${*:-checks speed}
usual="compact:32 compact:128 compact:512 paper:32"
[[ $device = cuda ]] || usual=compact:8
sizes=${SIZES:-$usual}
python=${PYTHON:-python3}
binary=${CARGO_TARGET_DIR:-target}/release/coreloss
if [[ $device = cuda ]] && ! nvidia-smi >/dev/null 2>&1; then
    echo "gpu_check: SKIPPED: nvidia-smi finds no card" >&2
    exit 0
fi
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT

ranks() {
    local count=$1
    shift
    mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$count" "$binary" "$@"
}
step() { echo "gpu_check: $*" >&2; }

# The device is found, and what it learns is what the CPU learns; the same to the bit on two ranks and through NCCL.
checks() {
    step "doctor"
    "$binary" doctor >"$found/doctor" 2>&1 || true
    grep -i -e gpu -e cuda -e libtorch "$found/doctor" >&2 || true
    cat >"$found/config.yaml" <<YAML
seed: 1
archive: {inputs: [$found/archive/shift.hspy]}
simulate:
  dir: $found/archive
  cubes:
    - {name: shift, scene: {shape: [48, 48, 240], anomalies: [{kind: shift, amount: 5.4}]}}
train: {steps: 100}
pca: {components: [3]}
YAML
    ranks 1 simulate "$found/config.yaml" 2>/dev/null
    local run name count where also
    local runs=("cpu 1 cpu" "one 1 $device" "f32 1 $device --set train.precision=f32"
        "same 1 $device --set train.deterministic=true" "two 2 $device --set train.deterministic=true")
    [[ $device = cpu ]] || runs+=("nccl 1 $device --set train.deterministic=true --set comm.backend=nccl")
    for run in "${runs[@]}"; do
        read -r name count where also <<<"$run"
        step "training $name: on $where, $count ranks $also"
        # shellcheck disable=SC2086
        ranks "$count" run "$found/config.yaml" --set "train.device=$where" --set "output=$found/$name" $also \
            >"$found/log" 2>&1 || { tail -n 20 "$found/log" >&2; return 1; }
    done
    "$python" - "$found" "$device" <<'PYTHON'
import json, os, statistics, sys

found, device = sys.argv[1:]

def losses(name):
    lines = (json.loads(line) for line in open(os.path.join(found, name, "metrics.jsonl")))
    return [line["loss"] for line in lines if "loss" in line]

def f1(name):
    (cube,) = json.load(open(os.path.join(found, name, "summary.json")))["cubes"]
    return cube["methods"]["cvae"]["combined"]["f1"]

names = [name for name in ("cpu", "one", "f32", "same", "two", "nccl") if os.path.isdir(os.path.join(found, name))]
of = {name: losses(name) for name in names}
tail = lambda name: statistics.mean(of[name][-20:])
print(f"| check, {device} | |\n|---|---|")
print(f"| first loss, of the CPU's: bf16, f32 | {of['one'][0] / of['cpu'][0] - 1:+.1e}, {of['f32'][0] / of['cpu'][0] - 1:+.1e} |")
print(f"| mean of the last 20 losses, of the CPU's: bf16, f32, deterministic | "
      + ", ".join(f"{tail(name) / tail('cpu') - 1:+.1%}" for name in ("one", "f32", "same")) + " |")
print(f"| deterministic: losses of 2 ranks equal those of 1 | {of['same'] == of['two']} |")
if "nccl" in of:
    print(f"| deterministic: losses of one rank through NCCL equal those without | {of['same'] == of['nccl']} |")
print("| F1 of 5.4 eV: " + ", ".join(names) + " | " + ", ".join(f"{f1(name):.3f}" for name in names) + " |")
PYTHON
}

# Samples a second, beside PyTorch's ways.
speed() {
    local size preset batch spec way ways options
    for size in $sizes; do
        preset=${size%:*} batch=${size#*:}
        step "$preset, batch $batch"
        spec=$anchors/spec_$preset.json
        options=(--spec "$spec" --batch "$batch" --steps 15 --warmup 6)
        : >"$found/now"
        ranks 1 bench train --json "${options[@]}" --set "train.device=$device" --set "train.cudnn_tries=10" \
            --set "train.micro_batch=$batch" --set "train.global_batch=$batch" 2>/dev/null |
            tail -n 1 >>"$found/now" || step "coreloss: no room, or failed"
        ways=("--channels-last --bf16" "--channels-last --bf16 --compile")
        [[ $device = cpu ]] && ways=("" "--channels-last")
        for way in "${ways[@]}"; do
            # shellcheck disable=SC2086
            env -u LD_LIBRARY_PATH timeout 180 "$python" "$anchors/torch_ddp.py" "${options[@]}" --device "$device" \
                --ranks 1 $way 2>/dev/null | tail -n 1 | sed "s/^{/{\"way\": \"$way\", /" >>"$found/now" ||
                step "PyTorch $way: failed"
        done
        sed "s/^{/{\"preset\": \"$preset\", \"of_batch\": $batch, /" "$found/now" >>"$found/speed"
    done
    "$python" - "$found" <<'PYTHON'
import json, os, sys

rows = [json.loads(line) for line in open(os.path.join(sys.argv[1], "speed"))]
print("\n| preset, batch | coreloss, samples/s | PyTorch | ratio | its way | matrix-product rate |\n|---|---|---|---|---|---|")
for key in dict.fromkeys((row["preset"], row["of_batch"]) for row in rows):
    here = [row for row in rows if (row["preset"], row["of_batch"]) == key]
    (ours, *_) = [row for row in here if "way" not in row] or [None]
    for other in (row for row in here if "way" in row):
        if ours is None:
            print(f"| {key[0]}, {key[1]} | no room | {other['samples_per_s']:.0f} | | {other['way']} | |")
            continue
        speeds = ours["samples_per_s"], other["samples_per_s"]
        print(f"| {key[0]}, {key[1]} | {speeds[0]:.0f} | {speeds[1]:.0f} | {speeds[0] / speeds[1]:.2f} "
              f"| {other['way'] or 'plain'} | {ours['share_of_matrix_product']:.1%} |")
PYTHON
}

for part in $parts; do
    "$part"
done
