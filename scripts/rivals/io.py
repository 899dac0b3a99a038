#!/usr/bin/env python3
"""How fast a cube is read by dd (the bytes of the file) and by h5py (the decoded array): beside `coreloss bench io`.

    io.py FILE DATASET [--rows 16] [--cold]

FILE is HDF5, DATASET an array [y, x, energy] in it, read ROWS scan lines at a time. --cold empties the page cache before
each reading, which needs root. One line of JSON, in MB/s.
"""

import argparse
import json
import os
import subprocess
import time

import h5py
import numpy


def empty_page_cache():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as caches:
        caches.write("3\n")


def by_dd(path):
    subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=4M", "status=none"], check=True)


def by_h5py(path, name, rows):
    with h5py.File(path) as file:
        dataset = file[name]
        block = numpy.empty((rows, *dataset.shape[1:]), dataset.dtype)
        for y in range(0, len(dataset), rows):
            count = min(rows, len(dataset) - y)
            dataset.read_direct(block, numpy.s_[y : y + count], numpy.s_[:count])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("dataset")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--cold", action="store_true")
    given = parser.parse_args()

    def seconds(read, *arguments):
        if given.cold:
            empty_page_cache()
        begun = time.perf_counter()
        read(*arguments)
        return time.perf_counter() - begun

    file_mb = os.path.getsize(given.file) / 1e6
    with h5py.File(given.file) as file:
        array_mb = file[given.dataset].nbytes / 1e6
    found = {
        "what": "io",
        "file_mb": file_mb,
        "array_mb": array_mb,
        "dd_mb_s": file_mb / seconds(by_dd, given.file),
        "h5py_mb_s": array_mb / seconds(by_h5py, given.file, given.dataset, given.rows),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
