//! The readers, on made-up files of every kind that they promise to read or to refuse.

mod dm;
mod dm5;
mod dm_file;
mod dm_fuzz;
mod dm_hostile;
mod external;
mod hdf5_fuzz;
mod hspy;
mod low_loss;
mod nexus_emd;
mod plain;
mod velox;
mod zarr;

use std::path::{Path, PathBuf};

use hdf5::types::VarLenUnicode;
use hdf5::{File, Group, H5Type};
use ndarray::{Array3, ArrayD, Axis as Dimension, IxDyn};

use super::{Options, Reader, inspect, truth, user_mask};

fn text(group: &Group, name: &str, value: &str) {
    let value: VarLenUnicode = value.parse().unwrap();
    group.new_attr::<VarLenUnicode>().create(name).unwrap().write_scalar(&value).unwrap();
}

fn attribute<T: H5Type>(group: &Group, name: &str, value: T) {
    group.new_attr::<T>().create(name).unwrap().write_scalar(&value).unwrap();
}

/// One experiment; axes are (name, units, scale, offset, navigate).
fn experiment<T: H5Type>(
    file: &File,
    title: &str,
    data: &ArrayD<T>,
    axes: &[(&str, &str, f64, f64, bool)],
    signal_type: &str,
) -> Group {
    let group = file.create_group(&format!("Experiments/{title}")).unwrap();
    group.new_dataset_builder().with_data(data.view()).chunk(data.shape()).create("data").unwrap();
    for (i, (name, units, scale, offset, navigate)) in axes.iter().enumerate() {
        let axis = group.create_group(&format!("axis-{i}")).unwrap();
        text(&axis, "name", name);
        text(&axis, "units", units);
        attribute(&axis, "scale", *scale);
        attribute(&axis, "offset", *offset);
        attribute(&axis, "size", data.shape()[i] as i64);
        attribute(&axis, "navigate", *navigate);
    }
    text(&group.create_group("metadata/Signal").unwrap(), "signal_type", signal_type);
    group
}

fn values() -> Array3<f32> {
    Array3::from_shape_fn((3, 4, 5), |(y, x, e)| (y * 100 + x * 10 + e) as f32)
}

const Y: (&str, &str, f64, f64, bool) = ("y", "nm", 0.5, -1.0, true);
const X: (&str, &str, f64, f64, bool) = ("x", "nm", 0.5, -2.0, true);
const E: (&str, &str, f64, f64, bool) = ("Energy loss", "eV", 0.25, 450.0, false);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str) -> (PathBuf, File) {
        let path = self.path(name);
        let file = File::create(&path).unwrap();
        (path, file)
    }
}

fn open(path: &Path) -> Reader {
    Reader::open(path, &Options::default()).unwrap()
}

fn refusal(path: &Path) -> String {
    let message = format!("{:#}", Reader::open(path, &Options::default()).err().expect("refused"));
    assert!(message.contains(&path.display().to_string()), "{message}");
    message
}

fn read_all(reader: &Reader) -> Array3<f32> {
    let [ny, nx, ne] = reader.info().shape();
    reader.read(0..ny, 0..nx, 0..ne).unwrap()
}
