"""Prints what RosettaSciIO reads from files, for comparison with the readers of coreloss.

Usage: rosettasciio_judge.py describe FILE...      one line of JSON for each file
       rosettasciio_judge.py write SOURCE DIR      the first signal of SOURCE as DIR/x.nxs, x.emd, x.h5 and r.rpl, a spectrum as r.msa

For each image: title, signal type, type of the values, axes with the energy last, and the SHA-256 of its values as
little-endian float32 in that order. The energy axis is the one in eV or keV, else the slowest of a cube, else the last.
"""

import hashlib
import importlib
import json
import pathlib
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")

READERS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".hspy": "hspy",
    ".nxs": "nexus",
    ".emd": "emd",
}


def read(path):
    return importlib.import_module(f"rsciio.{READERS[path.suffix]}").file_reader(str(path))


def units(axis):
    return axis.get("units") if isinstance(axis.get("units"), str) else ""


def describe_image(image):
    data = np.asarray(image["data"])
    # Readers that give no index list the axes in order.
    axes = sorted(image["axes"], key=lambda axis: axis.get("index_in_array", 0))
    energies = [i for i, axis in enumerate(axes) if units(axis) in ("eV", "keV")]
    energy = energies[0] if energies else 0 if data.ndim == 3 else data.ndim - 1
    order = [i for i in range(data.ndim) if i != energy] + [energy]
    described = {
        "title": image["metadata"]["General"].get("title", ""),
        "signal_type": image["metadata"].get("Signal", {}).get("signal_type", ""),
        "dtype": str(data.dtype),
        "axes": [
            {
                "size": int(axes[i]["size"]),
                "scale": float(axes[i]["scale"]),
                "offset": float(axes[i]["offset"]),
                "units": units(axes[i]),
            }
            for i in order
        ],
        "sha256": "",
    }
    if data.dtype.kind in "biuf":
        values = np.ascontiguousarray(data.transpose(order), dtype="<f4")
        described["sha256"] = hashlib.sha256(values.tobytes()).hexdigest()
    return described


def write(source, folder):
    import h5py

    # The writers fail on some metadata that the readers keep, above all on numpy's numbers.
    found = read(source)[0]
    metadata = {"General": {"title": "SI of cubes"}, "Signal": {"signal_type": "EELS"}}
    instrument = found["metadata"]["Acquisition_instrument"]
    metadata["Acquisition_instrument"] = json.loads(json.dumps(instrument, default=float))
    signal = {**found, "metadata": metadata, "original_metadata": {}}
    importlib.import_module("rsciio.nexus").file_writer(str(folder / "x.nxs"), signal)
    importlib.import_module("rsciio.emd").file_writer(str(folder / "x.emd"), signal)
    with h5py.File(folder / "x.h5", "w") as file:
        file["some/where/counts"] = signal["data"]
    # Formats for scripts/convert.py: a single spectrum as MSA, the whole cube as RPL.
    importlib.import_module("rsciio.ripple").file_writer(str(folder / "r.rpl"), signal)
    spectrum = {**signal, "data": signal["data"][3, 4], "axes": [{**signal["axes"][2], "index_in_array": 0}]}
    importlib.import_module("rsciio.msa").file_writer(str(folder / "r.msa"), spectrum)


if __name__ == "__main__":
    command, *names = sys.argv[1:]
    paths = [pathlib.Path(name) for name in names]
    if command == "describe":
        for path in paths:
            print(json.dumps([describe_image(image) for image in read(path)]))
    else:
        write(*paths)
