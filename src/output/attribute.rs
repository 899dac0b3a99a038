//! Groups and attributes written to HDF5. Rank-local.

use anyhow::{Context, Result, anyhow};
use hdf5::types::VarLenUnicode;
use hdf5::{Group, H5Type, Location};

/// The group `path` below `parent`, created where it is missing.
pub(super) fn group(parent: &Group, path: &str) -> Result<Group> {
    let mut current = parent.clone();
    for name in path.split('/') {
        current = if current.link_exists(name) { current.group(name) } else { current.create_group(name) }
            .with_context(|| format!("group {path}"))?;
    }
    Ok(current)
}

/// Sets attribute `name`, replacing an older one of any type.
pub(super) fn set<T: H5Type>(location: &Location, name: &str, value: &T) -> Result<()> {
    let write = || {
        remove(location, name)?;
        location.new_attr::<T>().create(name)?.write_scalar(value)
    };
    write().with_context(|| format!("attribute {name} cannot be written"))
}

/// As [`set`], to an array of `values`.
pub(super) fn set_array<T: H5Type>(location: &Location, name: &str, values: &[T]) -> Result<()> {
    let write = || {
        remove(location, name)?;
        location.new_attr_builder().with_data(values).create(name)
    };
    write().map(|_| ()).with_context(|| format!("attribute {name} cannot be written"))
}

/// As [`set`], to a text of UTF-8.
///
/// # Errors
/// Also a text with a NUL.
pub(super) fn set_text(location: &Location, name: &str, value: &str) -> Result<()> {
    set(location, name, &text(name, value)?)
}

/// As [`set_text`], to an array of texts.
///
/// # Errors
/// Also a text with a NUL.
pub(super) fn set_texts(location: &Location, name: &str, values: &[String]) -> Result<()> {
    let texts = values.iter().map(|value| text(name, value)).collect::<Result<Vec<_>>>()?;
    set_array(location, name, &texts)
}

fn text(name: &str, value: &str) -> Result<VarLenUnicode> {
    value.parse().map_err(|cause| anyhow!("attribute {name} cannot be text: {cause}"))
}

fn remove(location: &Location, name: &str) -> hdf5::Result<()> {
    if location.attr(name).is_ok() {
        location.delete_attr(name)?;
    }
    Ok(())
}
