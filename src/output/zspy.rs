//! Copies a `.hspy` file as a `.zspy`, HyperSpy's Zarr store (version 2): the same tree, one file for each chunk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hdf5::types::TypeDescriptor;
use hdf5::{Attribute, Dataset, Group, Hyperslab, SliceOrIndex};
use ndarray::{ArrayD, Slice};
use serde_json::{Map, Value, json};

use crate::archive::attribute::{flag, numbers, strings};
use crate::archive::{Number, compress_blosc, open_hdf5};
use crate::comm::Comm;
use crate::durable::Partial;
use crate::with_number_type;

/// Most levels of groups.
const DEEPEST: usize = 32;
/// Bytes of HDF5's cache of chunks, each of which is read once.
const CACHE: usize = 1 << 20;

/// Copies the file at `source` to the folder `target`, which is `target.partial` until it is whole and has passed `check`.
/// Chunks keep their shape and are compressed by Blosc, as HyperSpy does. Lists of texts in the metadata are left out.
///
/// # Collective
/// # Errors
/// A source that cannot be read; a folder that exists or cannot be written; those of `check`, in which all ranks take part.
pub fn write_zspy(comm: &Comm, source: &Path, target: &Path, check: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = Partial::of(target);
    let folder = partial.path();
    let written = comm.on_root(|| {
        if target.exists() {
            bail!("{}: is there already; remove it, or choose another folder by -o", target.display());
        }
        partial.discard();
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let file = open_hdf5(source, CACHE)?;
        describe(&file, folder, DEEPEST)?;
        // HyperSpy looks for it before it reads the rest.
        let mut attributes = attributes(&file);
        attributes.insert("file_format".into(), "ZSpy".into());
        save(&folder.join(".zattrs"), &Value::Object(attributes))
    });
    let written = written.and_then(|()| comm.agree(write_share(comm, source, folder)));
    let checked = written.and_then(|()| check(folder));
    let named = checked.and_then(|()| comm.on_root(|| partial.commit()));
    if named.is_err() && comm.is_root() {
        partial.discard();
    }
    named
}

/// Writes the description of `group`, and of all groups and arrays below it, into `folder`.
fn describe(group: &Group, folder: &Path, depth: usize) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    save(&folder.join(".zgroup"), &json!({"zarr_format": 2}))?;
    save(&folder.join(".zattrs"), &Value::Object(attributes(group)))?;
    if depth == 0 {
        return Ok(());
    }
    for name in group.member_names()? {
        let below = folder.join(&name);
        if let Ok(inner) = group.group(&name) {
            describe(&inner, &below, depth - 1)?;
        } else if let Ok(dataset) = group.dataset(&name)
            && let Some(dtype) = dtype_of(&dataset)
        {
            fs::create_dir_all(&below).with_context(|| below.display().to_string())?;
            save(&below.join(".zarray"), &array(&dataset, dtype))?;
        }
    }
    Ok(())
}

/// The type of the values of `dataset` as [`with_number_type`] wants it; none if they are no plain numbers.
fn dtype_of(dataset: &Dataset) -> Option<&'static str> {
    let stored = dataset.dtype().ok()?.to_descriptor().ok()?;
    match stored {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Float(_) => {
            with_number_type!(&stored.to_string()[..], T => Some(T::DTYPE), else None)
        }
        _ => None,
    }
    .filter(|_| !dataset.is_scalar() && dataset.size() > 0)
}

/// # Source
/// The Zarr storage specification, version 2.
fn array(dataset: &Dataset, dtype: &str) -> Value {
    let kind = match dtype.as_bytes()[0] {
        b'i' => 'i',
        b'u' => 'u',
        _ => 'f',
    };
    let size = with_number_type!(dtype, T => size_of::<T>(), else 0);
    let order = if size == 1 { '|' } else { '<' };
    json!({
        "zarr_format": 2,
        "shape": dataset.shape(),
        "chunks": chunk_of(dataset),
        "dtype": format!("{order}{kind}{size}"),
        "compressor": {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0},
        "fill_value": 0,
        "filters": null,
        "order": "C",
        "dimension_separator": "/",
    })
}

fn chunk_of(dataset: &Dataset) -> Vec<usize> {
    dataset.chunk().unwrap_or_else(|| dataset.shape())
}

