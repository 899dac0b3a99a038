#!/usr/bin/env python3
"""Reconstruction of a cube by PyTorch, as a user would write it: beside `coreloss bench reconstruct`.

    torch_tiles.py --spec spec_compact.json [--side 96] [--threads 2] [--batch 8] [--channels-last] [--rounds 3]

Overlapping tiles of the patch's size, half a patch apart, go through encoder, latent mean, decoder and softmax. Their
answers are blended with weights that fall towards the rims. One line of JSON, with medians over the rounds.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from network import Cvae


def origins(size: int, patch: int) -> list[int]:
    """Where tiles begin along an axis: half a patch apart, the last one flush with the end, as coreloss lays them."""
    last = max(size - patch, 0)
    return [*range(0, last, patch // 2), last]


def ramp(size: int) -> torch.Tensor:
    """Weights of a tile's pixels along an axis, `[size]`."""
    return 0.5 + torch.minimum(torch.arange(size), torch.arange(size).flip(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="JSON with the layers")
    parser.add_argument("--side", type=int, default=96, help="pixels along each side of the cube")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="tiles at once")
    parser.add_argument("--rounds", type=int, default=3, help="to measure, after one that is not counted")
    parser.add_argument("--channels-last", action="store_true", help="torch.channels_last_3d")
    given = parser.parse_args()

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    with open(given.spec, encoding="utf-8") as file:
        spec = json.load(file)
    layout = torch.channels_last_3d if given.channels_last else torch.contiguous_format
    network = Cvae(spec).eval().to(memory_format=layout)
    (height, width), side = spec["patch"], given.side
    places = [(y, x) for y in origins(side, height) for x in origins(side, width)]
    counts = torch.rand(side, side, spec["energy"])
    weight = (ramp(height)[:, None] * ramp(width))[..., None]

    def reconstruct() -> torch.Tensor:
        shares = counts / counts.sum(-1, keepdim=True)
        total, weights = torch.zeros_like(shares), torch.zeros(side, side, 1)
        for i in range(0, len(places), given.batch):
            some = places[i : i + given.batch]
            tiles = torch.stack([shares[y : y + height, x : x + width] for y, x in some])[:, None]
            mean, _ = network.encode(tiles.contiguous(memory_format=layout))
            answers = network.decode(mean).softmax(-1)[:, 0]
            for answer, (y, x) in zip(answers, some):
                total[y : y + height, x : x + width] += weight * answer
                weights[y : y + height, x : x + width] += weight
        return total / weights

    seconds = []
    with torch.inference_mode():
        for _ in range(given.rounds + 1):
            begun = time.perf_counter()
            reconstruct()
            seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds[1:])
    found = {
        "what": "torch_tiles",
        "threads": given.threads,
        "batch": given.batch,
        "channels_last": given.channels_last,
        "tiles": len(places),
        "seconds": median,
        "spectra_per_s": side**2 / median,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
