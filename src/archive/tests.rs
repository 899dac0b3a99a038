//! The readers on files of every kind that they promise to read or to refuse.

use std::path::{Path, PathBuf};

use hdf5::types::VarLenUnicode;
use hdf5::{File, Group, H5Type};
use ndarray::{Array3, ArrayD, Axis as Dimension, IxDyn};

use super::{inspect, truth, user_mask, Options, Reader};

fn text(group: &Group, name: &str, value: &str) {
    let value: VarLenUnicode = value.parse().unwrap();
    group
        .new_attr::<VarLenUnicode>()
        .create(name)
        .unwrap()
        .write_scalar(&value)
        .unwrap();
}

fn attribute<T: H5Type>(group: &Group, name: &str, value: T) {
    group
        .new_attr::<T>()
        .create(name)
        .unwrap()
        .write_scalar(&value)
        .unwrap();
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
    group
        .new_dataset_builder()
        .with_data(data.view())
        .chunk(data.shape())
        .create("data")
        .unwrap();
    for (i, (name, units, scale, offset, navigate)) in axes.iter().enumerate() {
        let axis = group.create_group(&format!("axis-{i}")).unwrap();
        text(&axis, "name", name);
        text(&axis, "units", units);
        attribute(&axis, "scale", *scale);
        attribute(&axis, "offset", *offset);
        attribute(&axis, "size", data.shape()[i] as i64);
        attribute(&axis, "navigate", *navigate);
    }
    text(
        &group.create_group("metadata/Signal").unwrap(),
        "signal_type",
        signal_type,
    );
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
    let message = format!(
        "{:#}",
        Reader::open(path, &Options::default())
            .err()
            .expect("refused")
    );
    assert!(message.contains(&path.display().to_string()), "{message}");
    message
}

fn read_all(reader: &Reader) -> Array3<f32> {
    let [ny, nx, ne] = reader.info().shape();
    reader.read(0..ny, 0..nx, 0..ne).unwrap()
}

#[test]
fn any_axis_order_reads_alike() {
    let folder = Folder::new();
    let axes = [Y, X, E];
    for (i, order) in [[0, 1, 2], [2, 0, 1], [0, 2, 1]].into_iter().enumerate() {
        let (path, file) = folder.file(&format!("{i}.hspy"));
        let stored = values()
            .permuted_axes(order)
            .as_standard_layout()
            .into_owned()
            .into_dyn();
        experiment(&file, "cube", &stored, &order.map(|dim| axes[dim]), "EELS");
        file.close().unwrap();
        let reader = open(&path);
        assert_eq!(reader.info().shape(), [3, 4, 5]);
        assert_eq!(
            (reader.info().energy.offset, reader.info().x.offset),
            (450.0, -2.0)
        );
        assert_eq!(reader.info().chunk_rows, 3);
        assert_eq!(read_all(&reader), values());
        let part = reader.read(1..3, 2..4, 1..4).unwrap();
        assert_eq!(part, values().slice(ndarray::s![1..3, 2..4, 1..4]));
        assert_eq!(reader.read(1..1, 0..4, 0..5).unwrap().shape(), [0, 4, 5]);
        assert!(reader.read(1..4, 0..4, 0..5).is_err());
        assert!(reader.problems().is_empty());
    }
}

#[test]
fn lines_and_spectra_are_small_cubes() {
    let folder = Folder::new();
    let (path, file) = folder.file("line.hspy");
    let line = values().index_axis_move(Dimension(0), 1).into_dyn();
    experiment(&file, "line", &line, &[X, E], "EELS");
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(reader.info().shape(), [1, 4, 5]);
    assert_eq!(read_all(&reader)[[0, 2, 3]], 123.0);

    let (path, file) = folder.file("spectrum.hspy");
    experiment(
        &file,
        "spectrum",
        &ArrayD::from_elem(IxDyn(&[5]), 7u8),
        &[E],
        "",
    );
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(
        (reader.info().shape(), reader.info().dtype.as_str()),
        ([1, 1, 5], "uint8")
    );
    assert_eq!(read_all(&reader)[[0, 0, 4]], 7.0);
}

