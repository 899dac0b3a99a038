"""Checks that imported copies hold the spectra, axes and metadata that RosettaSciIO reads from their sources.

Usage: import_judge.py SOURCE COPY [SOURCE COPY...]
"""

import pathlib
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")

import exspy  # noqa: E402
import hyperspy.api as hs  # noqa: E402

hs.set_log_level("ERROR")

# Metadata that HyperSpy and eXSpy use, compared where the source has it.
KEPT = [
    "General.title",
    "General.authors",
    "General.date",
    "General.time",
    "Sample.description",
    "Signal.Noise_properties.Variance_linear_model.gain_factor",
    "Signal.Noise_properties.Variance_linear_model.gain_offset",
    "Acquisition_instrument.TEM.beam_energy",
    "Acquisition_instrument.TEM.convergence_angle",
    "Acquisition_instrument.TEM.camera_length",
    "Acquisition_instrument.TEM.microscope",
    "Acquisition_instrument.TEM.Detector.EELS.collection_angle",
    "Acquisition_instrument.TEM.Detector.EELS.aperture_size",
    "Acquisition_instrument.TEM.Detector.EELS.dwell_time",
    "Acquisition_instrument.TEM.Detector.EELS.frame_number",
    "Acquisition_instrument.TEM.Detector.EELS.spectrometer",
]


def eels(path):
    loaded = hs.load(path)
    loaded = loaded if isinstance(loaded, list) else [loaded]
    (found,) = [signal for signal in loaded if signal.metadata.Signal.signal_type == "EELS"]
    return found


def text(value):
    """HyperSpy has several words for nothing."""
    return "" if str(value) in ("<undefined>", "None") else str(value)


def judge(source, copy):
    expected = eels(source)
    for lazy in (False, True):
        found = hs.load(copy, lazy=lazy)
        assert isinstance(found, exspy.signals.EELSSpectrum), type(found)
        assert found._lazy == lazy
        values = found.data.compute() if lazy else found.data
        # The copy has axes of one pixel that the source lacks.
        assert values.dtype == expected.data.dtype, (values.dtype, expected.data.dtype)
        np.testing.assert_array_equal(values.reshape(expected.data.shape), expected.data)
        axes = found.axes_manager._axes[-len(expected.axes_manager._axes):]
        for axis, other in zip(axes, expected.axes_manager._axes):
            assert (axis.scale, axis.offset, axis.size) == (other.scale, other.offset, other.size), axis
            assert text(axis.units) == text(other.units), (axis, axis.units, other.units)
            assert axis.navigate == other.navigate, axis
        energy = found.axes_manager.signal_axes[0]
        assert (energy.name, energy.units) == ("Energy loss", "eV") and energy.is_binned, energy
        kept = 0
        for path in KEPT:
            wanted = expected.metadata.get_item(path)
            if wanted is not None:
                assert found.metadata.get_item(path) == wanted, (path, found.metadata.get_item(path), wanted)
                kept += 1
    if pathlib.Path(source).suffix in (".dm3", ".dm4"):
        tags = found.original_metadata.as_dictionary()
        assert "ImageList" in tags and "ApplicationBounds" in tags, list(tags)
    print(f"{copy}: {found}, {kept} fields of metadata")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    for source, copy in zip(arguments[::2], arguments[1::2]):
        try:
            judge(source, copy)
        except Exception as error:
            raise AssertionError(f"{source} and {copy}: {error!r}") from error
