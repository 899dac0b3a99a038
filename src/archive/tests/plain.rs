//! Plain HDF5 and NeXus, number types, and files that are refused whatever their format.

use std::os::unix::ffi::OsStrExt;

use super::*;

#[test]
fn every_number_becomes_a_float32() {
    fn check<T: H5Type>(folder: &Folder, name: &str, low: T, high: T, expected: [f32; 2]) {
        let (path, file) = folder.file(&format!("{name}.h5"));
        let data = ArrayD::from_shape_vec(IxDyn(&[1, 1, 2]), vec![low, high]).unwrap();
        file.new_dataset_builder().with_data(data.view()).create("data").unwrap();
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
    check(&folder, "int32", i32::MIN, i32::MAX, [i32::MIN as f32, i32::MAX as f32]);
    check(&folder, "uint32", 0u32, u32::MAX, [0.0, u32::MAX as f32]);
    check(&folder, "int64", i64::MIN, i64::MAX, [i64::MIN as f32, i64::MAX as f32]);
    check(&folder, "uint64", 0u64, u64::MAX, [0.0, u64::MAX as f32]);
    check(&folder, "float32", f32::NEG_INFINITY, 0.1, [f32::NEG_INFINITY, 0.1]);
    check(&folder, "float64", 0.1f64, 1e300, [0.1, f32::INFINITY]);
    check(&folder, "float16", half::f16::MIN, half::f16::EPSILON, [-65504.0, 0.0009765625]);
}

#[test]
fn axes_of_one_place_are_dropped_and_series_are_called_so() {
    let folder = Folder::new();
    let energy = (0..5).map(|e| 450.0 + 0.25 * f64::from(e)).collect::<Vec<_>>();
    let write = |name: &str, data: ArrayD<f32>, dim: usize| {
        let (path, file) = folder.file(name);
        let axes: Vec<String> = (0..data.ndim()).map(|i| if i == dim { "energy".into() } else { ".".into() }).collect();
        let group = file.create_group("data").unwrap();
        group.new_dataset_builder().with_data(data.view()).create("counts").unwrap();
        group.new_dataset_builder().with_data(&energy).create("energy").unwrap();
        text(&group, "NX_class", "NXdata");
        text(&group, "signal", "counts");
        let axes: Vec<VarLenUnicode> = axes.iter().map(|axis| axis.parse().unwrap()).collect();
        group.new_attr::<VarLenUnicode>().shape(axes.len()).create("axes").unwrap().write_raw(&axes).unwrap();
        file.close().unwrap();
        path
    };
    let shape = |shape: &[usize]| values().into_dyn().into_shape_with_order(IxDyn(shape)).unwrap();
    for (i, sizes) in [&[1, 3, 4, 5][..], &[3, 1, 4, 5], &[3, 4, 1, 5], &[1, 3, 1, 4, 5]].iter().enumerate() {
        let reader = open(&write(&format!("{i}.nxs"), shape(sizes), sizes.len() - 1));
        assert_eq!(read_all(&reader), values(), "{sizes:?}");
        assert_eq!(reader.info().energy.offset, 450.0);
        let (path, file) = folder.file(&format!("{i}.h5"));
        file.new_dataset_builder().with_data(shape(sizes).view()).create("counts").unwrap();
        file.close().unwrap();
        assert_eq!(read_all(&open(&path)), values(), "{sizes:?}");
    }
    let first = values().permuted_axes([2, 0, 1]).as_standard_layout().into_owned();
    let first = first.into_dyn().into_shape_with_order(IxDyn(&[5, 1, 3, 4])).unwrap();
    assert_eq!(read_all(&open(&write("first.nxs", first, 0))), values());

    let frames = ndarray::stack(Dimension(0), &[values().view(), values().view()]).unwrap().into_dyn();
    let (path, file) = folder.file("series.h5");
    file.new_dataset_builder().with_data(frames.view()).create("counts").unwrap();
    file.close().unwrap();
    for path in [path, write("series.nxs", frames, 3)] {
        let message = refusal(&path);
        assert!(message.contains("4 dimensions (2 x 3 x 4 x 5)") && message.contains("s.sum(axis=2)"), "{message}");
    }
}

#[test]
fn an_energy_axis_that_nothing_names_is_known_by_its_length_and_fall() {
    let folder = Folder::new();
    let write = |name: &str, data: ArrayD<f32>| {
        let (path, file) = folder.file(name);
        file.new_dataset_builder().with_data(data.view()).create("counts").unwrap();
        file.close().unwrap();
        path
    };
    let cube = |fall: f64| {
        let counts =
            move |e: usize, y: usize, x: usize| (1e3 * (-fall * e as f64 / 200.0).exp()) as f32 + (y + x) as f32;
        ArrayD::from_shape_fn(IxDyn(&[200, 12, 16]), |at| counts(at[0], at[1], at[2]))
    };
    let reader = open(&write("first.h5", cube(1.0)));
    assert_eq!(reader.info().shape(), [12, 16, 200]);
    assert_eq!(reader.read(3..4, 5..6, 0..1).unwrap()[[0, 0, 0]], 1008.0);
    assert!(reader.problems()[0].contains("dimension 0 of [200, 12, 16] is taken"), "{:?}", reader.problems());
    // A field of 200 lines: nothing falls along them.
    let reader = open(&write("lines.h5", cube(0.0)));
    assert_eq!(reader.info().shape(), [200, 12, 16]);
    assert!(reader.problems()[0].contains("the last one is taken"));
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
    let packed = folder.path("cube.dm3.gz");
    std::fs::write(&packed, b"\x1f\x8b...").unwrap();
    assert!(refusal(&packed).contains("unpack it"));
    let named = folder.0.path().join(std::ffi::OsStr::from_bytes(b"b\xff.hspy"));
    let (path_of_whole, file) = folder.file("named.hspy");
    experiment(&file, "cube", &values().into_dyn(), &[Y, X, E], "EELS");
    file.close().unwrap();
    std::fs::rename(path_of_whole, &named).unwrap();
    assert!(refusal(&named).contains("rename it"));
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
        assert!(message.contains("cut short") && message.contains("copy it again"), "{message}");
    }
}