#[test]
fn energies_come_in_ev() {
    let folder = Folder::new();
    for (units, scale, offset) in [
        ("keV", 0.25e-3, 0.45),
        ("meV", 250.0, 450e3),
        ("_None_", 0.25, 450.0),
    ] {
        let (path, file) = folder.file(&format!("{units}.hspy"));
        experiment(
            &file,
            "cube",
            &values().into_dyn(),
            &[Y, X, ("Energy loss", units, scale, offset, false)],
            "EELS",
        );
        file.close().unwrap();
        let reader = open(&path);
        let energy = &reader.info().energy;
        assert!(
            (energy.scale - 0.25).abs() < 1e-12 && (energy.offset - 450.0).abs() < 1e-9,
            "{energy:?}"
        );
        assert_eq!(reader.problems().len(), usize::from(units == "_None_"));
    }
}

#[test]
fn the_one_cube_among_experiments_is_taken() {
    let folder = Folder::new();
    let (path, file) = folder.file("many.hspy");
    let cube = values().into_dyn();
    experiment(&file, "cube", &cube, &[Y, X, E], "EELS");
    experiment(
        &file,
        "line",
        &ArrayD::<f32>::zeros(IxDyn(&[4, 5])),
        &[X, E],
        "EELS",
    );
    experiment(
        &file,
        "x-rays",
        &cube,
        &[Y, X, ("Energy", "keV", 0.01, 0.0, false)],
        "EDS_TEM",
    );
    experiment(
        &file,
        "image",
        &ArrayD::<f32>::zeros(IxDyn(&[3, 4])),
        &[Y, X],
        "",
    );
    file.close().unwrap();
    assert_eq!(read_all(&open(&path)), values());

    let (path, file) = folder.file("two.hspy");
    experiment(&file, "before", &cube, &[Y, X, E], "EELS");
    experiment(&file, "after", &cube, &[Y, X, E], "EELS");
    file.close().unwrap();
    let message = refusal(&path);
    assert!(
        message.contains("\"Experiments/after/data\" or \"Experiments/before/data\""),
        "{message}"
    );
    assert!(message.contains("archive.dataset"), "{message}");
    let options = Options {
        dataset: Some("/Experiments/before/data".into()),
        ..Options::default()
    };
    assert_eq!(read_all(&Reader::open(&path, &options).unwrap()), values());
    let options = Options {
        dataset: Some("Experiments/during/data".into()),
        ..Options::default()
    };
    assert!(
        format!("{:#}", Reader::open(&path, &options).err().unwrap())
            .contains("no experiment \"during\"")
    );
}

#[test]
fn what_is_no_spectrum_image_is_described_but_not_read() {
    let folder = Folder::new();
    let (path, file) = folder.file("image.hspy");
    experiment(
        &file,
        "image",
        &ArrayD::<u16>::zeros(IxDyn(&[3, 4])),
        &[Y, X],
        "",
    );
    file.close().unwrap();
    assert!(refusal(&path).contains("no signal axis"));
    let summary = inspect(&path, &Options::default()).unwrap();
    assert_eq!(
        (summary.shape, summary.dtype.as_str()),
        (vec![3, 4], "uint16")
    );
    assert!(
        summary.problems[0].contains("no EELS spectrum image"),
        "{:?}",
        summary.problems
    );

    for scale in [-0.25, 0.0] {
        let (path, file) = folder.file(&format!("scale{scale}.hspy"));
        experiment(
            &file,
            "cube",
            &values().into_dyn(),
            &[Y, X, ("Energy loss", "eV", scale, 1.0, false)],
            "EELS",
        );
        file.close().unwrap();
        assert!(refusal(&path).contains("runs backwards"));
    }
}

#[test]
fn axes_that_lie_are_refused_and_those_that_lack_attributes_read() {
    let folder = Folder::new();
    let (path, file) = folder.file("lies.hspy");
    let group = experiment(&file, "cube", &values().into_dyn(), &[Y, X, E], "EELS");
    group
        .group("axis-0")
        .unwrap()
        .attr("size")
        .unwrap()
        .write_scalar(&9i64)
        .unwrap();
    drop(group);
    file.close().unwrap();
    assert!(refusal(&path).contains("has size 9, but its data have 3"));

    let (path, file) = folder.file("lacks.hspy");
    let group = experiment(&file, "cube", &values().into_dyn(), &[Y, X, E], "EELS");
    for name in ["size", "scale", "name", "units"] {
        group.group("axis-0").unwrap().delete_attr(name).unwrap();
    }
    drop(group);
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(
        (reader.info().y.scale, reader.info().y.name.as_str()),
        (1.0, "y")
    );
    assert_eq!(read_all(&reader), values());
}

