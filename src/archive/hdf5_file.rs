//! Opens and reads HDF5 files, and says what is wrong with those that cannot be read. Knows nothing of spectra.
//!
//! Uses the POSIX driver only, so that a prefetch thread may read, and no file locks, which many cluster file systems
//! refuse.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use hdf5::datatype::ByteOrder;
use hdf5::filters::Filter;
use hdf5::types::{CompoundType, FloatSize, IntSize, TypeDescriptor};
use hdf5::{Dataset, File, Hyperslab, Selection, SliceOrIndex};
use ndarray::ArrayD;

use super::number_type::Number;
use crate::invalid::Invalid;

const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// Opens `path` for reading; each of its datasets gets a chunk cache of `cache` bytes. Rank-local.
///
/// # Errors
/// A file that is missing, empty, truncated or not HDF5: names it, the cause and what to do.
pub(crate) fn open(path: &Path, cache: usize) -> Result<File> {
    let shown = path.display();
    let about = fs::metadata(path).with_context(|| format!("{shown}: cannot be read"))?;
    if !about.is_file() {
        bail!("{shown}: is no regular file; name a file, or a glob such as {shown}/*.hspy");
    }
    if about.len() == 0 {
        bail!("{shown}: is empty (0 bytes); copy or export it again");
    }
    if is_zip(path) && path.extension().is_some_and(|extension| extension == "zspy") {
        bail!("{shown}: is packed; unpack it into a folder: unzip {shown} -d FOLDER.zspy");
    }
    if is_zip(path)
        || path.extension().is_some_and(|extension| ["gz", "bz2", "xz", "7z", "tar"].iter().any(|e| extension == *e))
    {
        bail!("{shown}: is packed; unpack it, and name the file inside");
    }
    if !has_signature(path).with_context(|| format!("{shown}: cannot be read"))? {
        bail!(
            "{shown}: is no HDF5 file and none of Gatan's (DM3, DM4), whatever its name says; convert it with \
             scripts/convert.py, or open it in HyperSpy and save it as .hspy"
        );
    }
    if path.to_str().is_none() {
        bail!("{shown}: its name is not UTF-8; rename it");
    }
    File::with_options()
        .with_fapl(|fapl| {
            // Preemption w0 = 0.75: HDF5 prefers to evict chunks that were read whole. With w0 = 1, which would suit
            // bands of lines, chunks that were read in part pile up past the limit.
            fapl.file_locking(false).chunk_cache(cache_slots(cache), cache, 0.75)
        })
        .open(path)
        .map_err(|cause| {
            anyhow!(
                "{shown}: HDF5 cannot open it ({cause}); at {} bytes it may be cut short or still being written: \
                 copy it again, or look at it with `h5ls -r`",
                about.len()
            )
        })
}

/// Whether `path` begins as zip archives do.
fn is_zip(path: &Path) -> bool {
    let mut found = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut found)).is_ok() && found == *b"PK\x03\x04"
}

/// Whether the HDF5 signature stands at one of the offsets that the format allows.
fn has_signature(path: &Path) -> std::io::Result<bool> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut offset = 0;
    while offset + SIGNATURE.len() as u64 <= length {
        let mut found = [0; SIGNATURE.len()];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut found)?;
        if found == SIGNATURE {
            return Ok(true);
        }
        offset = if offset == 0 { 512 } else { offset * 2 };
    }
    Ok(false)
}

/// Hash slots of a cache of `bytes`: HDF5 wants a prime, far above the number of chunks held.
fn cache_slots(bytes: usize) -> usize {
    // The default of 521 slots serves 1 MiB; chunks of spectrum images are rarely below 64 KiB.
    [521, 4099, 16411, 65537].into_iter().find(|slots| slots * (1 << 14) >= bytes).unwrap_or(262147)
}

/// Bytes of all decoded chunks of `dataset` that share one position along dimension `dim`; 0 if it is not chunked.
pub(crate) fn bytes_of_chunk_row(dataset: &Dataset, dim: usize) -> Result<usize> {
    let Some(chunk) = dataset.chunk() else {
        return Ok(0);
    };
    let across: usize = (dataset.shape().iter().zip(&chunk).enumerate())
        .filter(|&(i, _)| i != dim)
        .map(|(_, (&size, &part))| size.div_ceil(part))
        .product();
    let bytes = chunk.iter().product::<usize>() * dataset.dtype()?.size();
    Ok(across.saturating_mul(bytes))
}

