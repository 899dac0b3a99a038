//! Attributes as other programs write them, whatever the width of their numbers and the kind of their strings.

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Container, Location};

/// Bytes of the longest fixed-length string that is read whole; axis names and units are far shorter.
const FIXED: usize = 1024;

/// The strings of attribute `name`; empty if it is absent or holds no text.
pub(crate) fn texts(location: &Location, name: &str) -> Vec<String> {
    location.attr(name).ok().and_then(|attribute| strings(&attribute)).unwrap_or_default()
}

/// The text of attribute `name`; none if it is absent, empty, no text or HyperSpy's `_None_`.
pub(crate) fn text(location: &Location, name: &str) -> Option<String> {
    let text = texts(location, name).into_iter().next()?.trim().to_string();
    (!text.is_empty() && text != "_None_" && text != "<undefined>").then_some(text)
}

/// The strings in an attribute or a dataset; none if it holds no text.
pub(crate) fn strings(container: &Container) -> Option<Vec<String>> {
    fn owned<T>(values: Vec<T>, bytes: impl Fn(&T) -> &[u8]) -> Vec<String> {
        values.iter().map(|value| decoded(bytes(value))).collect()
    }
    // HDF5 converts neither between character sets nor between fixed and variable lengths.
    let read = match container.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::VarLenUnicode => container.read_raw().map(|read| owned(read, VarLenUnicode::as_bytes)),
        TypeDescriptor::VarLenAscii => container.read_raw().map(|read| owned(read, VarLenAscii::as_bytes)),
        TypeDescriptor::FixedUnicode(_) => {
            container.read_raw().map(|read| owned(read, FixedUnicode::<FIXED>::as_bytes))
        }
        TypeDescriptor::FixedAscii(_) => container.read_raw().map(|read| owned(read, FixedAscii::<FIXED>::as_bytes)),
        _ => return None,
    };
    read.ok()
}

/// The text in `bytes`, whatever their type claims: older programs write Latin-1, as in the unit of a micrometre.
fn decoded(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// The numbers in an attribute or a dataset; none if it holds no plain numbers.
pub(crate) fn numbers(container: &Container) -> Option<Vec<f64>> {
    match container.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Float(_) => {
            container.read_raw().ok()
        }
        _ => None,
    }
}

/// The number in attribute `name`, which may be written as text; none if it is absent or no number.
pub(crate) fn number(location: &Location, name: &str) -> Option<f64> {
    let attribute = location.attr(name).ok()?;
    match numbers(&attribute) {
        Some(numbers) => numbers.first().copied(),
        None => strings(&attribute)?.first()?.trim().parse().ok(),
    }
}

/// The truth value of attribute `name`: h5py's bool (an 8-bit enum), any other enum, or a number.
pub(crate) fn flag(location: &Location, name: &str) -> Option<bool> {
    let attribute = location.attr(name).ok()?;
    match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Boolean => attribute.read_raw::<bool>().ok()?.first().copied(),
        TypeDescriptor::Enum(_) => attribute.read_raw::<i64>().ok()?.first().map(|&value| value != 0),
        _ => number(location, name).map(|value| value != 0.0),
    }
}
