"""Writes small HDF5 files as facilities, plugins and other programs write them.

Usage: hdf5_files.py FOLDER   (prints the names of the files, one a line)

The cube in each is `cube[y, x, e] = 100 y + 10 x + e`, 3 x 4 x 6 pixels and channels, float32; where it is calibrated, channels
are 0.5 eV wide from 450 eV, and pixels 2 nm from 10 nm (x) and 20 nm (y).
"""

import json
import pathlib
import sys

import h5py
import numpy as np

folder = pathlib.Path(sys.argv[1])
shape = (3, 4, 6)
cube = np.fromfunction(lambda y, x, e: 100 * y + 10 * x + e, shape).astype("f4")
axes = {"y": (20 + 2 * np.arange(3), "nm"), "x": (10 + 2 * np.arange(4), "nm"), "energy": (450 + 0.5 * np.arange(6), "eV")}


def new(name, **options):
    print(name)
    return h5py.File(folder / name, "w", **options)


# A detector's writer: a virtual dataset over two files, and one over files that are gone.
for half in range(2):
    with h5py.File(folder / f"half{half}.h5", "w") as file:
        file["entry/data"] = cube[:, 2 * half : 2 * half + 2]
for name, parts in [("virtual.h5", "half{}.h5"), ("virtual_gone.h5", "gone{}.h5")]:
    layout = h5py.VirtualLayout(shape, "f4")
    for half in range(2):
        layout[:, 2 * half : 2 * half + 2] = h5py.VirtualSource(parts.format(half), "entry/data", (3, 2, 6))
    with new(name) as file:
        file.create_virtual_dataset("entry/data", layout)

# Filters: h5py's own, and those of hdf5plugin.
with new("lzf.h5") as file:
    file.create_dataset("data", data=cube, chunks=(1, 4, 6), compression="lzf", shuffle=True)
try:
    import hdf5plugin

    filters = {
        "blosc": hdf5plugin.Blosc(),
        "blosc_zstd": hdf5plugin.Blosc(cname="zstd"),
        "blosc2": hdf5plugin.Blosc2(),
        "zstd": hdf5plugin.Zstd(),
        "lz4": hdf5plugin.LZ4(),
        "bitshuffle": hdf5plugin.Bitshuffle(),
    }
    for name, options in filters.items():
        with new(f"filter_{name}.h5") as file:
            file.create_dataset("data", data=cube, chunks=(1, 4, 6), **options)
    print("plugins", hdf5plugin.PLUGINS_PATH)
except ImportError:
    pass

# Dimension scales, as h5py, netCDF4 and sidpy attach them.
with new("scales.h5") as file:
    data = file.create_dataset("measurement/channel/data", data=cube)
    for dim, (name, (values, units)) in enumerate(axes.items()):
        scale = file.create_dataset(f"measurement/channel/{name}", data=values)
        scale.attrs["units"] = units
        scale.make_scale(name)
        data.dims[dim].attach_scale(scale)
        data.dims[dim].label = name
# The energy is first, and x has no coordinates.
with new("netcdf.nc.h5") as file:
    data = file.create_dataset("counts", data=np.moveaxis(cube, 2, 0).copy())
    for dim, name in enumerate(["eloss", "y", "x"]):
        values, units = axes["energy" if name == "eloss" else name]
        scale = file.create_dataset(name, data=values if name != "x" else np.zeros(4, "f4"))
        if name == "x":
            scale.make_scale("This is a netCDF dimension but not a netCDF variable.         4")
        else:
            scale.attrs["units"] = units
            scale.make_scale(name)
        data.dims[dim].attach_scale(scale)

# NeXus: the edges of channels and pixels; indices that contradict the sizes.
for name, edges, indices in [("edges.nxs", True, (0, 1, 2)), ("reversed.nxs", False, (2, 1, 0))]:
    with new(name) as file:
        group = file.create_group("entry/data")
        group.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": list(axes)})
        group["counts"] = cube
        for (key, (values, units)), index in zip(axes.items(), indices):
            step = values[1] - values[0]
            values = np.append(values - step / 2, values[-1] + step / 2) if edges else values
            group[key] = values.astype("f8")
            group[key].attrs["units"] = units
            group.attrs[f"{key}_indices"] = index

# Nion Swift, older and newer.
found = [{"offset": float(v[0]), "scale": float(v[1] - v[0]), "units": units} for v, units in axes.values()]
for name, properties in [
    ("swift.h5", {"version": 13, "dimensional_calibrations": found, "title": "SI"}),
    ("swift_old.h5", {"data_sources": [{"intensity_calibration": {"scale": 1.0}, "spatial_calibrations": found}]}),
]:
    with new(name) as file:
        file["data"] = cube
        file["data"].attrs["properties"] = json.dumps(properties)


def hspy(name, units=("nm", "nm", "eV"), names=("y", "x", "Energy loss"), signal_type="EELS", title="cube", **axis):
    with new(name) as file:
        file.attrs["file_format_version"] = "3.3"
        group = file.create_group("Experiments/cube")
        group["data"] = axis.pop("data", cube)
        for dim, (values, _) in enumerate(axes.values()):
            made = group.create_group(f"axis-{dim}")
            made.attrs.update({"name": names[dim], "units": units[dim], "navigate": dim < 2, "size": shape[dim]})
            made.attrs.update({"scale": values[1] - values[0], "offset": float(values[0]), "_type": "UniformDataAxis"})
            made.attrs.update(axis)
        group.create_group("metadata/Signal").attrs["signal_type"] = signal_type
        group.create_group("metadata/General").attrs["title"] = title
        group.create_group("original_metadata").attrs["Stage"] = np.bytes_("5 \xb5m".encode("latin-1"))


hspy("uncalibrated.hspy", ("", "", ""), ("", "", ""), "", scale=1.0, offset=0.0)
hspy("text_scale.hspy", scale="0.25", offset="400")

# Links that lead nowhere, and what only a newer HDF5 reads (h5py 3.16 brings HDF5 2.0).
with new("soft.h5") as file:
    file["entry/data"] = h5py.SoftLink("/nowhere/data")
with new("external.h5") as file:
    file["entry/data"] = h5py.ExternalLink("gone.h5", "/data")
with new("newer.h5", libver="latest") as file:
    file.create_dataset("entry/data", data=cube, chunks=(1, 4, 6), compression="gzip")
with new("newer.hspy", libver="latest") as file:
    file.create_dataset("Experiments/cube/data", data=cube, chunks=(1, 4, 6), compression="gzip")

latin = np.bytes_("\xb5m".encode("latin-1"))
hspy("latin1.hspy", (latin, latin, "eV"), title=np.bytes_("Versuch f\xfcr Caf\xe9".encode("latin-1")))
