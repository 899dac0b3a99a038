"""How far anomalies move latent codes: each point of a sweep, compared with its point `clean`.

    .venv-test/bin/python scripts/latent.py out/experiments/e4_latent

Prints the median distance between the code of a pixel and the code of the same pixel in the clean cube, for anomalous and
for normal pixels, in units of the spread of the clean codes (root mean square distance from their mean).
"""

import glob
import json
import os
import sys

import h5py
import numpy


def codes(folder):
    """Latent codes [pixels, latent], and the cube's path."""
    (path,) = glob.glob(os.path.join(glob.escape(folder), "*.coreloss.hspy"))
    with h5py.File(path) as file:
        latent = file["Experiments/40_latent/data"][...]
        attributes = dict(file["coreloss"].attrs)
    latent = numpy.moveaxis(latent.reshape(latent.shape[0], -1), 0, 1)
    return latent, json.loads(attributes["cube"])["path"]


def truth(cube):
    with h5py.File(os.path.splitext(cube)[0] + ".truth.hspy") as file:
        (signal,) = file["Experiments"].values()
        return signal["data"][...].ravel() > 0


def main(sweep):
    points = sorted(p for p in glob.glob(os.path.join(sweep, "*-*")) if os.path.exists(os.path.join(p, "summary.json")))
    (clean,) = [p for p in points if os.path.basename(p).startswith("clean-")]
    clean_codes, _ = codes(clean)
    spread = numpy.sqrt(((clean_codes - clean_codes.mean(0)) ** 2).sum(1).mean())
    print(f"{'anomaly':<40}{'anomalous':>10}{'normal':>10}")
    for point in points:
        if point == clean:
            continue
        found, cube = codes(point)
        moved = numpy.sqrt(((found - clean_codes) ** 2).sum(1)) / spread
        anomalous = truth(cube)
        name = os.path.basename(point).split("-anomalies")[0]
        print(f"{name:<40}{numpy.median(moved[anomalous]):>10.3f}{numpy.median(moved[~anomalous]):>10.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