#[test]
fn every_number_becomes_a_float32() {
    fn check<T: H5Type>(folder: &Folder, name: &str, low: T, high: T, expected: [f32; 2]) {
        let (path, file) = folder.file(&format!("{name}.h5"));
        let data = ArrayD::from_shape_vec(IxDyn(&[1, 1, 2]), vec![low, high]).unwrap();
        file.new_dataset_builder()
            .with_data(data.view())
            .create("data")
            .unwrap();
        file.close().unwrap();
        let reader = open(&path);
        assert_eq!(reader.info().dtype, name);
        assert_eq!(read_all(&reader).into_raw_vec_and_offset().0, expected);
    }
    let folder = Folder::new();
    check(&folder, "int8", i8::MIN, i8::MAX, [-128.0, 127.0]);
    check(&folder, "uint8", 0u8, 255, [0.0, 255.0]);
    check(&folder, "int16", i16::MIN, i16::MAX, [-32768.0, 32767.0]);
    check(&folder, "uint16", 0u16, 65535, [0.0, 65535.0]);
    check(
        &folder,
        "int32",
        i32::MIN,
        i32::MAX,
        [i32::MIN as f32, i32::MAX as f32],
    );
    check(&folder, "uint32", 0u32, u32::MAX, [0.0, u32::MAX as f32]);
    check(
        &folder,
        "int64",
        i64::MIN,
        i64::MAX,
        [i64::MIN as f32, i64::MAX as f32],
    );
    check(&folder, "uint64", 0u64, u64::MAX, [0.0, u64::MAX as f32]);
    check(
        &folder,
        "float32",
        f32::NEG_INFINITY,
        0.1,
        [f32::NEG_INFINITY, 0.1],
    );
    check(&folder, "float64", 0.1f64, 1e300, [0.1, f32::INFINITY]);
}

#[test]
fn complex_and_colours_are_refused_in_words() {
    #[derive(H5Type, Clone)]
    #[repr(C)]
    struct Complex {
        r: f32,
        i: f32,
    }
    #[derive(H5Type, Clone)]
    #[repr(C)]
    #[allow(non_snake_case)]
    struct Colour {
        R: u8,
        G: u8,
        B: u8,
    }
    let folder = Folder::new();
    let (path, file) = folder.file("complex.hspy");
    let data = ArrayD::from_elem(IxDyn(&[2, 2, 2]), Complex { r: 1.0, i: 0.0 });
    experiment(&file, "cube", &data, &[Y, X, E], "EELS");
    file.close().unwrap();
    assert!(refusal(&path).contains("complex"));
    let error = inspect(&path, &Options::default()).unwrap_err();
    assert_eq!(crate::comm::exit_code(&error), 2);

    let (path, file) = folder.file("colour.hspy");
    let data = ArrayD::from_elem(IxDyn(&[2, 2]), Colour { R: 1, G: 2, B: 3 });
    experiment(&file, "picture", &data, &[Y, X], "");
    file.close().unwrap();
    assert!(refusal(&path).contains("RGB"));
}

#[test]
fn files_that_are_no_files_are_named() {
    let folder = Folder::new();
    let path = folder.path("empty.hspy");
    std::fs::write(&path, "").unwrap();
    assert!(refusal(&path).contains("empty"));
    std::fs::write(&path, "not an HDF5 file at all").unwrap();
    assert!(refusal(&path).contains("no HDF5 file"));
    assert!(refusal(&folder.path("missing.hspy")).contains("No such file"));
    assert!(refusal(folder.0.path()).contains("no regular file"));

    let (path, file) = folder.file("whole.hspy");
    experiment(&file, "cube", &values().into_dyn(), &[Y, X, E], "EELS");
    file.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in [100, bytes.len() / 2, bytes.len() - 1] {
        let path = folder.path(&format!("cut{length}.hspy"));
        std::fs::write(&path, &bytes[..length]).unwrap();
        let message = refusal(&path);
        assert!(
            message.contains("cut short") && message.contains("copy it again"),
            "{message}"
        );
    }
}

