#!/usr/bin/env python3
"""Converts EELS spectrum images from any format that RosettaSciIO reads, and Nion Swift's, to .hspy files, which coreloss reads.

    scripts/convert.py [-o DIR] [--image N] [--energy OFFSET SCALE] [--trust] FILE...

Data are read lazily and written chunk by chunk, so that a cube may be larger than the memory if its format can be read in
parts. Axes, units and metadata are kept. From a file with several images the EELS images are written, or image N (all
images are counted, from 0); if it has no EELS image, those with an axis in eV or keV. Existing files are left alone
unless --force is given. Exits with 1, after all files were tried, if one could not be converted.

TIFF stacks seldom tell their energies: --energy gives the first one and the width of a channel, eV, of the axis that runs
through the stack. Panta Rhei's .prz of before March 2024 keep theirs as a Python pickle, which a file of bad intent could
abuse: those are read with --trust only.

Needs a Python with HyperSpy, such as the one that scripts/setup.sh --test makes: .venv-test/bin/python. DM3, DM4, DM5,
plain HDF5, NeXus, EMD, Velox's EELS and .zspy need no conversion: see coreloss inspect.
"""

import argparse
import collections
import json
import pathlib
import sys
import warnings
import zipfile

CHUNK_BYTES = 4 << 20


def is_energy(axis):
    return str(axis.units) in ("eV", "keV", "meV")


def kind(signal):
    return signal.metadata.get_item("Signal.signal_type") or ""


def choose(signals, image):
    """The signals to write: image N, or those of EELS, or those of unknown kind with an energy axis."""
    if image is not None:
        if image >= len(signals):
            raise ValueError(f"no image {image}: it has {len(signals)}, counted from 0")
        return [signals[image]]
    eels = [s for s in signals if kind(s) == "EELS"]
    # X-ray spectra have an energy axis as well.
    unknown = [s for s in signals if kind(s) == ""]
    energies = [s for s in unknown if any(is_energy(axis) for axis in s.axes_manager._axes)]
    chosen = eels or energies
    if not chosen:
        listed = ", ".join(f"{i}: {s!r}" for i, s in enumerate(signals))
        raise ValueError(
            f"no image with EELS or an axis in eV; choose one by --image, and tell its energies by --energy: {listed}"
        )
    return chosen


def calibrate(signal, offset, scale):
    """Makes the axis that runs through a stack of images, else the last axis, the energy."""
    axes = signal.axes_manager
    energy = axes.navigation_axes[0] if len(axes.navigation_axes) == 1 and len(axes._axes) == 3 else axes._axes[-1]
    energy.name, energy.units, energy.offset, energy.scale = "Energy loss", "eV", offset, scale


def as_spectra(signal):
    """The signal with its energy as the only signal axis, the last one of its array."""
    energies = [axis for axis in signal.axes_manager._axes if is_energy(axis)]
    if len(energies) == 1 and tuple(signal.axes_manager.signal_axes) != (energies[0],):
        signal = signal.as_signal1D(energies[0])
    if kind(signal) == "":
        signal.set_signal_type("EELS")
    return signal


