#!/usr/bin/env python3
"""How a training step grows with ranks: a model of operations, bandwidth and latency, fitted and tested on this machine.

    . scripts/env.sh; python3 scripts/scaling.py [--rounds 3]

A step of `n` patches per rank on `p` ranks takes

    a + b n + 2 log2(p) latency + 2 (p - 1) / p bytes / bandwidth

`a` and `b` are fitted to steps of one rank, latency and bandwidth to exact sums over two ranks. Steps of two to four ranks
are then predicted and measured. The last table is a PREDICTION for GPUs: none of it was measured, and what it assumes of a
GPU and its network is printed with it.
"""

import argparse
import math
import os
import statistics
import sys

from measure import Failed, bench, print_table

PATCHES = 48
# The paper's layers on patches of 24 x 24 x 1312: operations for one patch, as `coreloss bench train` counts them, and
# bytes of the gradient.
PAPER_FLOP = 309e9
PAPER_BYTES = 4 * 777e6


def line(points):
    """Intercept and slope of the line through (x, y) with the least relative squares."""
    weight = [1 / y**2 for _, y in points]
    total = sum(weight)
    x0 = sum(w * x for w, (x, _) in zip(weight, points)) / total
    y0 = sum(w * y for w, (_, y) in zip(weight, points)) / total
    slope = sum(w * (x - x0) * (y - y0) for w, (x, y) in zip(weight, points))
    slope /= sum(w * (x - x0) ** 2 for w, (x, _) in zip(weight, points))
    return y0 - slope * x0, slope


def reduction(ranks, size, latency, bandwidth):
    """Seconds of a sum of `size` bytes: halves and doubles exchanged (Thakur, Rabenseifner & Gropp 2005)."""
    return 2 * math.log2(ranks) * latency + 2 * (ranks - 1) / ranks * size / bandwidth


def step(given, ranks, batch):
    """Measured seconds of a step of `batch` patches on each of `ranks` ranks of one thread."""
    rounds = (bench(ranks, 1, "train", "--batch", batch, "--steps", 6) for _ in range(given.rounds))
    return statistics.median(found["step_ms"] for found in rounds) / 1e3


def here(given, size, flop):
    """Fits the model to this machine, and holds it against steps of more ranks; `size` and `flop` are of the layers."""
    fixed, patch = line([(batch, step(given, 1, batch)) for batch in (4, 8, 16, 24)])
    sums = [bench(2, 1, "allreduce")["sizes"] for _ in range(given.rounds)]
    points = [
        (sizes[0]["mib"] * 2**20, statistics.median(size["exact_ms"] for size in sizes) / 1e3) for sizes in zip(*sums)
    ]
    start, per_byte = line(points)
    latency, bandwidth = max(start, 0.0) / 2, 1 / per_byte
    print(f"fixed {1e3 * fixed:.1f} ms, {1e3 * patch:.2f} ms a patch ({flop / patch / 1e9:.0f} GFLOP/s a core), sums at "
          f"{bandwidth / 1e9:.2f} GB/s after {1e6 * latency:.0f} us; {size // 4} parameters\n")
    rows = []
    for ranks in (2, 3, 4):
        # More ranks than cores take turns.
        turns = max(ranks / given.cores, 1)
        predicted = turns * (fixed + patch * PATCHES / ranks) + reduction(ranks, size, latency, bandwidth) * turns
        measured = step(given, ranks, PATCHES // ranks)
        rows.append([ranks, f"{1e3 * predicted:.0f}", f"{1e3 * measured:.0f}", f"{predicted / measured - 1:+.0%}"])
    print_table([f"{PATCHES} patches a step, ranks of one thread", "predicted, ms", "measured, ms", "off by"], rows)


def gpus(given, models):
    """Predicts steps of 8 patches a GPU, for `models` of (bytes of the gradient, operations for one patch)."""
    print(f"\nPREDICTED, not measured: 8 patches a GPU and step, {given.gpu_tflop_per_s} TFLOP/s reached, "
          f"{given.gpu_fixed_ms} ms fixed, {given.host_gb_per_s} GB/s to the host, network {given.network_gb_per_s} GB/s "
          f"and {given.network_us} us")
    rows = []
    for count in (1, 8, 64):
        row = [count]
        for size, flop in models:
            alone = given.gpu_fixed_ms / 1e3 + 8 * flop / given.gpu_tflop_per_s / 1e12
            among = 0.0
            if count > 1:
                among = 2 * size / given.host_gb_per_s / 1e9
                among += reduction(count, size, given.network_us / 1e6, given.network_gb_per_s * 1e9)
            taken = alone + among
            row += [f"{1e3 * taken:.1f}", f"{8 * count / taken:.0f}", f"{alone / taken:.0%}"]
        rows.append(row)
    cells = ["ms a step", "patches/s", "of linear"]
    columns = [f"{model}: {cell}" for model in ("compact", "paper (777 M parameters)") for cell in cells]
    print_table(["GPUs", *columns], rows)


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
    facts = bench(1, 1, "train", "--batch", 8, "--steps", 4)
    size, flop = 4 * facts["parameters"], facts["gflop_per_s"] / facts["samples_per_s"] * 1e9
    here(given, size, flop)
    gpus(given, [(size, flop), (PAPER_BYTES, PAPER_FLOP)])


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"scaling: {failed}")