#[test]
fn plain_files_offer_their_datasets() {
    let folder = Folder::new();
    let (path, file) = folder.file("plain.h5");
    file.new_dataset_builder().with_data(&values()).create("entry/counts").unwrap();
    file.new_dataset_builder().with_data(&[1.0f64, 2.0]).create("other").unwrap();
    file.link_hard("entry", "alias").unwrap();
    file.link_soft("/nowhere", "dangling").unwrap();
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!((reader.info().format.as_str(), read_all(&reader)), ("hdf5", values()));
    assert!(reader.problems().iter().any(|problem| problem.contains("no energy calibration")));

    let (path, file) = folder.file("two.h5");
    for name in ["a", "b"] {
        file.new_dataset_builder().with_data(&values()).create(name).unwrap();
    }
    file.close().unwrap();
    assert!(refusal(&path).contains("a [3, 4, 5], b [3, 4, 5]"));
    let wanted = |name: &str| Options { dataset: Some(name.into()), ..Options::default() };
    assert!(Reader::open(&path, &wanted("/b")).is_ok());
    assert!(format!("{:#}", Reader::open(&path, &wanted("c")).err().unwrap()).contains("one of: a [3, 4, 5]"));
}

#[test]
fn nexus_axes_calibrate() {
    let folder = Folder::new();
    let (path, file) = folder.file("si.nxs");
    let group = file.create_group("entry/data").unwrap();
    text(&group, "NX_class", "NXdata");
    let stored = values().permuted_axes([2, 0, 1]).as_standard_layout().into_owned();
    group.new_dataset_builder().with_data(&stored).create("data").unwrap();
    let names: Vec<VarLenUnicode> = ["energy", "y", "x"].iter().map(|name| name.parse().unwrap()).collect();
    group.new_attr_builder().with_data(&names).create("axes").unwrap();
    let energy: Vec<f32> = (0..5).map(|i| 0.45 + 0.001 * i as f32).collect();
    let dataset = group.new_dataset_builder().with_data(&energy).create("energy").unwrap();
    let units: VarLenUnicode = "keV".parse().unwrap();
    dataset.new_attr::<VarLenUnicode>().create("units").unwrap().write_scalar(&units).unwrap();
    drop((group, dataset));
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!((reader.info().format.as_str(), read_all(&reader)), ("nexus", values()));
    assert!((reader.info().energy.scale - 1.0).abs() < 1e-4, "{:?}", reader.info().energy);
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