/// Writes every n-th chunk of all arrays of `source` below `folder`, n being the number of ranks. Rank-local.
fn write_share(comm: &Comm, source: &Path, folder: &Path) -> Result<()> {
    let file = open_hdf5(source, CACHE)?;
    let mut number = comm.rank();
    let mut groups = vec![((*file).clone(), folder.to_path_buf(), DEEPEST)];
    while let Some((group, above, depth)) = groups.pop() {
        for name in group.member_names()? {
            let below = above.join(&name);
            if let Ok(inner) = group.group(&name) {
                if depth > 0 {
                    groups.push((inner, below, depth - 1));
                }
            } else if let Ok(dataset) = group.dataset(&name)
                && let Some(dtype) = dtype_of(&dataset)
            {
                let whole = with_number_type!(
                    dtype,
                    T => write_chunks::<T>(&dataset, &below, comm.size(), &mut number),
                    else Ok(())
                );
                whole.with_context(|| below.display().to_string())?;
            }
        }
    }
    // All chunks are on the disk before the store gets its name.
    fs::File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?)).context("the disk cannot be synced")
}

/// Writes those chunks of `dataset` whose turn it is: the next one when `number` is 0, then every `step`-th.
fn write_chunks<T: Number>(dataset: &Dataset, folder: &Path, step: usize, number: &mut usize) -> Result<()> {
    let (shape, chunk) = (dataset.shape(), chunk_of(dataset));
    let grid: Vec<usize> = shape.iter().zip(&chunk).map(|(&size, &chunk)| size.div_ceil(chunk)).collect();
    for place in ndarray::indices(grid) {
        if *number > 0 {
            *number -= 1;
            continue;
        }
        *number = step - 1;
        let place: Vec<usize> = (0..shape.len()).map(|dim| place[dim]).collect();
        let ranges = (0..shape.len()).map(|dim| {
            let start = place[dim] * chunk[dim];
            start..(start + chunk[dim]).min(shape[dim])
        });
        let ranges: Vec<_> = ranges.collect();
        let slices: Vec<SliceOrIndex> = ranges.iter().cloned().map(SliceOrIndex::from).collect();
        let read: ArrayD<T> = dataset.read_slice(Hyperslab::from(slices))?;
        // A chunk at the edge is as large as the others.
        let mut values = ArrayD::from_elem(&chunk[..], T::default());
        values.slice_each_axis_mut(|axis| Slice::from(..ranges[axis.axis.index()].len())).assign(&read);
        let mut bytes = Vec::with_capacity(values.len() * size_of::<T>());
        values.iter().for_each(|value| value.put_le(&mut bytes));
        // What is not there reads as zeros.
        if bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        let names: Vec<String> = place.iter().map(usize::to_string).collect();
        let path = folder.join(names.iter().collect::<PathBuf>());
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, compress_blosc(&bytes, size_of::<T>())?)
            .with_context(|| format!("{}: is the disk full?", path.display()))?;
    }
    Ok(())
}

/// The attributes of `group` that JSON can hold.
fn attributes(group: &Group) -> Map<String, Value> {
    let names = group.attr_names().unwrap_or_default();
    let value = |name: &String| {
        let attribute = group.attr(name).ok()?;
        value_of(group, name, &attribute)
    };
    names.iter().filter_map(|name| Some((name.clone(), value(name)?))).collect()
}

fn value_of(group: &Group, name: &str, attribute: &Attribute) -> Option<Value> {
    let one = |mut values: Vec<Value>| {
        let is_single = attribute.is_scalar() && values.len() == 1;
        if is_single { values.pop() } else { Some(Value::Array(values)) }
    };
    match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Boolean | TypeDescriptor::Enum(_) => flag(group, name).map(Value::Bool),
        TypeDescriptor::Integer(_) => one(attribute.read_raw::<i64>().ok()?.into_iter().map(Value::from).collect()),
        TypeDescriptor::Unsigned(_) => one(attribute.read_raw::<u64>().ok()?.into_iter().map(Value::from).collect()),
        // NaN becomes null, which JSON has.
        TypeDescriptor::Float(_) => one(numbers(attribute)?.into_iter().map(Value::from).collect()),
        _ => one(strings(attribute)?.into_iter().map(Value::from).collect()),
    }
}

fn save(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    fs::write(path, text).with_context(|| format!("{}: is the disk full?", path.display()))
}

/// The file that a `.zspy` is copied from: `X.zspy.hspy.partial` for `X.zspy`, a name that no search for cubes finds.
pub fn before_zspy(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".hspy.partial");
    PathBuf::from(name)
}