#[test]
fn plain_files_offer_their_datasets() {
    let folder = Folder::new();
    let (path, file) = folder.file("plain.h5");
    file.new_dataset_builder()
        .with_data(&values())
        .create("entry/counts")
        .unwrap();
    file.new_dataset_builder()
        .with_data(&[1.0f64, 2.0])
        .create("other")
        .unwrap();
    file.link_hard("entry", "alias").unwrap();
    file.link_soft("/nowhere", "dangling").unwrap();
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(
        (reader.info().format.as_str(), read_all(&reader)),
        ("hdf5", values())
    );
    assert!(reader
        .problems()
        .iter()
        .any(|problem| problem.contains("no energy calibration")));

    let (path, file) = folder.file("two.h5");
    for name in ["a", "b"] {
        file.new_dataset_builder()
            .with_data(&values())
            .create(name)
            .unwrap();
    }
    file.close().unwrap();
    assert!(refusal(&path).contains("a [3, 4, 5], b [3, 4, 5]"));
    let wanted = |name: &str| Options {
        dataset: Some(name.into()),
        ..Options::default()
    };
    assert!(Reader::open(&path, &wanted("/b")).is_ok());
    assert!(
        format!("{:#}", Reader::open(&path, &wanted("c")).err().unwrap())
            .contains("one of: a [3, 4, 5]")
    );
}

#[test]
fn nexus_axes_calibrate() {
    let folder = Folder::new();
    let (path, file) = folder.file("si.nxs");
    let group = file.create_group("entry/data").unwrap();
    text(&group, "NX_class", "NXdata");
    let stored = values()
        .permuted_axes([2, 0, 1])
        .as_standard_layout()
        .into_owned();
    group
        .new_dataset_builder()
        .with_data(&stored)
        .create("data")
        .unwrap();
    let names: Vec<VarLenUnicode> = ["energy", "y", "x"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    group
        .new_attr_builder()
        .with_data(&names)
        .create("axes")
        .unwrap();
    let energy: Vec<f32> = (0..5).map(|i| 0.45 + 0.001 * i as f32).collect();
    let dataset = group
        .new_dataset_builder()
        .with_data(&energy)
        .create("energy")
        .unwrap();
    let units: VarLenUnicode = "keV".parse().unwrap();
    dataset
        .new_attr::<VarLenUnicode>()
        .create("units")
        .unwrap()
        .write_scalar(&units)
        .unwrap();
    drop((group, dataset));
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(
        (reader.info().format.as_str(), read_all(&reader)),
        ("nexus", values())
    );
    assert!(
        (reader.info().energy.scale - 1.0).abs() < 1e-4,
        "{:?}",
        reader.info().energy
    );
}

#[test]
fn companions_read_whatever_their_flags_and_types() {
    let folder = Folder::new();
    let cube = folder.path("cube.dm3");
    assert!(user_mask(&cube, [3, 4]).unwrap().is_none());
    let map = ArrayD::from_shape_fn(IxDyn(&[3, 4]), |i| i[0] == 1);
    let (_, file) = folder.file("cube.mask.hspy");
    experiment(&file, "mask", &map, &[Y, X], "");
    file.close().unwrap();
    let mask = user_mask(&cube, [3, 4]).unwrap().unwrap();
    assert_eq!(mask.iter().filter(|&&ignored| ignored).count(), 4);
    let message = format!("{:#}", user_mask(&cube, [4, 3]).unwrap_err());
    assert!(
        message.contains("[3, 4]") && message.contains("[4, 3]"),
        "{message}"
    );

    let (_, file) = folder.file("cube.truth.hspy");
    experiment(
        &file,
        "truth",
        &map.mapv(|is| 2 * i64::from(is)),
        &[("", "", 1.0, 0.0, false); 2],
        "",
    );
    file.close().unwrap();
    assert_eq!(truth(&cube, [3, 4]).unwrap().unwrap().sum(), 8);
}

#[test]
fn a_fingerprint_knows_the_data_not_the_path() {
    let folder = Folder::new();
    let (path, file) = folder.file("a.hspy");
    experiment(&file, "cube", &values().into_dyn(), &[Y, X, E], "EELS");
    file.close().unwrap();
    let before = open(&path).fingerprint().unwrap();
    let moved = folder.path("b.hspy");
    std::fs::rename(&path, &moved).unwrap();
    assert_eq!(open(&moved).fingerprint().unwrap(), before);
}

#[test]
fn a_reader_can_move_to_a_prefetch_thread() {
    fn is_send<T: Send>() {}
    is_send::<Reader>();
}
