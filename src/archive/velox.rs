//! Velox files, Thermo Fisher's dialect of EMD: recognised and refused, as their spectra are packed in a way of their own.

use hdf5::File;

use super::attribute::strings;

/// Why a Velox file is no cube.
pub(super) const REFUSAL: &str = "a Velox file, whose spectra are packed in a way that is not read; save its EELS \
                                  spectrum image as .dm4 or .hspy, or name a plain dataset by archive.dataset";

/// Whether `file` was written by Velox, which says so in a dataset of the root. What is three-dimensional in it are stacks
/// of pictures.
pub(super) fn is_velox(file: &File) -> bool {
    let version = file.dataset("Version").ok().and_then(|version| strings(&version));
    version.unwrap_or_default().iter().any(|text| text.contains("Velox"))
}
