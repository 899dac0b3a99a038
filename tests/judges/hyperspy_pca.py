"""Compares a decomposition by coreloss with HyperSpy's own of the same cube, and fails where they differ by 1e-6.

Usage: hyperspy_pca.py CUBE.hspy RESULT.coreloss.hspy   (needs hyperspy, exspy, h5py)

Factors and loadings are compared by magnitude, as the sign of a component is arbitrary.
"""

import sys
import warnings

warnings.filterwarnings("ignore")

import h5py
import hyperspy.api as hs
import numpy as np

hs.preferences.General.show_progressbar = False

TOLERANCE = 1e-6


def difference(ours, theirs):
    """The largest, of each column's largest value."""
    ours, theirs = np.abs(np.asarray(ours)), np.abs(np.asarray(theirs))
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((np.abs(ours - theirs) / theirs.max(axis=0)).max())


def main(cube, result):
    with h5py.File(result, "r") as file:
        learning = file["Experiments/50_pca/learning_results"]
        ours = {name: learning[name][...] for name in ("factors", "loadings")}
        variance = learning["explained_variance"][...]
        ratio = learning["explained_variance_ratio"][...]
        # HyperSpy 3 has no learning_results: the same as plain signals.
        components = file["Experiments/51_pca_components/data"][...]
        np.testing.assert_array_equal(components, ours["factors"].T)
        maps = file["Experiments/52_pca_loadings/data"][...]
        np.testing.assert_array_equal(maps.reshape(len(components), -1), ours["loadings"].T)
        poisson = bool(learning.attrs["poissonian_noise_normalized"])
    signals = {signal.metadata.General.title: signal for signal in hs.load(result)}
    spectra, maps = signals["51_pca_components"], signals["52_pca_loadings"]
    assert spectra.metadata.Signal.signal_type == "EELS", spectra
    assert (spectra.axes_manager.signal_dimension, maps.axes_manager.signal_dimension) == (1, 2)
    assert spectra.axes_manager.signal_axes[0].units == "eV"
    components = ours["factors"].shape[1]
    signal = hs.load(cube)
    signal.change_dtype("float64")
    signal.decomposition(
        normalize_poissonian_noise=poisson,
        algorithm="SVD",
        # All components: with fewer, HyperSpy's ratios are relative to those only.
        print_info=False,
    )
    theirs = signal.learning_results
    found = {
        "explained_variance": difference(variance[:components], theirs.explained_variance[:components]),
        "explained_variance_ratio": difference(
            ratio[:components], theirs.explained_variance_ratio[:components]
        ),
        "factors": difference(ours["factors"], theirs.factors[:, :components]),
        "loadings": difference(ours["loadings"], theirs.loadings[:, :components]),
    }
    print(f"poisson={poisson} components={components} {found}")
    bad = {name: value for name, value in found.items() if not value < TOLERANCE}
    assert not bad, f"{result}: differs from HyperSpy in {bad}"


if __name__ == "__main__":
    main(*sys.argv[1:])
