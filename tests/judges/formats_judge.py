"""Makes files of further formats, and prints what the reference readers say of them.

Usage: formats_judge.py velox ZIP DIR      unpacks Velox's file as DIR/all.emd; DIR/eds.emd, fft.emd and pictures.emd are the same
                                           without EELS; says what RosettaSciIO says of its EELS
       formats_judge.py dm5 FILE...        what h5py says of Gatan's HDF5 files
       formats_judge.py zspy SOURCE DIR    the first signal of SOURCE as DIR/*.zspy with several compressors and types; prints their
                                           paths, nothing where zarr is not installed
       formats_judge.py packed SOURCE DIR  the cube in SOURCE, a Gatan file, as DIR/n.ndata, n.h5, p.prz and s.tif, for
                                           scripts/convert.py
       formats_judge.py hyperspy FILE...   what HyperSpy says of its own files
       formats_judge.py zarr ANY           yes, if zarr is installed

One line of JSON for each file, as rosettasciio_judge.py prints it.
"""

import hashlib
import importlib.machinery
import importlib.util
import json
import pathlib
import shutil
import sys
import types
import warnings
import zipfile

import h5py
import numpy as np
import rosettasciio_judge

warnings.filterwarnings("ignore")


def without(source, target, *groups):
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        for group in groups:
            del file["Data"][group]
    return target


def velox(packed, folder):
    import rsciio.emd

    with zipfile.ZipFile(packed) as archive:
        (member,) = archive.namelist()
        (folder / "all.emd").write_bytes(archive.read(member))
    source = folder / "all.emd"
    # Only for the X-ray spectra, which are left out, RosettaSciIO needs another package.
    sys.modules["sparse"] = types.ModuleType("sparse")
    sys.modules["sparse"].__spec__ = importlib.machinery.ModuleSpec("sparse", None)
    found = rsciio.emd.file_reader(str(without(source, folder / "eels.emd", "SpectrumStream")))
    eels = [image for image in found if image["metadata"].get("Signal", {}).get("signal_type") == "EELS"]
    for image in eels:
        # The indices contradict the shape of the data; the order of the list does not.
        image["axes"] = [{**axis, "index_in_array": i} for i, axis in enumerate(image["axes"])]
    print(json.dumps([rosettasciio_judge.describe_image(image) for image in eels]))
    without(source, folder / "eds.emd", "EelsSpectrumImage")
    others = ("EelsSpectrumImage", "SpectrumImage", "SpectrumStream", "Spectrum")
    without(source, folder / "pictures.emd", *others)
    with h5py.File(without(source, folder / "fft.emd", *others), "r+") as file:
        # As Velox stores them.
        halves = np.dtype([("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")])
        file.create_dataset("Data/Image/fft/Data", (8, 5, 1), halves)


def dm5(path):
    """Gatan's rule: axes and data are stored the slowest first, the energy first in a cube."""
    with h5py.File(path) as file:
        image = file["ImageList/[0]/ImageData"]
        data = image["Data"][()]
        axes = []
        for i in reversed(range(data.ndim)):
            about = image[f"Calibrations/Dimension/[{i}]"].attrs
            scale, origin = float(about["Scale"]), float(about["Origin"])
            axes.append(
                {
                    "size": data.shape[data.ndim - 1 - i],
                    "scale": scale,
                    "offset": -origin * scale,
                    "units": about["Units"].decode(),
                }
            )
        tags = file["ImageList/[0]/ImageTags"]
        kind = tags["Meta Data"].attrs.get("Signal", b"").decode() if "Meta Data" in tags else ""
    # The energy last.
    values = np.ascontiguousarray(np.moveaxis(data, 0, -1), dtype="<f4")
    described = {
        "title": "",
        "signal_type": kind,
        "dtype": str(data.dtype),
        "axes": axes[1:] + axes[:1],
        "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
    }
    print(json.dumps([described]))


