//! A Zarr store's groups, attributes and small arrays as an HDF5 file in memory; its cubes are declared there, without values.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use hdf5::plist::dataset_create::AllocTime;
use hdf5::types::VarLenUnicode;
use hdf5::{File, Group, H5Type};
use ndarray::ArrayD;
use serde_json::{Map, Value};

use super::array::ZarrArray;
use super::node::{self, ArrayMetadata, Node};
use crate::archive::decoded_chunks::DecodedChunks;
use crate::archive::number_type::Number;
use crate::with_number_type;

/// Most groups and arrays; HyperSpy's copies of Gatan's tags have some thousand.
const MOST: usize = 1 << 14;
/// Most levels of groups.
const DEEPEST: usize = 32;
/// Most values of an array that is copied: the values of an axis.
const SMALL: usize = 1 << 16;
/// HyperSpy's name of a signal's values.
const CUBE: &str = "data";

/// The store in `folder` as an HDF5 file in memory. Rank-local.
///
/// # Errors
/// A description that cannot be read; (as [`Invalid`](crate::invalid::Invalid)) a cube of complex numbers.
pub(crate) fn mirror(folder: &Path) -> Result<File> {
    // HDF5 takes files in memory of one name for the same.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}#{}", folder.display(), COUNT.fetch_add(1, Ordering::Relaxed));
    let file = File::with_options().with_fapl(|fapl| fapl.core_filebacked(false)).create(&name)?;
    let (node, attributes) = node::read(folder)?.ok_or_else(|| anyhow!("{}: is no Zarr store", folder.display()))?;
    ensure!(matches!(node, Node::Group), "{}: is a Zarr array, not a group of signals", folder.display());
    let mut left = MOST;
    set_all(&file, &attributes);
    members(&file, folder, DEEPEST, &mut left)?;
    Ok(file)
}

/// Adds the nodes in `folder` to `group`.
fn members(group: &Group, folder: &Path, depth: usize, left: &mut usize) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    for name in names {
        if *left == 0 || depth == 0 {
            break;
        }
        *left -= 1;
        let below = folder.join(&name);
        match node::read(&below)? {
            Some((Node::Group, attributes)) => {
                let inner = group.create_group(&name)?;
                set_all(&inner, &attributes);
                members(&inner, &below, depth - 1, left)?;
            }
            Some((Node::Array(about), _)) if name == CUBE => {
                let about = about.with_context(|| below.display().to_string())?;
                declare(group, &name, &about)?;
            }
            // Lists of texts, and what else HyperSpy does not need to read a signal.
            Some((Node::Array(about), _)) => {
                if let Ok(about) = about
                    && (1..=SMALL).contains(&about.shape.iter().product::<usize>())
                    && !about.shape.is_empty()
                {
                    let values = values(ZarrArray::new(&below, about))?;
                    group.new_dataset_builder().with_data(&values).create(&name[..])?;
                }
            }
            None => (),
        }
    }
    Ok(())
}

/// A dataset of the same shape, type and chunks, which takes no memory.
fn declare(group: &Group, name: &str, about: &ArrayMetadata) -> Result<()> {
    let create = |builder: hdf5::DatasetBuilderEmptyShape| -> Result<()> {
        let chunk: Vec<usize> =
            about.shape.iter().zip(&about.chunk).map(|(&size, &chunk)| chunk.min(size).max(1)).collect();
        let builder = if chunk.is_empty() || about.shape.contains(&0) { builder } else { builder.chunk(chunk) };
        builder.alloc_time(Some(AllocTime::Late)).create(name)?;
        Ok(())
    };
    let shape = &about.shape[..];
    with_number_type!(
        about.number.dtype(),
        T => create(group.new_dataset::<T>().shape(shape)),
        else unreachable!("every number type has a Rust type")
    )
}

fn values(array: ZarrArray) -> Result<ArrayD<f64>> {
    let whole: Vec<_> = array.about().shape.iter().map(|&size| 0..size).collect();
    let dtype = array.about().number.dtype();
    let chunks = DecodedChunks::of_zarr(array, 0);
    with_number_type!(
        dtype,
        T => chunks.read_part(&whole, T::to_f64),
        else unreachable!("every number type has a Rust type")
    )
}

/// Sets `attributes` of `group`; those that HDF5 has no place for are left out.
fn set_all(group: &Group, attributes: &Map<String, Value>) {
    for (name, value) in attributes {
        if let Err(error) = set(group, name, value) {
            log::debug!("attribute {name} is left out: {error:#}");
        }
    }
}

fn set(group: &Group, name: &str, value: &Value) -> Result<()> {
    match value {
        Value::String(text) => scalar(group, name, &text.parse::<VarLenUnicode>()?),
        Value::Bool(flag) => scalar(group, name, flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => scalar(group, name, &whole),
            None => scalar(group, name, &number.as_f64().unwrap_or(f64::NAN)),
        },
        // What Python writes as NaN was made null.
        Value::Null => scalar(group, name, &f64::NAN),
        Value::Array(values) => {
            let numbers = values.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>();
            let numbers = numbers.filter(|numbers| !numbers.is_empty());
            if let Some(numbers) = numbers {
                group.new_attr_builder().with_data(&numbers).create(name)?;
            }
            Ok(())
        }
        Value::Object(_) => Ok(()),
    }
}

fn scalar<T: H5Type>(group: &Group, name: &str, value: &T) -> Result<()> {
    Ok(group.new_attr::<T>().create(name)?.write_scalar(value)?)
}
