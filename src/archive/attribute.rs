//! Attributes as other programs write them: any width of number, any kind of string.

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Container, Location};

/// Longest fixed-length string that is read whole; axis names and units are far shorter.
const FIXED: usize = 1024;

/// The strings of attribute `name`; empty where it is absent or no text.
pub(crate) fn texts(location: &Location, name: &str) -> Vec<String> {
    location.attr(name).ok().and_then(|attribute| strings(&attribute)).unwrap_or_default()
}

/// The text of attribute `name`; none where it is absent, empty, no text, or HyperSpy's `_None_`.
pub(crate) fn text(location: &Location, name: &str) -> Option<String> {
    let text = texts(location, name).into_iter().next()?.trim().to_string();
    (!text.is_empty() && text != "_None_" && text != "<undefined>").then_some(text)
}

/// The strings in an attribute or a dataset; none where it holds no text.
pub(crate) fn strings(container: &Container) -> Option<Vec<String>> {
    fn owned<T: ToString>(values: Vec<T>) -> Vec<String> {
        values.iter().map(T::to_string).collect()
    }
    // HDF5 does not convert between character sets nor between fixed and variable lengths.
    let read = match container.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::VarLenUnicode => container.read_raw::<VarLenUnicode>().map(owned),
        TypeDescriptor::VarLenAscii => container.read_raw::<VarLenAscii>().map(owned),
        TypeDescriptor::FixedUnicode(_) => container.read_raw::<FixedUnicode<FIXED>>().map(owned),
        TypeDescriptor::FixedAscii(_) => container.read_raw::<FixedAscii<FIXED>>().map(owned),
        _ => return None,
    };
    read.ok()
}

/// The number in attribute `name`; none where it is absent or no number.
pub(crate) fn number(location: &Location, name: &str) -> Option<f64> {
    let attribute = location.attr(name).ok()?;
    match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Float(_) => {
            attribute.read_raw::<f64>().ok()?.first().copied()
        }
        _ => None,
    }
}

/// The truth of attribute `name`: h5py's bool (an 8-bit enum), any other enum, or a number.
pub(crate) fn flag(location: &Location, name: &str) -> Option<bool> {
    let attribute = location.attr(name).ok()?;
    match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Boolean => attribute.read_raw::<bool>().ok()?.first().copied(),
        TypeDescriptor::Enum(_) => attribute.read_raw::<i64>().ok()?.first().map(|&value| value != 0),
        _ => number(location, name).map(|value| value != 0.0),
    }
}
