"""How close reconstructions come to the spectra that were expected before the electrons were counted.

    .venv-test/bin/python scripts/fidelity.py out/experiments/e5_fidelity

Prints, for three energy ranges, the root mean square distance from the expected counts in units of their noise, divided by
the same distance of the measured counts (1: no better than the measurement). Medians over the points of the sweep.
"""

import glob
import json
import os
import sys

import h5py
import hyperspy.api as hs
import numpy

RANGES = {"O K": (525, 560), "before Fe L": (600, 695), "Fe L": (700, 736)}


def cube_of(result):
    """The path of the cube that a result was made from."""
    with h5py.File(result) as file:
        return json.loads(dict(file["coreloss"].attrs)["cube"])["path"]


def main(sweep):
    distances = {}
    for point in sorted(glob.glob(os.path.join(sweep, "*-*"))):
        results = {os.path.basename(cube_of(r)).split("-")[0]: r for r in glob.glob(f"{glob.escape(point)}/*.coreloss.hspy")}
        if set(results) != {"test", "expected"}:
            continue
        counted, expected = (hs.load(cube_of(results[name])) for name in ("test", "expected"))
        signals = {signal.metadata.General.title: signal for signal in hs.load(results["test"])}
        pca, cvae = signals["50_pca"], signals["60_reconstruction"]
        models = {"3D-CVAE": cvae} | {f"PCA-{k}": pca.get_decomposition_model(k) for k in (3, 4, 5)}
        for range_name, (low, high) in RANGES.items():
            true = expected.isig[float(low) : float(high)].data

            def distance(model):
                return numpy.sqrt(((model.isig[float(low) : float(high)].data - true) ** 2 / true).mean())

            of_counts = distance(counted)
            for name, model in models.items():
                distances.setdefault((name, range_name), []).append(distance(model) / of_counts)
    print(f"{'':<10}" + "".join(f"{name:>14}" for name in RANGES))
    for model in dict.fromkeys(name for name, _ in distances):
        medians = (numpy.median(distances[model, name]) for name in RANGES)
        print(f"{model:<10}" + "".join(f"{median:>14.3f}" for median in medians))


if __name__ == "__main__":
    main(*sys.argv[1:])
