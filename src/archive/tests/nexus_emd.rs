//! HDF5 files whose attributes say which dataset is the signal: NeXus, EMD, Velox.

use super::*;

fn group_of(file: &File, name: &str, kind: &str, value: &str) -> Group {
    let group = file.create_group(name).unwrap();
    text(&group, kind, value);
    group
}

fn cube(group: &Group, name: &str, values: &Array3<f32>) {
    group.new_dataset_builder().with_data(values).create(name).unwrap();
}

/// An axis dataset beside the data; attributes are (name, value).
fn axis(group: &Group, name: &str, values: &[f64], attributes: &[(&str, &str)]) {
    let dataset = group.new_dataset_builder().with_data(values).create(name).unwrap();
    for (name, value) in attributes {
        let value: VarLenUnicode = value.parse().unwrap();
        dataset.new_attr::<VarLenUnicode>().create(*name).unwrap().write_scalar(&value).unwrap();
    }
}

#[test]
fn the_signal_of_nxdata_is_the_cube() {
    let folder = Folder::new();
    let (path, file) = folder.file("errors.nxs");
    let group = group_of(&file, "entry/spectra", "NX_class", "NXdata");
    text(&group, "signal", "counts");
    cube(&group, "counts", &values());
    cube(&group, "counts_errors", &Array3::zeros((3, 4, 5)));
    drop(group);
    file.close().unwrap();
    assert_eq!(read_all(&open(&path)), values());

    // Of two signals the one that `default` leads to.
    let (path, file) = folder.file("default.nxs");
    for name in ["raw", "processed"] {
        let group = group_of(&file, &format!("entry/{name}"), "NX_class", "NXdata");
        text(&group, "signal", "data");
        let factor = if name == "raw" { 1.0 } else { 2.0 };
        cube(&group, "data", &(values() * factor));
    }
    text(&file.group("entry").unwrap(), "default", "processed");
    file.close().unwrap();
    assert!(refusal(&path).contains("entry/processed/data [3, 4, 5], entry/raw/data"));
    let file = File::append(&path).unwrap();
    text(&file, "default", "entry");
    file.close().unwrap();
    assert_eq!(read_all(&open(&path)), values() * 2.0);
}

#[test]
fn indices_tell_which_dimension_an_axis_is_of() {
    let folder = Folder::new();
    let (path, file) = folder.file("indices.nxs");
    let group = group_of(&file, "entry", "NX_class", "NXdata");
    text(&group, "signal", "data");
    let stored = values().permuted_axes([2, 0, 1]).as_standard_layout().into_owned();
    cube(&group, "data", &stored);
    let names: Vec<VarLenUnicode> = ["x", "energy"].iter().map(|name| name.parse().unwrap()).collect();
    group.new_attr_builder().with_data(&names).create("axes").unwrap();
    attribute(&group, "x_indices", 2i64);
    attribute(&group, "energy_indices", 0i64);
    axis(&group, "x", &[1.0, 1.5, 2.0, 2.5], &[("units", "nm")]);
    axis(&group, "energy", &[450.0, 450.5, 451.0, 451.5, 452.0], &[("units", "eV")]);
    drop(group);
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(read_all(&reader), values());
    let info = reader.info();
    assert_eq!((info.x.offset, info.x.scale, info.energy.offset), (1.0, 0.5, 450.0));
}

#[test]
fn a_line_is_found_by_its_labels() {
    let folder = Folder::new();
    let (path, file) = folder.file("line.nxs");
    let group = group_of(&file, "entry", "NX_class", "NXdata");
    text(&group, "signal", "data");
    let line = values().into_shape_with_order((12, 5)).unwrap();
    group.new_dataset_builder().with_data(&line).create("data").unwrap();
    let names: Vec<VarLenUnicode> = [".", "energy"].iter().map(|name| name.parse().unwrap()).collect();
    group.new_attr_builder().with_data(&names).create("axes").unwrap();
    axis(&group, "energy", &[450.0, 450.5, 451.0, 451.5, 452.0], &[("units", "eV")]);
    drop(group);
    file.close().unwrap();
    assert_eq!(open(&path).info().shape(), [1, 12, 5]);
}

#[test]
fn an_emd_cube_stored_x_before_y_is_turned_round() {
    let folder = Folder::new();
    let (path, file) = folder.file("ncem.emd");
    let group = file.create_group("signals/SI").unwrap();
    attribute(&group, "emd_group_type", 1i64);
    let stored = values().permuted_axes([2, 1, 0]).as_standard_layout().into_owned();
    cube(&group, "data", &stored);
    cube(&group, "preview", &values());
    axis(&group, "dim1", &[450.0, 450.25], &[("name", "Energy loss"), ("units", "[e_V]")]);
    axis(&group, "dim2", &[0.0, 2.0], &[("name", "x"), ("units", "[n_m]")]);
    axis(&group, "dim3", &[0.0, 3.0], &[("name", "y"), ("units", "[n_m]")]);
    drop(group);
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(read_all(&reader), values());
    let info = reader.info();
    assert_eq!((info.y.scale, info.x.scale, info.energy.scale), (3.0, 2.0, 0.25));
    assert_eq!(reader.read(1..3, 0..2, 4..5).unwrap(), values().slice(ndarray::s![1..3, 0..2, 4..5]));
    assert_eq!(inspect(&path, &Options::default()).unwrap().shape, [3, 4, 5]);
}

#[test]
fn a_velox_file_is_refused_in_words_unless_a_dataset_is_named() {
    let folder = Folder::new();
    let (path, file) = folder.file("velox.emd");
    let version: VarLenUnicode = r#"{"format": "Velox", "version": "1.0"}"#.parse().unwrap();
    file.new_dataset_builder().with_data(&[version]).create("Version").unwrap();
    cube(&file.create_group("Data/Image/0a1b").unwrap(), "Data", &values());
    file.close().unwrap();
    assert!(refusal(&path).contains("a Velox file"));
    let summary = inspect(&path, &Options::default()).unwrap();
    assert!(summary.problems.iter().any(|problem| problem.contains("Velox")), "{summary:?}");
    let named = Options { dataset: Some("Data/Image/0a1b/Data".into()), ..Options::default() };
    assert_eq!(read_all(&Reader::open(&path, &named).unwrap()), values());
}
