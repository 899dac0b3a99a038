"""Compares exported files with what HyperSpy reads from the result.

Usage: export_judge.py RESULT.coreloss.hspy STEM   (the exported files are STEM.SIGNAL.EXTENSION)
"""

import csv
import json
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")

import h5py
import hyperspy.api as hs
import numpy as np
from rsciio.nexus import file_reader

result, stem = sys.argv[1:]
expected = {signal.metadata.General.title: signal for signal in hs.load(result)}
try:
    import zarr  # noqa: F401  (HyperSpy reads .zspy with it)
except ImportError:
    print("zarr is not installed: no .zspy is read", file=sys.stderr)
else:
    stored = {signal.metadata.General.title: signal for signal in hs.load(f"{stem}.results.zspy")}
    assert list(stored) == list(expected)
    for title, signal in expected.items():
        np.testing.assert_array_equal(stored[title].data, signal.data, title)
        assert stored[title].data.dtype == signal.data.dtype, title
        assert stored[title].axes_manager.as_dictionary() == signal.axes_manager.as_dictionary(), title
        metadata = [s.metadata.as_dictionary() for s in (stored[title], signal)]
        for about in metadata:
            about["General"].pop("FileIO", None)
        assert metadata[0] == metadata[1], metadata
    factors = [found["50_pca"].learning_results.factors for found in (stored, expected)]
    np.testing.assert_array_equal(*factors)
pca = expected.pop("50_pca")
components, loadings = expected.pop("51_pca_components"), expected.pop("52_pca_loadings")
with h5py.File(f"{stem}.results.nxs") as file:
    plain = {group.attrs["title"]: group["data"][...] for group in file["entry"].values() if "title" in group.attrs}
    np.testing.assert_array_equal(plain["51_pca_components"], components.data.astype("f4"))
    np.testing.assert_array_equal(plain["52_pca_loadings"], loadings.data.astype("f4"))
entries = {image["metadata"]["General"]["title"]: image for image in file_reader(f"{stem}.results.nxs")}
for title, signal in expected.items():
    values = np.load(f"{stem}.{title}.npy")
    np.testing.assert_array_equal(values, signal.data.astype("f4"), title)
    with h5py.File(f"{stem}.results.nxs") as file:
        group = next(group for group in file["entry"].values() if group.attrs["title"] == title)
        np.testing.assert_array_equal(group["data"][...], values, title)
        assert len(group.attrs["axes"]) == values.ndim, title
    image = entries["map_" + "".join(c if c.isalnum() else "_" for c in title)]
    assert sorted(axis["size"] for axis in image["axes"]) == sorted(values.shape), title
    table = pathlib.Path(f"{stem}.{title}.csv")
    if values.ndim == 2 and signal.metadata.Signal.signal_type == "":
        np.testing.assert_array_equal(np.loadtxt(table, delimiter=",", ndmin=2, dtype="f4"), values, title)
        assert pathlib.Path(f"{stem}.{title}.png").read_bytes()[1:4] == b"PNG"
    elif values.ndim < 3:
        columns = np.loadtxt(table, delimiter=",", skiprows=1, ndmin=2)
        np.testing.assert_allclose(columns[:, 0], signal.axes_manager.signal_axes[0].axis)
        np.testing.assert_array_equal(columns[:, 1:].T.astype("f4"), np.atleast_2d(values), title)
np.testing.assert_array_equal(np.load(f"{stem}.pca_factors.npy"), pca.learning_results.factors.astype("f4"))
with open(f"{stem}.regions.csv", newline="") as file:
    regions = list(csv.DictReader(file))
for region in regions:
    # One comma too many would make a cell without a name.
    assert None not in region and None not in region.values(), region
    assert region["window"] and region["differs"] in ("energy", "shape", "height"), region
print(json.dumps({"signals": len(expected), "regions": len(regions)}))
