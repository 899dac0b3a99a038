//! Cubes with known values, as `.hspy` and plain HDF5 files.

use std::path::Path;

use hdf5::types::VarLenUnicode;
use hdf5::{File, Group, H5Type};
use ndarray::{Array3, ArrayD, ArrayView};

/// First energy of every test cube, eV.
pub const OFFSET_EV: f64 = 420.0;

/// Counts `[y, x, energy]` of a falling background and an edge, with noise whose variance is the mean, as in measured
/// cubes.
pub fn counts(shape: [usize; 3], seed: u64) -> Array3<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = move || {
        // Knuth's MMIX generator, of which the high bits are good enough.
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let channels = shape[2] as f64;
    Array3::from_shape_fn(shape, |(y, x, e)| {
        let place = e as f64 / channels;
        let edge = if place > 0.5 { 150.0 * (-4.0 * (place - 0.5)).exp() } else { 0.0 };
        let level = 400.0 * (-2.0 * place).exp() + edge * (1.0 + 0.1 * ((y + 2 * x) as f64 * 0.3).sin());
        // The sum of twelve uniforms has variance 1.
        let normal: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        (level + level.sqrt() * normal).round().max(0.0) as f32
    })
}

/// Writes `values` `[y, x, energy]` as HyperSpy would, over 400 eV.
pub fn write_hspy<T: H5Type + Clone>(path: &Path, values: &Array3<T>) {
    write_hspy_from(path, values, OFFSET_EV, 400.0 / values.dim().2 as f64);
}

/// As [`write_hspy`], with channels of `step` eV from `offset` eV.
pub fn write_hspy_from<T: H5Type + Clone>(path: &Path, values: &Array3<T>, offset: f64, step: f64) {
    let file = File::create(path).expect("a cube's file can be made");
    let group = file.create_group("Experiments/spectra").expect("a new file takes groups");
    add_data(&group, "data", &values.clone().into_dyn());
    let axes = [("y", "nm", 0.5, 0.0, true), ("x", "nm", 0.5, 0.0, true), ("Energy loss", "eV", step, offset, false)];
    for (i, (&size, (name, units, scale, offset, navigate))) in values.shape().iter().zip(axes).enumerate() {
        let axis = group.create_group(&format!("axis-{i}")).expect("groups");
        set_text(&axis, "name", name);
        set_text(&axis, "units", units);
        set(&axis, "scale", scale);
        set(&axis, "offset", offset);
        set(&axis, "size", size as i64);
        set(&axis, "navigate", navigate);
        set(&axis, "is_binned", !navigate);
        set_text(&axis, "_type", "UniformDataAxis");
    }
    describe(&file, &group, "EELS");
}

/// Writes a map `[y, x]`, for `X.mask.hspy` or `X.truth.hspy` beside a cube.
pub fn write_map(path: &Path, shape: [usize; 2], values: &[u8]) {
    let file = File::create(path).expect("a map's file can be made");
    let group = file.create_group("Experiments/map").expect("a new file takes groups");
    let map = ArrayView::from_shape(&shape[..], values).expect("a value for each pixel");
    add_data(&group, "data", &map.to_owned());
    describe(&file, &group, "");
}

/// Writes `values` as dataset `name` of a plain HDF5 file without axes.
pub fn write_plain(path: &Path, name: &str, values: &Array3<f32>) {
    let file = File::create(path).expect("a cube's file can be made");
    if let Some((parent, _)) = name.rsplit_once('/') {
        file.create_group(parent).expect("a new file takes groups");
    }
    file.new_dataset_builder().with_data(values.view()).create(name).expect("a dataset");
}

fn describe(file: &File, group: &Group, signal_type: &str) {
    set_text(file, "file_format", "HyperSpy");
    set_text(file, "file_format_version", "3.3");
    let kind = group.create_group("metadata/Signal").expect("groups");
    set_text(&kind, "signal_type", signal_type);
    let general = group.create_group("metadata/General").expect("groups");
    set_text(&general, "title", "spectra");
    // HyperSpy refuses files without these.
    for needed in ["original_metadata", "learning_results"] {
        group.create_group(needed).expect("groups");
    }
    let attributes = group.create_group("attributes").expect("groups");
    set(&attributes, "_lazy", false);
    set(&attributes, "ragged", false);
}

fn add_data<T: H5Type + Clone>(group: &Group, name: &str, values: &ArrayD<T>) {
    // A quarter of the lines in a chunk, so that the bands of several ranks share chunks.
    let mut chunk = values.shape().to_vec();
    chunk[0] = chunk[0].div_ceil(4);
    group
        .new_dataset_builder()
        .with_data(values.view())
        .chunk(chunk)
        .deflate(1)
        .create(name)
        .expect("a new group takes data");
}

fn set<T: H5Type>(place: &hdf5::Location, name: &str, value: T) {
    let attribute = place.new_attr::<T>().create(name).expect("a new attribute");
    attribute.write_scalar(&value).expect("an attribute takes its value");
}

fn set_text(place: &hdf5::Location, name: &str, value: &str) {
    set(place, name, value.parse::<VarLenUnicode>().expect("text without NUL"));
}
