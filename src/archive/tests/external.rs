//! Cubes whose values lie in other files: read if these are there, otherwise refused, as HDF5 would read zeros.

use hdf5::plist::dataset_create::Layout;

use super::*;

/// `virtual.h5`, whose values are dataset `a` of `part.h5`.
fn written(folder: &Folder) -> PathBuf {
    let (_, part) = folder.file("part.h5");
    part.new_dataset_builder().with_data(&values()).create("a").unwrap();
    part.close().unwrap();
    let (path, file) = folder.file("virtual.h5");
    file.new_dataset::<f32>()
        .shape((3, 4, 5))
        .layout(Layout::Virtual)
        .virtual_map("part.h5", "a", (3, 4, 5), .., (3, 4, 5), ..)
        .create("data")
        .unwrap();
    file.close().unwrap();
    path
}

#[test]
fn a_virtual_cube_is_read_while_its_parts_are_there() {
    let folder = Folder::new();
    let path = written(&folder);
    assert_eq!(read_all(&open(&path)), values());
    let part = folder.path("part.h5");
    File::create(&part).unwrap().close().unwrap();
    assert!(refusal(&path).contains("lacks its part a"));
    std::fs::remove_file(&part).unwrap();
    assert!(refusal(&path).contains("\"part.h5\" is not there"));
    let problems = inspect(&path, &Options::default()).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("virtual")), "{problems:?}");
}

#[test]
fn values_in_a_file_of_their_own_are_looked_for() {
    let folder = Folder::new();
    let (path, file) = folder.file("external.h5");
    let raw = folder.path("raw.bin");
    let bytes: Vec<u8> = values().iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(&raw, &bytes).unwrap();
    file.new_dataset::<f32>().shape((3, 4, 5)).external(raw.to_str().unwrap(), 0, bytes.len()).create("data").unwrap();
    file.close().unwrap();
    assert_eq!(read_all(&open(&path)), values());
    std::fs::remove_file(&raw).unwrap();
    assert!(refusal(&path).contains("raw.bin\", which is not there"));
}

#[test]
fn what_is_not_calibrated_is_named() {
    let folder = Folder::new();
    let (path, file) = folder.file("bare.hspy");
    let bare = ("Energy loss", "", 1.0, 0.0, false);
    let flat = ("x", "nm", 0.0, 0.0, true);
    experiment(&file, "cube", &values().into_dyn(), &[Y, flat, bare], "EELS");
    file.close().unwrap();
    let problems = open(&path).problems().join("; ");
    for word in ["no energy calibration", "no units", "\"x\" has scale 0"] {
        assert!(problems.contains(word), "{problems}");
    }
}