/// The numpy name of the type of a value (`float32`, `uint16`).
///
/// # Errors
/// [`Invalid`] for anything but plain integers and floats: the file is not broken, but the wrong one.
pub(crate) fn numeric_dtype(dataset: &Dataset) -> Result<String> {
    let refuse = |what: String, mend: &str| {
        let name = dataset.name();
        Err(anyhow!(Invalid(format!("dataset {name} holds {what}; {mend}"))))
    };
    let stored = dataset.dtype().and_then(|dtype| dtype.to_descriptor());
    match stored {
        Ok(TypeDescriptor::Integer(size)) => Ok(TypeDescriptor::Integer(size).to_string()),
        Ok(TypeDescriptor::Unsigned(size)) => Ok(TypeDescriptor::Unsigned(size).to_string()),
        Ok(TypeDescriptor::Float(size @ (FloatSize::U2 | FloatSize::U4 | FloatSize::U8))) => {
            Ok(TypeDescriptor::Float(size).to_string())
        }
        Ok(TypeDescriptor::Compound(compound)) => refuse(
            name_of_compound(&compound),
            "save the one real quantity that is a spectrum image, such as its modulus",
        ),
        Ok(TypeDescriptor::VarLenArray(_)) => refuse("ragged data".into(), "spectra must have equal lengths"),
        Ok(other) => refuse(format!("{other} values"), "counts must be integers, or floats of 16, 32 or 64 bits"),
        Err(cause) => refuse(format!("values of a type that is not read ({cause})"), "convert it to float32"),
    }
}

/// What a compound value is: complex numbers and colours are recognised by the names of their fields.
fn name_of_compound(compound: &CompoundType) -> String {
    let names: Vec<String> = compound.fields.iter().map(|field| field.name.to_lowercase()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match names[..] {
        ["r", "i"] | ["re", "im"] | ["real", "imag"] | ["real", "imaginary"] => "complex values".into(),
        ["r", "g", "b"] | ["r", "g", "b", "a"] => "RGB colours".into(),
        _ => format!("compound values (fields {})", names.join(", ")),
    }
}

/// Checks that this build of HDF5 can decode `dataset`.
///
/// # Errors
/// Names the missing filters and what to do.
pub(crate) fn check_filters(dataset: &Dataset) -> Result<()> {
    // One by one, which looks for plugins too: asked for all at once, HDF5 knows only those that it has loaded.
    let filters = dataset.create_plist()?.get_filters()?.into_iter();
    let missing: Vec<String> = filters
        .filter(|filter| !filter.is_available())
        .map(|filter| match filter {
            Filter::User(id, _) => format!("{id} ({})", name_of_filter(id)),
            known => format!("{known:?}"),
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let path = match std::env::var("HDF5_PLUGIN_PATH") {
        Ok(path) => format!("the folder of HDF5_PLUGIN_PATH, {path}, has no plugin for it"),
        Err(_) => "HDF5_PLUGIN_PATH names no folder of plugins".into(),
    };
    bail!(
        "dataset {} is compressed with filter {}, which this HDF5 lacks, and {path}. The Python package hdf5plugin brings \
         all that are common: `pip install hdf5plugin`, then `export HDF5_PLUGIN_PATH=$(python -c 'import hdf5plugin; \
         print(hdf5plugin.PLUGINS_PATH)')`; or repack the file with `h5repack -f GZIP=4` where the filter is installed",
        dataset.name(),
        missing.join(", ")
    )
}

/// The name under which a filter is registered with the HDF Group.
fn name_of_filter(id: i32) -> &'static str {
    match id {
        307 => "BZIP2",
        32000 => "LZF",
        32001 => "Blosc",
        32004 => "LZ4",
        32008 => "Bitshuffle",
        32013 => "ZFP",
        32015 => "Zstandard",
        32017 => "SZ",
        32018 => "FCIDECOMP",
        32019 => "JPEG",
        32024 => "SZ3",
        32026 => "Blosc2",
        32028 => "SPERR",
        _ => "unknown",
    }
}

/// Reads `part`, one range per stored dimension, as float32, rounded to the nearest as Rust and numpy do. Rank-local.
///
/// HDF5 rounds so too, except where it must first swap the bytes of 32- and 64-bit numbers; these are read in their stored
/// type, which costs their size in memory once more.
pub(crate) fn read_f32(dataset: &Dataset, part: Vec<Range<usize>>) -> hdf5::Result<ArrayD<f32>> {
    let part = selection(part);
    let stored = dataset.dtype()?;
    let is_swapped = !matches!(stored.byte_order(), ByteOrder::None) && stored.byte_order() != native_order();
    if !is_swapped {
        return dataset.read_slice(part);
    }
    Ok(match stored.to_descriptor()? {
        TypeDescriptor::Float(FloatSize::U8) => dataset.read_slice(part)?.mapv(|value: f64| value as f32),
        TypeDescriptor::Integer(IntSize::U4 | IntSize::U8) => dataset.read_slice(part)?.mapv(|value: i64| value as f32),
        TypeDescriptor::Unsigned(IntSize::U4 | IntSize::U8) => {
            dataset.read_slice(part)?.mapv(|value: u64| value as f32)
        }
        _ => dataset.read_slice(part)?,
    })
}

/// Reads `part`, one range per stored dimension, in its stored type, which `T` must be. Rank-local.
pub(crate) fn read_stored<T: Number>(dataset: &Dataset, part: Vec<Range<usize>>) -> hdf5::Result<ArrayD<T>> {
    dataset.read_slice(selection(part))
}

fn selection(part: Vec<Range<usize>>) -> Selection {
    let ranges: Vec<SliceOrIndex> = part.into_iter().map(SliceOrIndex::from).collect();
    Hyperslab::from(ranges).into()
}

fn native_order() -> ByteOrder {
    if cfg!(target_endian = "big") { ByteOrder::BigEndian } else { ByteOrder::LittleEndian }
}
