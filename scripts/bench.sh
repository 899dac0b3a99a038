#!/usr/bin/env bash
# Trains beside PyTorch on this machine, in turns, and prints the table for the README.
#
#   scripts/bench.sh [ANCHORS [ROUNDS]]
#
# ANCHORS is the folder with torch_ddp.py and its spec_compact.json (default ../shared/anchors). PYTHON names a Python
# with torch 2.11 (default python3). Build first: cargo build --release.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
anchors=${1:-../shared/anchors}
rounds=${2:-5}
python=${PYTHON:-python3}
coreloss=${CARGO_TARGET_DIR:-target}/release/coreloss
spec=$anchors/spec_compact.json
found=$(mktemp)
trap 'rm -f "$found"' EXIT

# ours RANKS THREADS and theirs RANKS THREADS WAY...: one line of JSON each.
ours() {
    CORELOSS_THREADS=$2 mpirun --oversubscribe --bind-to none -n "$1" \
        "$coreloss" bench train --json --spec "$spec" 2>/dev/null | tail -n 1
}
theirs() {
    local ranks=$1 threads=$2
    shift 2
    # libtorch's libraries are not Python's.
    env -u LD_LIBRARY_PATH "$python" "$anchors/torch_ddp.py" --spec "$spec" --ranks "$ranks" --threads "$threads" \
        "$@" 2>/dev/null | tail -n 1
}

for ((round = 1; round <= rounds; round++)); do
    for shape in "1 2" "2 1"; do
        read -r ranks threads <<<"$shape"
        echo "bench: round $round of $rounds, $ranks x $threads" >&2
        {
            ours "$ranks" "$threads"
            theirs "$ranks" "$threads"
            theirs "$ranks" "$threads" --channels-last
        } >>"$found"
    done
done

"$python" - "$found" <<'PYTHON'
import json, statistics, sys

rows = [json.loads(line) for line in open(sys.argv[1])]
median = lambda values: statistics.median(list(values))
print("| ranks x threads | coreloss, samples/s | PyTorch plain | channels-last | ratio to the better | of the matrix-product rate | price of exact |")
print("|---|---|---|---|---|---|---|")
for ranks, threads in ((1, 2), (2, 1)):
    here = [row for row in rows if (row["ranks"], row["threads"]) == (ranks, threads)]
    ours, plain, last = (here[i::3] for i in range(3))
    speed = lambda side: median(row["samples_per_s"] for row in side)
    ratio = lambda side: median(a["samples_per_s"] / b["samples_per_s"] for a, b in zip(ours, side))
    share, price = (median(row[key] for row in ours) for key in ("share_of_matrix_product", "price_of_exact"))
    print(f"| {ranks} x {threads} | {speed(ours):.0f} | {speed(plain):.0f} | {speed(last):.0f} | "
          f"{min(ratio(plain), ratio(last)):.2f} | {share:.0%} | {price:.1%} |")
PYTHON
