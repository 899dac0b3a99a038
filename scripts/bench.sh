#!/usr/bin/env bash
# Measures this machine beside what users would run instead, in turns, and prints the tables for the README.
#
#   scripts/bench.sh [ANCHORS [ROUNDS [CUBE DATASET]]]
#
# ANCHORS is the folder with torch_ddp.py, pca.py, io.py and spec_compact.json (default ../shared/anchors). CUBE is an
# HDF5 file with a spectrum image in DATASET; without it one of 256 x 256 x 1312 is simulated, float32 behind shuffle and
# gzip. PYTHON names a Python with torch 2.11, scikit-learn and h5py (default python3). Build first: cargo build --release.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
anchors=${1:-../shared/anchors}
rounds=${2:-5}
cube=${3:-}
dataset=${4:-}
python=${PYTHON:-python3}
binary=${CARGO_TARGET_DIR:-target}/release/coreloss
spec=$anchors/spec_compact.json
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT

# Runs a command and gives the last line that it prints; what it says otherwise only where it fails.
last_line() {
    "$@" 2>"$found/errors" | tail -n 1 || {
        cat "$found/errors" >&2
        echo "bench: failed: $*" >&2
        return 1
    }
}

# coreloss RANKS THREADS WHAT... and anchor SCRIPT...: one line of JSON each.
coreloss() {
    local ranks=$1 threads=$2
    shift 2
    last_line env CORELOSS_THREADS="$threads" mpirun --oversubscribe --bind-to none -n "$ranks" "$binary" bench "$@"
}
anchor() {
    local script=$1
    shift
    # libtorch's libraries are not Python's.
    last_line env -u LD_LIBRARY_PATH "$python" "$anchors/$script" "$@"
}
own() {
    local script=$1
    shift
    last_line env -u LD_LIBRARY_PATH "$python" "scripts/$script" "$@"
}
# How long a command takes.
seconds() {
    local begun=$EPOCHREALTIME
    "$@" >/dev/null
    # bc leaves out the zero before a point.
    printf '%.3f\n' "$(bc <<<"$EPOCHREALTIME - $begun")"
}

if [[ -z $cube ]]; then
    echo "simulate: {dir: $found, cubes: [{name: cube, scene: {shape: [256, 256, 1312], dispersion_ev: 0.3}}]}" >"$found/cube.yaml"
    mpirun --oversubscribe --bind-to none -n 2 "$binary" simulate "$found/cube.yaml" >/dev/null 2>&1
    cube=$found/cube.hspy dataset=Experiments/spectra/data
fi

for ((round = 1; round <= rounds; round++)); do
    for shape in "1 2" "2 1"; do
        read -r ranks threads <<<"$shape"
        echo "bench: round $round of $rounds, training on $ranks x $threads" >&2
        ddp=(torch_ddp.py --spec "$spec" --ranks "$ranks" --threads "$threads")
        {
            coreloss "$ranks" "$threads" train --json --spec "$spec"
            anchor "${ddp[@]}"
            anchor "${ddp[@]}" --channels-last
        } >>"$found/train"
    done
    echo "bench: round $round of $rounds, PCA and reading" >&2
    {
        coreloss 2 1 pca "$cube" --json --set archive.dataset="$dataset"
        coreloss 2 1 pca "$cube" --json --set archive.dataset="$dataset" --set pca.solver=randomized
        anchor pca.py "$cube" "$dataset" --mode eigh
        anchor pca.py "$cube" "$dataset" --mode randomized
    } >>"$found/pca"
    {
        coreloss 1 1 io "$cube" --json --set archive.dataset="$dataset"
        coreloss 2 1 io "$cube" --json --set archive.dataset="$dataset"
        anchor io.py "$cube" "$dataset"
    } >>"$found/io"
    coreloss 2 1 allreduce --json >>"$found/allreduce"
    echo "bench: round $round of $rounds, reconstruction" >&2
    tiles=(--spec "$spec" --side 96)
    {
        coreloss 1 2 reconstruct --json "${tiles[@]}"
        coreloss 2 1 reconstruct --json "${tiles[@]}"
        own torch_tiles.py "$anchors" "${tiles[@]}"
        own torch_tiles.py "$anchors" "${tiles[@]}" --channels-last
        own torch_tiles.py "$anchors" "${tiles[@]}" --channels-last --batch 32
    } >>"$found/tiles"
    echo "bench: round $round of $rounds, ranks and start-up" >&2
    for ranks in 1 2 3 4; do
        coreloss "$ranks" $((ranks == 1 ? 2 : 1)) train --json --spec "$spec" --batch $((48 / ranks)) --steps 6 >>"$found/ranks"
    done
    once=(--spec "$spec" --steps 1 --warmup 0)
    {
        seconds coreloss 2 1 train --json --steps-only "${once[@]}"
        seconds anchor torch_ddp.py --ranks 2 "${once[@]}" --channels-last
    } >>"$found/start"
