#!/usr/bin/env bash
# Checks the GPU path and measures it beside PyTorch, and prints one table: below ten minutes on one card.
#
#   scripts/gpu_check.sh [DEVICE [ANCHORS]]
#
# DEVICE is cuda (default), or cpu to rehearse the same without a card. ANCHORS is the folder with torch_ddp.py and
# spec_*.json (default ../shared/anchors). Builds nothing: `cargo build --release` first, with LIBTORCH of a PyTorch 2.11
# that has CUDA (scripts/setup.sh --cuda). PYTHON names a Python with that torch (default python3).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
device=${1:-cuda}
anchors=${2:-../shared/anchors}
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

# The device is found, and what it learns is what the CPU learns.
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
train: {steps: 200}
pca: {components: [3]}
YAML
ranks 1 simulate "$found/config.yaml" 2>/dev/null
for run in "cpu 1 cpu" "one 1 $device" "two 2 $device" "again 1 $device"; do
    read -r name count where <<<"$run"
    step "training on $where, $count ranks"
    ranks "$count" run "$found/config.yaml" --set "train.device=$where" --set "output=$found/$name" >/dev/null 2>&1
done

# Speed, beside PyTorch's ways.
watch=
if [[ $device = cuda ]]; then
    nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 200 >"$found/busy" &
    watch=$!
fi
for preset in compact paper; do
    spec=$anchors/spec_$preset.json
    for batch in 8 32 128; do
        step "$preset, batch $batch"
        options=(--spec "$spec" --batch "$batch")
        [[ $device = cpu ]] && { [[ $preset$batch = compact8 ]] || continue; }
        : >"$found/now"
        ranks 1 bench train --json "${options[@]}" --set "train.device=$device" 2>/dev/null | tail -n 1 >>"$found/now" ||
            step "coreloss: no room, or failed"
        ways=("" "--channels-last")
        [[ $device = cuda ]] && ways+=("--channels-last --bf16" "--channels-last --bf16 --compile")
        for way in "${ways[@]}"; do
            # shellcheck disable=SC2086
            env -u LD_LIBRARY_PATH timeout 120 "$python" "$anchors/torch_ddp.py" "${options[@]}" --device "$device" --ranks 1 \
                $way 2>/dev/null | tail -n 1 | sed "s/^{/{\"way\": \"$way\", /" >>"$found/now" || step "PyTorch $way: failed"
        done
        sed "s/^{/{\"preset\": \"$preset\", \"of_batch\": $batch, /" "$found/now" >>"$found/speed"
    done
done
[[ -z $watch ]] || kill "$watch"

"$python" - "$found" "$device" <<'PYTHON'
import json, os, statistics, sys

found, device = sys.argv[1:]

def losses(name):
    lines = (json.loads(line) for line in open(os.path.join(found, name, "metrics.jsonl")))
    return [line["loss"] for line in lines if "loss" in line]

def f1(name):
    (cube,) = json.load(open(os.path.join(found, name, "summary.json")))["cubes"]
    return cube["methods"]["cvae"]["combined"]["f1"]

cpu, one, two, again = map(losses, ("cpu", "one", "two", "again"))
print(f"| check, {device} | |\n|---|---|")
print(f"| first loss, of the CPU's | {one[0] / cpu[0] - 1:+.1e} |")
tail = lambda values: statistics.mean(values[-20:])
print(f"| mean of the last 20 losses, of the CPU's | {tail(one) / tail(cpu) - 1:+.1e} |")
print(f"| losses of 2 ranks on one device equal those of 1 | {one == two} |")
print(f"| losses of two runs alike | {one == again} |")
print(f"| F1 of 5.4 eV, device and CPU | {f1('one'):.3f}, {f1('cpu'):.3f} |")
print("\n| preset, batch | coreloss, samples/s | PyTorch's best | ratio | its way |\n|---|---|---|---|---|")
rows = [json.loads(line) for line in open(os.path.join(found, "speed"))]
for key in dict.fromkeys((row["preset"], row["of_batch"]) for row in rows):
    here = [row for row in rows if (row["preset"], row["of_batch"]) == key]
    ours = [row for row in here if "way" not in row]
    others = [row for row in here if "way" in row]
    if not ours or not others:
        print(f"| {key[0]}, {key[1]} | {'no room' if not ours else ours[0]['samples_per_s']} | | | |")
        continue
    best = max(others, key=lambda row: row["samples_per_s"])
    speeds = ours[0]["samples_per_s"], best["samples_per_s"]
    print(f"| {key[0]}, {key[1]} | {speeds[0]:.0f} | {speeds[1]:.0f} | {speeds[0] / speeds[1]:.2f} | {best['way'] or 'plain'} |")
busy = os.path.join(found, "busy")
if os.path.exists(busy):
    print(f"\nThe card was busy {statistics.mean(map(float, open(busy))):.0f} % of the time of these measurements.")
PYTHON
