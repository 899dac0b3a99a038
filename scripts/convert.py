#!/usr/bin/env python3
"""Converts EELS spectrum images from any format that RosettaSciIO reads to .hspy files, which coreloss reads.

    scripts/convert.py [-o DIR] [--image N] FILE...

Data are read lazily and written chunk by chunk, so that a cube may be larger than the memory if its format can be read in
parts. Axes, units and metadata are kept. From a file with several images the EELS images are written, or image N (all
images are counted, from 0); if it has no EELS image, those with an axis in eV or keV. Existing files are left alone
unless --force is given. Exits with 1, after all files were tried, if one could not be converted.

Needs a Python with HyperSpy, such as the one that scripts/setup.sh --test makes: .venv-test/bin/python. DM3, DM4,
plain HDF5, NeXus and NCEM's EMD need no conversion: see coreloss inspect.
"""

import argparse
import collections
import pathlib
import sys
import warnings

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
        raise ValueError(f"no image with EELS or an axis in eV; choose one by --image: {listed}")
    return chosen


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


def load(path):
    import hyperspy.api as hs

    try:
        return hs.load(str(path), lazy=True)
    except NotImplementedError:  # a format that cannot be read lazily, such as .msa
        return hs.load(str(path))


def stems(paths):
    """Names of the converted files: without extension, unless two files would get the same name."""
    found = collections.Counter((path.parent, path.stem) for path in paths)
    anywhere = collections.Counter(path.stem for path in paths)
    return [
        path.name if found[path.parent, path.stem] > 1 or anywhere[path.stem] > 1 else path.stem
        for path in paths
    ]


def convert(path, stem, folder, image, force):
    loaded = load(path)
    signals = choose(loaded if isinstance(loaded, list) else [loaded], image)
    for number, signal in enumerate(signals):
        suffix = f"-{number}" if len(signals) > 1 else ""
        target = folder / f"{stem}{suffix}.hspy"
        if target.exists() and not force:
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
            convert(path, stem, folder, arguments.image, arguments.force)
        except Exception as error:  # one bad file does not end the rest
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