done

"$python" - "$found" <<'PYTHON'
import json, os, statistics, sys

def rows(name):
    path = os.path.join(sys.argv[1], name)
    return [json.loads(line) for line in open(path)] if os.path.exists(path) else []

median = lambda values: statistics.median(list(values))
def ratio(better, worse, key):
    return median(a[key] / b[key] for a, b in zip(better, worse))

print("| training, ranks x threads | coreloss, samples/s | PyTorch plain | channels-last | ratio to the better | of the matrix-product rate | price of exact |")
print("|---|---|---|---|---|---|---|")
for ranks, threads in ((1, 2), (2, 1)):
    here = [row for row in rows("train") if (row["ranks"], row["threads"]) == (ranks, threads)]
    ours, plain, last = (here[i::3] for i in range(3))
    speed = lambda side: median(row["samples_per_s"] for row in side)
    least = min(ratio(ours, side, "samples_per_s") for side in (plain, last))
    share, price = (median(row[key] for row in ours) for key in ("share_of_matrix_product", "price_of_exact"))
    print(f"| {ranks} x {threads} | {speed(ours):.0f} | {speed(plain):.0f} | {speed(last):.0f} | {least:.2f} | "
          f"{share:.0%} | {price:.1%} |")

exact, low_rank, *others = (rows("pca")[i::4] for i in range(4))
shape = "x".join(map(str, exact[0]["shape"]))
print(f"\n| PCA of {shape}, {exact[0]['components']} components | s | peak MiB | exact is faster by | randomized is faster by |")
print("|---|---|---|---|---|")
seconds = lambda side: median(row["seconds"] for row in side)
for name, side in (("exact", exact), ("randomized", low_rank)):
    memory = median(sum(row["peak_rss_mib"]) for row in side)
    print(f"| coreloss {name}, 2 ranks (memory summed) | {seconds(side):.2f} | {memory:.0f} | | |")
for side in others:
    memory = median(row["peak_rss_mib"] for row in side)
    faster = (f"{ratio(side, ours, 'seconds'):.2f}" for ours in (exact, low_rank))
    print(f"| scikit-learn {side[0]['mode']} | {seconds(side):.2f} | {memory:.0f} | {' | '.join(faster)} |")

found = rows("io")
one, two, h5py = (found[i::3] for i in range(3))
print("\n| reading, MB/s of the decoded array | | ratio to h5py |")
print("|---|---|---|")
h5py = [dict(row, read_mb_s=row["h5py_mb_s"]) for row in h5py]
for name, side in (("coreloss, 1 rank", one), ("coreloss, 2 ranks", two), ("h5py", h5py)):
    rate = median(row["read_mb_s"] for row in side)
    print(f"| {name} | {rate:.0f} | {ratio(side, h5py, 'read_mb_s'):.2f} |")

sides = [rows("tiles")[i::5] for i in range(5)]
print("\n| reconstruction of 96 x 96 | spectra/s | peak MiB | ratio to the best of PyTorch's |")
print("|---|---|---|---|")
names = ("coreloss, 1 x 2", "coreloss, 2 x 1", "PyTorch plain", "channels-last", "channels-last, batch 32")
for name, side in zip(names, sides):
    peak = [row["peak_rss_mib"] for row in side]
    peak = median(sum(rank) if isinstance(rank, list) else rank for rank in peak)
    least = min(ratio(side, other, "spectra_per_s") for other in sides[2:])
    print(f"| {name} | {median(row['spectra_per_s'] for row in side):.0f} | {peak:.0f} | {least:.2f} |")

print("\n| 48 patches a step on 2 cores, ranks | ms a step | of 2 ranks' |")
print("|---|---|---|")
sides = [rows("ranks")[i::4] for i in range(4)]
for side in sides:
    print(f"| {side[0]['ranks']} | {median(row['step_ms'] for row in side):.0f} | {ratio(side, sides[1], 'step_ms'):.2f} |")

starts = rows("start")
share = median(ours / theirs for ours, theirs in zip(starts[::2], starts[1::2]))
print(f"\nStart to the end of the first step, 2 ranks: {median(starts[::2]):.2f} s; PyTorch {median(starts[1::2]):.2f} s, share {share:.2f}")

print("\n| gradient, MiB | bare MPI_Allreduce, GB/s | fast, of its bandwidth | exact, of its bandwidth |")
print("|---|---|---|---|")
for sizes in zip(*(row["sizes"] for row in rows("allreduce"))):
    values = [median(size[key] for size in sizes) for key in ("bare_gb_per_s", "fast_ratio", "exact_ratio")]
    print("| {} | {:.2f} | {:.2f} | {:.2f} |".format(sizes[0]["mib"], *values))
PYTHON
