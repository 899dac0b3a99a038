"""Opens .hspy files in HyperSpy, eager and lazy, and fails where it does not show what the file holds.

Usage: hyperspy_judge.py FILE...   (needs hyperspy, exspy, h5py; for plots matplotlib)

Axes are compared with the attributes that h5py reads from the file, values with the dataset. Signals with a
decomposition must give a scree plot, loadings and factors.
"""

import sys
import warnings

import matplotlib

matplotlib.use("Agg")
warnings.filterwarnings("ignore")

import h5py
import hyperspy.api as hs
import numpy as np

hs.preferences.General.show_progressbar = False


def text(value):
    """HyperSpy shows what is absent as <undefined>."""
    return None if value in (None, "_None_", "") or repr(value) == "<undefined>" else str(value)


def check_signal(signal, group, lazy):
    data = group["data"]
    assert signal._lazy == lazy, "lazy flag"
    assert signal.data.shape == data.shape, (signal.data.shape, data.shape)
    assert signal.data.dtype == data.dtype, (signal.data.dtype, data.dtype)
    # HyperSpy's array order is the order of the axis-i groups.
    shown = sorted(signal.axes_manager._axes, key=lambda axis: axis.index_in_array)
    assert len(shown) == data.ndim, (len(shown), data.ndim)
    for i, axis in enumerate(shown):
        stored = group[f"axis-{i}"].attrs
        assert axis.size == stored["size"] == data.shape[i], f"axis {i} size"
        assert axis.scale == stored["scale"], f"axis {i} scale"
        assert axis.offset == stored["offset"], f"axis {i} offset"
        assert bool(axis.navigate) == bool(stored["navigate"]), f"axis {i} navigate"
        assert text(axis.name) == text(stored["name"]), f"axis {i} name"
        assert text(axis.units) == text(stored["units"]), f"axis {i} units"
    is_eels = group["metadata/Signal"].attrs["signal_type"] == "EELS"
    assert ("EELSSpectrum" in type(signal).__name__) == is_eels, type(signal)
    values = signal.data.compute() if lazy else signal.data
    np.testing.assert_array_equal(values, data[...])


def check_decomposition(signal, group):
    learning = group["learning_results"]
    components = learning["factors"].shape[1]
    signal.plot_explained_variance_ratio()
    loadings = signal.get_decomposition_loadings()
    factors = signal.get_decomposition_factors()
    assert factors.data.shape == learning["factors"].shape[::-1], factors.data.shape
    assert loadings.data.shape == (components,) + data_shape(group)[:-1], loadings.data.shape
    np.testing.assert_array_equal(factors.data, learning["factors"][...].T)
    np.testing.assert_array_equal(loadings.data.reshape(components, -1), learning["loadings"][...].T)
    model = signal.get_decomposition_model()
    expected = learning["loadings"][...] @ learning["factors"][...].T
    np.testing.assert_allclose(model.data.reshape(expected.shape), expected, rtol=1e-6, atol=1e-9)


def data_shape(group):
    return group["data"].shape


def judge(path):
    with h5py.File(path, "r") as file:
        titles = sorted(name for name, group in file["Experiments"].items() if "data" in group)
        for lazy in (False, True):
            loaded = hs.load(path, lazy=lazy)
            loaded = loaded if isinstance(loaded, list) else [loaded]
            assert len(loaded) == len(titles), (len(loaded), titles)
            for title, signal in zip(titles, loaded):
                group = file["Experiments"][title]
                try:
                    check_signal(signal, group, lazy)
                    if "factors" in group["learning_results"]:
                        check_decomposition(signal, group)
                except Exception as error:
                    raise AssertionError(f"{path}: {title} (lazy={lazy}): {error!r}") from error
                if not lazy:
                    print(f"{path}: {signal}")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        judge(path)
    print(f"HyperSpy {hs.__version__}: {len(sys.argv) - 1} file(s) open as they should")
