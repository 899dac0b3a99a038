#!/usr/bin/env python3
"""How a training step grows with ranks: a model of operations, bandwidth and latency, fitted here and held against here.

    . scripts/env.sh; python3 scripts/scaling.py [--rounds 3]

A step of `n` patches per rank on `p` ranks takes

    a + b n + 2 log2(p) latency + 2 (p - 1) / p bytes / bandwidth

`a` and `b` are fitted to steps of one rank, latency and bandwidth to exact sums over two ranks; then steps of two to
four ranks are predicted and measured. The last table is a PREDICTION for GPUs: nothing of it was measured, and what it
assumes of a GPU and its network is printed with it.
"""

import argparse
import json
import math
import os
import statistics
import subprocess

PATCHES = 48
# Of the paper's layers on patches of 24 x 24 x 1312: operations of one patch, as `coreloss bench train` counts them, and
# bytes of the gradient.
PAPER_FLOP = 309e9
PAPER_BYTES = 4 * 777e6


def bench(ranks, threads, *what):
    binary = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release", "coreloss")
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), binary, "bench", *what, "--json"]
    done = subprocess.run(command, env=dict(os.environ, CORELOSS_THREADS=str(threads)), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"scaling: failed: {' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def line(points):
    """Intercept and slope of the least relative squares through (x, y)."""
    weight = [1 / y**2 for _, y in points]
    total = sum(weight)
    x0 = sum(w * x for w, (x, _) in zip(weight, points)) / total
    y0 = sum(w * y for w, (_, y) in zip(weight, points)) / total
    slope = sum(w * (x - x0) * (y - y0) for w, (x, y) in zip(weight, points))
    slope /= sum(w * (x - x0) ** 2 for w, (x, _) in zip(weight, points))
    return y0 - slope * x0, slope


def medians(rounds, measure):
    return statistics.median(measure() for _ in range(rounds))


def reduction(ranks, size, latency, bandwidth):
    """Seconds of a sum of `size` bytes: halves and doubles exchanged (Thakur, Rabenseifner & Gropp 2005)."""
    return 2 * math.log2(ranks) * latency + 2 * (ranks - 1) / ranks * size / bandwidth


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--gpu-tflop-per-s", type=float, default=10.0, help="f32, reached in these convolutions")
    parser.add_argument("--gpu-fixed-ms", type=float, default=3.0, help="of a step: kernel launches and Adam")
    parser.add_argument("--host-gb-per-s", type=float, default=25.0, help="between a card and its host, each way")
    parser.add_argument("--network-gb-per-s", type=float, default=25.0, help="of a rank")
    parser.add_argument("--network-us", type=float, default=5.0, help="of a message")
    given = parser.parse_args()

    facts = bench(1, 1, "train", "--batch", "8", "--steps", "4")
    size = 4 * facts["parameters"]
    flop = facts["gflop_per_s"] / facts["samples_per_s"] * 1e9

    def step(ranks, threads, batch):
        return medians(
            given.rounds,
            lambda: bench(ranks, threads, "train", "--batch", str(batch), "--steps", "6")["step_ms"] / 1e3,
        )

    own = [(batch, step(1, 1, batch)) for batch in (4, 8, 16, 24)]
    fixed, patch = line(own)
    sums = [bench(2, 1, "allreduce")["sizes"] for _ in range(given.rounds)]
    sizes = zip(*sums)
    points = [
        (row[0]["mib"] * 2**20, statistics.median(one["exact_ms"] for one in row) / 1e3) for row in sizes
    ]
    start, per_byte = line(points)
    latency, bandwidth = max(start, 0.0) / 2, 1 / per_byte
    print(f"fixed {1e3 * fixed:.1f} ms, {1e3 * patch:.2f} ms a patch ({flop / patch / 1e9:.0f} GFLOP/s a core), sums at "
          f"{bandwidth / 1e9:.2f} GB/s after {1e6 * latency:.0f} us; {facts['parameters']} parameters\n")

    print(f"| {PATCHES} patches a step, ranks of one thread | predicted, ms | measured, ms | off by |")
    print("|---|---|---|---|")
    for ranks in (2, 3, 4):
        # More ranks than cores take turns.
        turns = max(ranks / given.cores, 1)
        predicted = turns * (fixed + patch * PATCHES / ranks) + reduction(ranks, size, latency, bandwidth) * turns
        measured = step(ranks, 1, PATCHES // ranks)
        print(f"| {ranks} | {1e3 * predicted:.0f} | {1e3 * measured:.0f} | {predicted / measured - 1:+.0%} |")

    print(f"\nPREDICTED, not measured: 8 patches a GPU and step, {given.gpu_tflop_per_s} TFLOP/s reached, "
          f"{given.gpu_fixed_ms} ms fixed, {given.host_gb_per_s} GB/s to the host, network {given.network_gb_per_s} GB/s "
          f"and {given.network_us} us")
    print("| GPUs | compact: ms a step | patches/s | of linear | paper (777 M parameters): ms a step | patches/s | of linear |")
    print("|---|---|---|---|---|---|---|")
    models = [(size, flop), (PAPER_BYTES, PAPER_FLOP)]
    for gpus in (1, 8, 64):
        cells = []
        for size_of, flop_of in models:
            alone = given.gpu_fixed_ms / 1e3 + 8 * flop_of / given.gpu_tflop_per_s / 1e12
            among = 0.0
            if gpus > 1:
                among = 2 * size_of / given.host_gb_per_s / 1e9
                among += reduction(gpus, size_of, given.network_us / 1e6, given.network_gb_per_s * 1e9)
            taken = alone + among
            cells.append(f"{1e3 * taken:.1f} | {8 * gpus / taken:.0f} | {alone / taken:.0%}")
        print(f"| {gpus} | {' | '.join(cells)} |")



if __name__ == "__main__":
    main()
