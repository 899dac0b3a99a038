//! The JSON texts that describe Zarr's groups and arrays.
//!
//! # Source
//! The Zarr storage specification, version 2; the Zarr core specification, version 3.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::codec::Codec;
use crate::archive::number_type::NumberType;
use crate::invalid::Invalid;

/// Most bytes of a JSON text.
const MOST_BYTES: u64 = 16 << 20;
/// Most bytes of a decoded chunk; more is beyond what Zarr's compressors can hold.
const MOST_CHUNK: usize = 1 << 31;
const MOST_DIMENSIONS: usize = 32;

/// What a folder is.
pub(crate) enum Node {
    Group,
    /// Or why it cannot be read.
    Array(Result<ArrayMetadata>),
}

/// How an array is stored.
#[derive(Debug)]
pub(crate) struct ArrayMetadata {
    pub shape: Vec<usize>,
    pub chunk: Vec<usize>,
    pub number: NumberType,
    pub little: bool,
    /// The bytes of a value that was never written, little-endian.
    pub fill: Vec<u8>,
    pub codec: Option<Codec>,
    /// Before the indices in the name of a chunk, and between them.
    pub prefix: &'static str,
    pub separator: String,
}

/// The node in `folder` with its attributes; none if it is no node. Rank-local.
///
/// # Errors
/// A text that cannot be read or is no JSON.
pub(super) fn read(folder: &Path) -> Result<Option<(Node, Map<String, Value>)>> {
    let text = |name: &str| -> Result<Option<Value>> {
        let path = folder.join(name);
        let Ok(about) = fs::metadata(&path) else {
            return Ok(None);
        };
        let shown = || path.display().to_string();
        ensure!(about.len() <= MOST_BYTES, "{}: is too long for a description of an array", shown());
        parse(&fs::read(&path).with_context(shown)?).with_context(shown).map(Some)
    };
    let map = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    if let Some(mut described) = text("zarr.json")? {
        let attributes = described.get_mut("attributes").map(Value::take).unwrap_or_default();
        let node = match described["node_type"].as_str() {
            Some("group") => Node::Group,
            _ => Node::Array(of_version_3(&described)),
        };
        return Ok(Some((node, map(attributes))));
    }
    let node = match text(".zarray")? {
        Some(described) => Node::Array(of_version_2(&described)),
        None if folder.join(".zgroup").is_file() => Node::Group,
        None => return Ok(None),
    };
    Ok(Some((node, map(text(".zattrs")?.unwrap_or_default()))))
}

/// Parses JSON in which, as Python writes it, numbers may be `NaN` or `Infinity`: these become null.
///
/// # Errors
/// Text that is no JSON.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    // Quotes that are escaped neither begin nor end a string.
    let (mut in_string, mut rest) = (false, &text[..]);
    while let Some(c) = rest.chars().next() {
        let number = ["NaN", "-Infinity", "Infinity"].into_iter().find(|number| !in_string && rest.starts_with(number));
        let length = match (number, c) {
            (Some(number), _) => number.len(),
            (None, '\\') if in_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => c.len_utf8(),
        };
        in_string ^= c == '"';
        plain.push_str(if number.is_some() { "null" } else { &rest[..length] });
        rest = &rest[length..];
    }
    serde_json::from_str(&plain).context("is no JSON; copy it again")
}

fn of_version_2(described: &Value) -> Result<ArrayMetadata> {
    let dtype = described["dtype"].as_str().unwrap_or("a structure");
    let (order, kind) = dtype.split_at_checked(1).unwrap_or_default();
    // A letter and a number of bytes.
    let (letter, bytes) = kind.split_at_checked(1).unwrap_or_default();
    let bits = bytes.parse::<usize>().unwrap_or(0).saturating_mul(8);
    let name = match letter {
        "b" if bits == 8 => "bool".to_string(),
        "i" => format!("int{bits}"),
        "u" => format!("uint{bits}"),
        "f" => format!("float{bits}"),
        _ => String::new(),
    };
    let number = NumberType::named(&name).ok_or_else(|| refused_type(dtype))?;
    let filters = &described["filters"];
    ensure!(
        filters.is_null() || filters.as_array().is_some_and(Vec::is_empty),
        "its values pass through the filters {filters}, which are not read; save it without"
    );
    ensure!(described["order"] != "F", "it is stored in Fortran's order; save it in C's");
    let compressor = &described["compressor"];
    let codec = match compressor {
        Value::Null => None,
        _ => Some(Codec::of(compressor["id"].as_str().unwrap_or_default())?),
    };
    let separator = described["dimension_separator"].as_str().unwrap_or(".").to_string();
    finished(described, &described["chunks"], number, order != ">", codec, "", separator)
}

