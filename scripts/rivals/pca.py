#!/usr/bin/env python3
"""Principal components of a spectrum image by the tools that a user would reach for: beside `coreloss bench pca`.

    pca.py FILE DATASET [--mode eigh|randomized|incremental|hyperspy] [-k 10]

FILE is HDF5, DATASET an array [y, x, energy] in it. eigh and randomized are solvers of scikit-learn's PCA, incremental is
its IncrementalPCA over blocks of scan lines, hyperspy is HyperSpy's decomposition with Poisson scaling. One line of JSON;
`seconds` is from opening the file to the result.
"""

import argparse
import importlib
import json
import resource
import time

import h5py

BLOCK_PIXELS = 4096


def eigh(dataset, components):
    return sklearn_pca(dataset, components, "covariance_eigh")


def randomized(dataset, components):
    return sklearn_pca(dataset, components, "randomized")


def sklearn_pca(dataset, components, solver):
    from sklearn.decomposition import PCA

    spectra = dataset[...].astype("float32").reshape(-1, dataset.shape[-1])
    return PCA(components, svd_solver=solver, random_state=0).fit(spectra).explained_variance_ratio_


def incremental(dataset, components):
    from sklearn.decomposition import IncrementalPCA

    lines, columns, energy = dataset.shape
    block = max(BLOCK_PIXELS // columns, 1)
    pca = IncrementalPCA(components)
    for y in range(0, lines, block):
        pca.partial_fit(dataset[y : y + block].astype("float32").reshape(-1, energy))
    return pca.explained_variance_ratio_


def hyperspy(dataset, components):
    import hyperspy.api as hs

    signal = hs.signals.Signal1D(dataset[...].astype("float32"))
    signal.decomposition(normalize_poissonian_noise=True, output_dimension=components, print_info=False)
    return signal.learning_results.explained_variance_ratio[:components]


# With the module that is imported before the clock starts.
MODES = {
    "eigh": (eigh, "sklearn.decomposition"),
    "randomized": (randomized, "sklearn.decomposition"),
    "incremental": (incremental, "sklearn.decomposition"),
    "hyperspy": (hyperspy, "hyperspy.api"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("dataset")
    parser.add_argument("--mode", choices=MODES, default="eigh")
    parser.add_argument("-k", type=int, default=10, help="components")
    given = parser.parse_args()
    decompose, module = MODES[given.mode]
    importlib.import_module(module)
    begun = time.perf_counter()
    with h5py.File(given.file) as file:
        dataset = file[given.dataset]
        shape = dataset.shape
        ratios = decompose(dataset, given.k)
    found = {
        "what": "pca",
        "mode": given.mode,
        "shape": shape,
        "k": given.k,
        "seconds": time.perf_counter() - begun,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "evr": [float(ratio) for ratio in ratios[:5]],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
