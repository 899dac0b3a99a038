#!/usr/bin/env python3
"""MPI_Allreduce of float32 through mpi4py, by size: beside `coreloss bench allreduce`.

    mpirun -n 2 python3 allreduce.py

One line of JSON from the first rank: medians over ten sums of each size, and bytes of one rank over seconds.
"""

import json
import statistics
import time

import numpy
from mpi4py import MPI

MIB = (1, 4, 16, 64)
ROUNDS = 10


def measure(world, mib):
    gradient = numpy.full(mib * 2**20 // 4, 1e-3, numpy.float32)
    total = numpy.empty_like(gradient)
    seconds = []
    # The first sums of a size find buffers and caches cold.
    for _ in range(ROUNDS + 2):
        world.Barrier()
        begun = time.perf_counter()
        world.Allreduce(gradient, total)
        seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds[2:])
    return {"mib": mib, "ms": 1e3 * median, "gb_per_s": gradient.nbytes / median / 1e9}


def main():
    world = MPI.COMM_WORLD
    sizes = [measure(world, mib) for mib in MIB]
    if world.rank == 0:
        print(json.dumps({"what": "allreduce", "ranks": world.size, "sizes": sizes}))


if __name__ == "__main__":
    main()