def chunks(signal):
    """Chunks of whole spectra, a few scan lines each: coreloss reads those at once."""
    shape = signal.data.shape
    line = signal.data.dtype.itemsize * int(shape[-1]) * int(shape[-2] if len(shape) > 1 else 1)
    if len(shape) < 3:
        return shape
    return (max(1, min(shape[0], CHUNK_BYTES // line)),) + shape[1:]


def load(path, trust):
    import hyperspy.api as hs

    options = {}
    if path.suffix.lower() == ".prz":
        with zipfile.ZipFile(path) as archive:
            is_pickle = "meta_data_json.npy" not in archive.namelist()
        if is_pickle and not trust:
            raise ValueError("its calibration is a Python pickle; if the file is one of your own, --trust reads it")
        options["allow_restricted_pickle"] = is_pickle
    nion = load_nion(path)
    if nion is not None:
        return nion
    try:
        return hs.load(str(path), lazy=True, **options)
    except NotImplementedError:  # a format that cannot be read lazily, such as .msa
        return hs.load(str(path), **options)


def load_nion(path):
    """The signal in a file of Nion Swift: .ndata, a zip archive, or .h5 with all that is known as JSON; None for others."""
    import h5py
    import hyperspy.api as hs

    if path.suffix.lower() in (".ndata", ".ndata1"):
        data, about = read_ndata(path)
    elif path.suffix.lower() in (".h5", ".hdf5") and h5py.is_hdf5(path):
        data = h5py.File(path).get("data")
        if not isinstance(data, h5py.Dataset) or "properties" not in data.attrs:
            return None
        about = json.loads(data.attrs["properties"])
    else:
        return None
    # Older files keep what describes the values one level below.
    described = {**about, **(about.get("data_sources") or [{}])[0]}
    calibrations = described.get("dimensional_calibrations") or described.get("spatial_calibrations") or []
    if len(calibrations) != data.ndim:
        raise ValueError(f"it calibrates {len(calibrations)} dimensions of {data.ndim}")
    spectra = described.get("datum_dimension_count", 1)
    names = iter(["y", "x"][-(data.ndim - spectra) :] if data.ndim > spectra else [])
    axes = []
    for i, (size, calibration) in enumerate(zip(data.shape, calibrations)):
        axis = {key: calibration.get(key) or default for key, default in [("offset", 0.0), ("scale", 1.0), ("units", "")]}
        navigate = i < data.ndim - spectra
        name = "Energy loss" if axis["units"] in ("eV", "keV", "meV") else next(names, "") if navigate else ""
        axes.append({**axis, "name": name, "size": size, "navigate": navigate})
    import dask.array

    known = described.get("metadata") or {}
    instrument, source = known.get("instrument") or {}, known.get("hardware_source") or {}
    metadata = {"General": {"title": described.get("title") or path.stem}}
    microscope = {}
    if instrument.get("high_tension"):
        microscope["beam_energy"] = instrument["high_tension"] / 1000
    if source.get("exposure"):
        microscope["Detector"] = {"EELS": {"exposure": source["exposure"]}}
    if microscope:
        metadata["Acquisition_instrument"] = {"TEM": microscope}
    lazy = dask.array.from_array(data, chunks="auto")
    kind = hs.signals.Signal1D if spectra == 1 else hs.signals.BaseSignal
    signal = kind(lazy, axes=axes, metadata=metadata, original_metadata=about).as_lazy()
    if any(is_energy(axis) for axis in signal.axes_manager._axes):
        signal.set_signal_type("EELS")
    return signal


def read_ndata(path):
    """Values and description in an .ndata; the values stay in the file where they are not compressed, as Swift leaves them."""
    import numpy as np

    with zipfile.ZipFile(path) as archive:
        about = json.loads(archive.read("metadata.json"))
        member = archive.getinfo("data.npy")
        with archive.open(member) as file:
            if member.compress_type != zipfile.ZIP_STORED:
                return np.load(file), about
            version = np.lib.format.read_magic(file)
            read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            shape, fortran, dtype = read_header(file)
            header = file.tell()
    with open(path, "rb") as file:
        file.seek(member.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
    # The member's own header has 30 bytes, its name and more.
    offset = member.header_offset + 30 + int(lengths.sum()) + header
    order = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset, shape, order), about


def stems(paths):
    """Names of the converted files: without extension, unless two files would get the same name."""
    found = collections.Counter((path.parent, path.stem) for path in paths)
    anywhere = collections.Counter(path.stem for path in paths)
    return [
        path.name if found[path.parent, path.stem] > 1 or anywhere[path.stem] > 1 else path.stem
        for path in paths
    ]


def convert(path, stem, folder, arguments):
    loaded = load(path, arguments.trust)
    signals = loaded if isinstance(loaded, list) else [loaded]
    if arguments.energy is not None:
        for signal in signals[arguments.image or 0 :][:1]:
            calibrate(signal, *arguments.energy)
    signals = choose(signals, arguments.image)
    for number, signal in enumerate(signals):
        suffix = f"-{number}" if len(signals) > 1 else ""
        target = folder / f"{stem}{suffix}.hspy"
        if target.exists() and not arguments.force:
            print(f"{target}: exists already; --force overwrites it", file=sys.stderr)
            continue
        signal = as_spectra(signal)
        # A stopped run leaves no file that looks complete: only whole files get the final name.
        partial = target.with_name(f".{target.stem}.partial.hspy")
        signal.save(str(partial), overwrite=True, chunks=chunks(signal), show_progressbar=False)
        partial.replace(target)
        print(f"{target}: {signal}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="folder; beside each file by default")
    parser.add_argument("--image", type=int, help="which image of a file, counted from 0")
    parser.add_argument(
        "--energy", type=float, nargs=2, metavar=("OFFSET", "SCALE"), help="first energy and width of a channel, eV"
    )
    parser.add_argument("--trust", action="store_true", help="read the Python pickle in old .prz files")
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    arguments = parser.parse_args()
    try:
        import exspy  # noqa: F401  (the EELS signals)
        import hyperspy.api as hs
    except ImportError as error:
        sys.exit(f"convert: {error}; run it with a Python that has HyperSpy and exSpy (scripts/setup.sh --test)")
    warnings.filterwarnings("ignore")
    hs.set_log_level("CRITICAL")
    failed = False
    for path, stem in zip(arguments.files, stems(arguments.files)):
        folder = arguments.output or path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            convert(path, stem, folder, arguments)
        except Exception as error:  # one bad file does not end the rest
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
