#!/usr/bin/env python3
"""Reconstruction of a cube by PyTorch, as a user would write it: beside `coreloss bench reconstruct`.

Usage: torch_tiles.py ANCHORS --spec SPEC.json [--side 96] [--threads 2] [--batch 8] [--channels-last] [--rounds 3]

ANCHORS is the folder of torch_ddp.py, whose network this is. Tiles of the patch's size at half of its stride go through
encoder, latent mean, decoder and softmax, and are blended with weights that fall towards their rims. One line of JSON.
"""

import argparse
import json
import resource
import statistics
import sys
import time

import torch


def origins(size: int, patch: int) -> list[int]:
    """Tiles at half stride, the last one flush with the end, as coreloss lays them."""
    last = max(size - patch, 0)
    return [*range(0, last, patch // 2), last]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("anchors")
    parser.add_argument("--spec", required=True)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--channels-last", action="store_true")
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.anchors)
    from torch_ddp import Cvae

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with open(arguments.spec, encoding="utf-8") as file:
        spec = json.load(file)
    layout = torch.channels_last_3d if arguments.channels_last else torch.contiguous_format
    model = Cvae(spec).eval().to(memory_format=layout)
    height, width = spec["patch"]
    side, energy = arguments.side, spec["energy"]
    places = [(y, x) for y in origins(side, height) for x in origins(side, width)]
    counts = torch.rand(side, side, energy)
    ramp = lambda n: 0.5 + torch.minimum(torch.arange(n), torch.arange(n).flip(0))
    weight = (ramp(height)[:, None] * ramp(width))[..., None]

    def reconstruct() -> torch.Tensor:
        shares = counts / counts.sum(-1, keepdim=True)
        total, weights = torch.zeros_like(shares), torch.zeros(side, side, 1)
        for i in range(0, len(places), arguments.batch):
            some = places[i : i + arguments.batch]
            tiles = torch.stack([shares[y : y + height, x : x + width] for y, x in some])[:, None]
            mean = model.to_z(model.enc(tiles.contiguous(memory_format=layout)).flatten(1)).chunk(2, 1)[0]
            logits = model.dec(model.from_z(mean).unflatten(1, model.inner))
            for tile, (y, x) in zip(logits.softmax(-1)[:, 0], some):
                total[y : y + height, x : x + width] += weight * tile
                weights[y : y + height, x : x + width] += weight
        return total / weights

    seconds = []
    with torch.inference_mode():
        for round_ in range(arguments.rounds + 1):
            begun = time.perf_counter()
            reconstruct()
            if round_ > 0:
                seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds)
    print(
        json.dumps(
            dict(
                what="torch_tiles",
                threads=arguments.threads,
                batch=arguments.batch,
                channels_last=arguments.channels_last,
                tiles=len(places),
                seconds=median,
                spectra_per_s=side * side / median,
                peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            )
        )
    )


if __name__ == "__main__":
    main()