fn of_version_3(described: &Value) -> Result<ArrayMetadata> {
    let data_type = described["data_type"].as_str().unwrap_or("a structure");
    let number = NumberType::named(data_type).ok_or_else(|| refused_type(data_type))?;
    let grid = &described["chunk_grid"];
    ensure!(grid["name"] == "regular", "its chunks are not regular: {}", grid["name"]);
    let (mut little, mut codec) = (true, None);
    for step in described["codecs"].as_array().map_or(&[][..], Vec::as_slice) {
        match step["name"].as_str().unwrap_or_default() {
            "bytes" => little = step["configuration"]["endian"] != "big",
            "sharding_indexed" => bail!("its chunks are joined into shards, which are not read; save it without"),
            name => {
                ensure!(codec.is_none(), "its values are compressed twice; save it again");
                codec = Some(Codec::of(name)?);
            }
        }
    }
    let keys = &described["chunk_key_encoding"];
    let (prefix, usual) = match keys["name"].as_str() {
        Some("v2") => ("", "."),
        _ => ("c", "/"),
    };
    let separator = keys["configuration"]["separator"].as_str().unwrap_or(usual).to_string();
    finished(described, &grid["configuration"]["chunk_shape"], number, little, codec, prefix, separator)
}

fn refused_type(dtype: &str) -> anyhow::Error {
    let is_complex = dtype.contains("complex") || dtype.trim_start_matches(['<', '>', '|']).starts_with('c');
    anyhow!(Invalid(match is_complex {
        true =>
            "it holds complex values; save the one real quantity that is a spectrum image, such as its modulus".into(),
        false => format!("it holds {dtype}; counts must be integers, or floats of 32 or 64 bits"),
    }))
}

fn finished(
    described: &Value,
    chunk: &Value,
    number: NumberType,
    little: bool,
    codec: Option<Codec>,
    prefix: &'static str,
    separator: String,
) -> Result<ArrayMetadata> {
    let sizes = |value: &Value| -> Option<Vec<usize>> {
        let sizes = value.as_array()?.iter().map(|size| usize::try_from(size.as_u64()?).ok());
        sizes.collect()
    };
    let (shape, chunk) = sizes(&described["shape"]).zip(sizes(chunk)).context("its shape or chunks are no sizes")?;
    let values = |sizes: &[usize]| sizes.iter().try_fold(number.size(), |bytes, &size| bytes.checked_mul(size));
    ensure!(
        shape.len() == chunk.len() && shape.len() <= MOST_DIMENSIONS && !chunk.contains(&0),
        "its chunks {chunk:?} do not fit its shape {shape:?}"
    );
    ensure!(values(&shape).is_some(), "its shape {shape:?} is beyond all memory");
    ensure!(values(&chunk).is_some_and(|bytes| bytes <= MOST_CHUNK), "its chunks {chunk:?} are too large");
    ensure!(matches!(&separator[..], "." | "/"), "the names of its chunks are joined by {separator:?}, not . or /");
    let fill = fill(&described["fill_value"], number);
    Ok(ArrayMetadata { shape, chunk, number, little, fill, codec, prefix, separator })
}

/// The little-endian bytes of the fill value; null and what is not known are 0.
fn fill(value: &Value, number: NumberType) -> Vec<u8> {
    let text = value.as_str().and_then(|text| text.parse::<f64>().ok());
    let float = value.as_f64().or(text).unwrap_or(0.0);
    match number {
        NumberType::F32 => (float as f32).to_le_bytes().to_vec(),
        NumberType::F64 => float.to_le_bytes().to_vec(),
        _ => {
            let whole = value.as_i64().map(|whole| whole as u64).or(value.as_u64()).or(value.as_bool().map(u64::from));
            whole.unwrap_or(0).to_le_bytes()[..number.size()].to_vec()
        }
    }
}