def zspy(source, folder):
    try:
        import numcodecs
        import zarr  # noqa: F401  (HyperSpy's writer needs it)
    except ImportError:
        return
    import hyperspy.api as hs

    loaded = hs.load(str(source))
    signal = loaded[0] if isinstance(loaded, list) else loaded
    compressors = {
        "blosc": numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.SHUFFLE),
        "bits": numcodecs.Blosc(cname="lz4", shuffle=numcodecs.Blosc.BITSHUFFLE),
        "zstd": numcodecs.Zstd(),
        "gzip": numcodecs.GZip(),
        "zlib": numcodecs.Zlib(),
        "none": None,
    }
    for name, compressor in compressors.items():
        target = folder / f"{name}.zspy"
        signal.save(str(target), compressor=compressor, chunks=(7, 3, 500), overwrite=True)
        print(target)
    integers = signal.deepcopy()
    integers.change_dtype("uint16")
    integers.save(str(folder / "uint16.zspy"), overwrite=True)
    print(folder / "uint16.zspy")


def packed(source, folder):
    """Nion's as its Swift lays them out: version 13 with nested descriptions, version 15 without."""
    import tifffile

    (image,) = rosettasciio_judge.read(source)
    values = np.ascontiguousarray(np.moveaxis(image["data"], 0, -1))
    axes = image["axes"][1:] + image["axes"][:1]
    # Panta Rhei counts axes from the fastest one, offsets in channels, and stores the energies of EELS downwards.
    last = axes[2]["offset"] + (len(values[0, 0]) - 1) * axes[2]["scale"]
    energy = {"unit": "eV", "value": float(axes[2]["scale"]), "offset": -float(last / axes[2]["scale"])}
    about = {
        "type": "3D",
        "filter.mode": "EELS",
        "content.types": ["Energy", "ScanX", "ScanY"],
        "device.calib": [energy, {"unit": "nm", "value": 0.5, "offset": 0.0}, {"unit": "nm", "value": 0.25, "offset": 0.0}],
    }
    with open(folder / "p.prz", "wb") as file:
        np.savez(file, data=values[:, :, ::-1], meta_data_json=json.dumps([about]), file_format_version=2)
    calibrations = [{key: axis[key] for key in ("offset", "scale", "units")} for axis in axes]
    described = {
        "dimensional_calibrations": calibrations,
        "collection_dimension_count": 2,
        "datum_dimension_count": 1,
        "metadata": {"instrument": {"high_tension": 200000.0}, "hardware_source": {"exposure": 0.25}},
    }
    np.save(folder / "data.npy", values)
    with zipfile.ZipFile(folder / "n.ndata", "w") as archive:
        archive.write(folder / "data.npy", "data.npy")
        archive.writestr("metadata.json", json.dumps({"version": 13, "title": "SI", "data_sources": [described]}))
    with h5py.File(folder / "n.h5", "w") as file:
        file["data"] = values
        file["data"].attrs["properties"] = json.dumps({"version": 15, "title": "SI", **described})
    tifffile.imwrite(folder / "s.tif", image["data"], imagej=True, metadata={"axes": "ZYX"})


def hyperspy(path):
    import hyperspy.api as hs

    for lazy in (False, True):
        loaded = hs.load(str(path), lazy=lazy)
        signals = loaded if isinstance(loaded, list) else [loaded]
        if lazy:
            for signal in signals:
                signal.compute(show_progressbar=False)
        images = [signal._to_dictionary(add_learning_results=False) for signal in signals]
        for image in images:
            image["axes"] = [{**axis, "index_in_array": i} for i, axis in enumerate(image["axes"])]
        described = [rosettasciio_judge.describe_image(image) for image in images]
        if lazy:
            assert described == eager, path
        eager = described
    print(json.dumps(eager))


def has_zarr(_path):
    print("yes" if importlib.util.find_spec("zarr") else "no")


if __name__ == "__main__":
    command, *names = sys.argv[1:]
    paths = [pathlib.Path(name) for name in names]
    if command in ("velox", "zspy", "packed"):
        {"velox": velox, "zspy": zspy, "packed": packed}[command](*paths)
    else:
        for path in paths:
            {"dm5": dm5, "hyperspy": hyperspy, "zarr": has_zarr}[command](path)
