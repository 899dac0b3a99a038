//! HyperSpy's Zarr stores, of both versions of Zarr, and broken ones.

use std::fs;

use super::*;
use crate::archive::zarr::{Codec, compress_blosc, parse};
use crate::fuzz::fuzz;

const VERSION_2: &str = r#"{"zarr_format": 2, "shape": [3, 4, 5], "chunks": [2, 3, 5], "dtype": "<f4", "fill_value": 0.0,
    "order": "C", "filters": null, "dimension_separator": "/", "compressor": {"id": "zstd", "level": 1}}"#;
const VERSION_3: &str = r#"{"zarr_format": 3, "node_type": "array", "shape": [3, 4, 5], "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3, 5]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}, "fill_value": "NaN",
    "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "zstd", "configuration": {"level": 0}}],
    "attributes": {}}"#;

/// A store of version 2, or 3, around an array described by `array`.
fn store(folder: &Folder, name: &str, version: u8, array: &str) -> PathBuf {
    let path = folder.path(name);
    let group = |below: &str, attributes: &str| {
        let folder = path.join(below);
        fs::create_dir_all(&folder).unwrap();
        if version == 2 {
            fs::write(folder.join(".zgroup"), r#"{"zarr_format": 2}"#).unwrap();
            fs::write(folder.join(".zattrs"), attributes).unwrap();
        } else {
            let text = format!(r#"{{"zarr_format": 3, "node_type": "group", "attributes": {attributes}}}"#);
            fs::write(folder.join("zarr.json"), text).unwrap();
        }
    };
    group("", r#"{"file_format": "ZSpy"}"#);
    group("Experiments", "{}");
    group("Experiments/a", "{}");
    for (i, (name, units, scale, offset, navigate)) in [Y, X, E].into_iter().enumerate() {
        let size = [3, 4, 5][i];
        let attributes = format!(
            r#"{{"_type": "UniformDataAxis", "name": "{name}", "units": "{units}", "scale": {scale}, "offset": {offset},
                "size": {size}, "navigate": {navigate}}}"#
        );
        group(&format!("Experiments/a/axis-{i}"), &attributes);
    }
    // Python writes what JSON does not know.
    group("Experiments/a/metadata", "{}");
    group("Experiments/a/metadata/Signal", r#"{"signal_type": "EELS", "odd": NaN, "text": "is NaN, \"Infinity\""}"#);
    let data = path.join("Experiments/a/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join(if version == 2 { ".zarray" } else { "zarr.json" }), array).unwrap();
    path
}

/// The bytes of the chunk that begins at `[y, x]`, beyond the edge of the cube zeros.
fn chunk(y: usize, x: usize, big: bool) -> Vec<u8> {
    let cube = values();
    let value = |y: usize, x: usize, e: usize| cube.get([y, x, e]).copied().unwrap_or_default();
    let places = (y..y + 2).flat_map(|y| (x..x + 3).flat_map(move |x| (0..5).map(move |e| (y, x, e))));
    let bytes = places.map(|(y, x, e)| match big {
        true => value(y, x, e).to_be_bytes(),
        false => value(y, x, e).to_le_bytes(),
    });
    bytes.flatten().collect()
}

/// Writes all chunks of an array, compressed by Zstd, except one.
fn write_chunks(path: &Path, prefix: &str, big: bool, except: Option<&str>) {
    for (y, x, key) in [(0, 0, "0/0/0"), (0, 3, "0/1/0"), (2, 0, "1/0/0"), (2, 3, "1/1/0")] {
        let file = path.join("Experiments/a/data").join(prefix).join(key);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if except != Some(key) {
            fs::write(file, zstd::bulk::compress(&chunk(y, x, big), 1).unwrap()).unwrap();
        }
    }
}

#[test]
fn both_versions_are_read() {
    let folder = Folder::new();
    let second = store(&folder, "second.zspy", 2, VERSION_2);
    write_chunks(&second, "", false, None);
    let third = store(&folder, "third.zspy", 3, VERSION_3);
    write_chunks(&third, "c", true, None);
    for path in [&second, &third] {
        let reader = open(path);
        assert_eq!(read_all(&reader), values());
        // A part that cuts chunks.
        let part = reader.read(1..3, 2..4, 1..4).unwrap();
        assert_eq!(part, values().slice(ndarray::s![1..3, 2..4, 1..4]));
        let info = reader.info();
        assert_eq!((info.energy.offset, info.energy.scale, info.y.scale), (450.0, 0.25, 0.5));
        assert_eq!((&info.format[..], &info.dtype[..], info.chunk_rows), ("zspy", "float32", 2));
        let summary = inspect(path, &Options::default()).unwrap();
        assert_eq!((summary.shape, summary.chunks), (vec![3, 4, 5], Some(vec![2, 3, 5])));
    }
}

#[test]
fn a_chunk_that_was_never_written_has_the_fill_value() {
    let folder = Folder::new();
    let path = store(&folder, "a.zspy", 3, VERSION_3);
    write_chunks(&path, "c", true, Some("1/1/0"));
    let read = read_all(&open(&path));
    assert!(read.slice(ndarray::s![2.., 3.., ..]).iter().all(|value| value.is_nan()));
    assert_eq!(read.slice(ndarray::s![..2, .., ..]), values().slice(ndarray::s![..2, .., ..]));
}

#[test]
fn the_fingerprint_knows_a_changed_chunk() {
    let folder = Folder::new();
    let path = store(&folder, "a.zspy", 2, VERSION_2);
    write_chunks(&path, "", false, None);
    let before = open(&path).fingerprint().unwrap();
    assert_eq!(before, open(&path).fingerprint().unwrap());
    fs::write(path.join("Experiments/a/data/1/1/0"), zstd::bulk::compress(&chunk(0, 0, false), 19).unwrap()).unwrap();
    assert_ne!(before, open(&path).fingerprint().unwrap());
}

#[test]
fn what_is_not_read_is_refused_in_words() {
    let folder = Folder::new();
    for (i, (from, to, words)) in [
        ("\"<f4\"", "\"<c8\"", "complex values"),
        ("\"<f4\"", "\"<f2\"", "floats of 32 or 64 bits"),
        ("\"zstd\"", "\"bz2\"", "compressed by \"bz2\""),
        ("\"filters\": null", "\"filters\": [{\"id\": \"delta\"}]", "filters"),
        ("\"order\": \"C\"", "\"order\": \"F\"", "Fortran's order"),
        ("[2, 3, 5]", "[2, 3]", "do not fit its shape"),
        ("[2, 3, 5]", "[200000, 300000, 5]", "too large"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(VERSION_2.contains(from), "{from}");
        let path = store(&folder, &format!("{i}.zspy"), 2, &VERSION_2.replace(from, to));
        let refused = refusal(&path);
        assert!(refused.contains(words), "{refused}");
    }
    let shards = VERSION_3.replace("\"zstd\"", "\"sharding_indexed\"");
    assert!(refusal(&store(&folder, "shards.zspy", 3, &shards)).contains("shards"));
    let path = store(&folder, "damaged.zspy", 2, VERSION_2);
    write_chunks(&path, "", false, None);
    fs::write(path.join("Experiments/a/data/1/0/0"), b"no Zstd").unwrap();
    let error = format!("{:#}", open(&path).read(0..3, 0..4, 0..5).unwrap_err());
    assert!(error.contains("data/1/0/0"), "{error}");

    let plain = folder.path("plain.zarr");
    fs::create_dir_all(&plain).unwrap();
    fs::write(plain.join(".zgroup"), "{}").unwrap();
    assert!(refusal(&plain).contains("a Zarr store that HyperSpy did not write"));
    let packed = folder.path("packed.zspy");
    fs::write(&packed, b"PK\x03\x04...").unwrap();
    assert!(refusal(&packed).contains("unzip"));
}

#[test]
fn fuzz_zarr_descriptions() {
    let folder = Folder::new();
    let path = store(&folder, "a.zspy", 2, VERSION_2);
    write_chunks(&path, "", false, None);
    let data = path.join("Experiments/a/data");
    let seeds = vec![VERSION_2.into(), VERSION_3.into()];
    fuzz(seeds, &["\"shape\"", "NaN", "null", "[", "}", "\"<u2\"", "\"blosc\""], |bytes| {
        parse(bytes)?;
        let is_third = bytes.windows(9).any(|word| word == b"node_type");
        let [name, other] = if is_third { ["zarr.json", ".zarray"] } else { [".zarray", "zarr.json"] };
        let _ = fs::remove_file(data.join(other));
        fs::write(data.join(name), bytes)?;
        let reader = Reader::open(&path, &Options { memory: 1 << 16, ..Options::default() })?;
        let [rows, columns, channels] = reader.info().shape();
        // Not the memory that a huge shape claims.
        reader.read(0..rows.min(8), 0..columns.min(8), 0..channels.min(8)).map(|_| ())
    });
}

#[test]
fn fuzz_chunks_of_zarr() {
    let whole = chunk(0, 0, false);
    let compressed = |codec: Codec| match codec {
        Codec::Blosc => compress_blosc(&whole, 4).unwrap(),
        Codec::Zstd => zstd::bulk::compress(&whole, 1).unwrap(),
        Codec::Gzip => deflated(|deflater, into| deflater.gzip_compress(&whole, into)),
        Codec::Zlib => deflated(|deflater, into| deflater.zlib_compress(&whole, into)),
    };
    for codec in [Codec::Blosc, Codec::Zstd, Codec::Gzip, Codec::Zlib] {
        let seed = compressed(codec);
        let mut values = vec![0; whole.len()];
        codec.decode(&seed, &mut values).unwrap();
        assert_eq!(values, whole, "{codec:?}");
        fuzz(vec![seed], &[], |bytes| codec.decode(bytes, &mut values));
    }
}

fn deflated(
    compress: impl Fn(&mut libdeflater::Compressor, &mut [u8]) -> Result<usize, libdeflater::CompressionError>,
) -> Vec<u8> {
    let mut deflater = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut bytes = vec![0; 1 << 12];
    let length = compress(&mut deflater, &mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}
