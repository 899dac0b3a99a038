//! HyperSpy files: axis orders, energies, the choice among experiments, companions.

use super::*;

#[test]
fn any_axis_order_reads_alike() {
    let folder = Folder::new();
    let axes = [Y, X, E];
    for (i, order) in [[0, 1, 2], [2, 0, 1], [0, 2, 1]].into_iter().enumerate() {
        let (path, file) = folder.file(&format!("{i}.hspy"));
        let stored = values().permuted_axes(order).as_standard_layout().into_owned().into_dyn();
        experiment(&file, "cube", &stored, &order.map(|dim| axes[dim]), "EELS");
        file.close().unwrap();
        let reader = open(&path);
        assert_eq!(reader.info().shape(), [3, 4, 5]);
        assert_eq!((reader.info().energy.offset, reader.info().x.offset), (450.0, -2.0));
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
    experiment(&file, "spectrum", &ArrayD::from_elem(IxDyn(&[5]), 7u8), &[E], "");
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!((reader.info().shape(), reader.info().dtype.as_str()), ([1, 1, 5], "uint8"));
    assert_eq!(read_all(&reader)[[0, 0, 4]], 7.0);
}

#[test]
fn energies_come_in_ev() {
    let folder = Folder::new();
    for (units, scale, offset) in [("keV", 0.25e-3, 0.45), ("meV", 250.0, 450e3), ("_None_", 0.25, 450.0)] {
        let (path, file) = folder.file(&format!("{units}.hspy"));
        experiment(&file, "cube", &values().into_dyn(), &[Y, X, ("Energy loss", units, scale, offset, false)], "EELS");
        file.close().unwrap();
        let reader = open(&path);
        let energy = &reader.info().energy;
        assert!((energy.scale - 0.25).abs() < 1e-12 && (energy.offset - 450.0).abs() < 1e-9, "{energy:?}");
        assert_eq!(reader.problems().len(), usize::from(units == "_None_"));
    }
}

#[test]
fn the_one_cube_among_experiments_is_taken() {
    let folder = Folder::new();
    let (path, file) = folder.file("many.hspy");
    let cube = values().into_dyn();
    experiment(&file, "cube", &cube, &[Y, X, E], "EELS");
    experiment(&file, "line", &ArrayD::<f32>::zeros(IxDyn(&[4, 5])), &[X, E], "EELS");
    experiment(&file, "x-rays", &cube, &[Y, X, ("Energy", "keV", 0.01, 0.0, false)], "EDS_TEM");
    experiment(&file, "image", &ArrayD::<f32>::zeros(IxDyn(&[3, 4])), &[Y, X], "");
    file.close().unwrap();
    assert_eq!(read_all(&open(&path)), values());

    let (path, file) = folder.file("two.hspy");
    experiment(&file, "before", &cube, &[Y, X, E], "EELS");
    experiment(&file, "after", &cube, &[Y, X, E], "EELS");
    file.close().unwrap();
    let message = refusal(&path);
    assert!(message.contains("\"Experiments/after/data\" or \"Experiments/before/data\""), "{message}");
    assert!(message.contains("archive.dataset"), "{message}");
    let options = Options { dataset: Some("/Experiments/before/data".into()), ..Options::default() };
    assert_eq!(read_all(&Reader::open(&path, &options).unwrap()), values());
    let options = Options { dataset: Some("Experiments/during/data".into()), ..Options::default() };
    assert!(format!("{:#}", Reader::open(&path, &options).err().unwrap()).contains("no experiment \"during\""));
}

#[test]
fn what_is_no_spectrum_image_is_described_but_not_read() {
    let folder = Folder::new();
    let (path, file) = folder.file("image.hspy");
    experiment(&file, "image", &ArrayD::<u16>::zeros(IxDyn(&[3, 4])), &[Y, X], "");
    file.close().unwrap();
    assert!(refusal(&path).contains("no signal axis"));
    let summary = inspect(&path, &Options::default()).unwrap();
    assert_eq!((summary.shape, summary.dtype.as_str()), (vec![3, 4], "uint16"));
    assert!(summary.problems[0].contains("no EELS spectrum image"), "{:?}", summary.problems);

    for scale in [-0.25, 0.0] {
        let (path, file) = folder.file(&format!("scale{scale}.hspy"));
        experiment(&file, "cube", &values().into_dyn(), &[Y, X, ("Energy loss", "eV", scale, 1.0, false)], "EELS");
        file.close().unwrap();
        assert!(refusal(&path).contains("runs backwards"));
    }
}

#[test]
fn axes_that_lie_are_refused_and_those_that_lack_attributes_read() {
    let folder = Folder::new();
    let (path, file) = folder.file("lies.hspy");
    let group = experiment(&file, "cube", &values().into_dyn(), &[Y, X, E], "EELS");
    group.group("axis-0").unwrap().attr("size").unwrap().write_scalar(&9i64).unwrap();
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
    assert_eq!((reader.info().y.scale, reader.info().y.name.as_str()), (1.0, "y"));
    assert_eq!(read_all(&reader), values());
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
    assert!(message.contains("[3, 4]") && message.contains("[4, 3]"), "{message}");

    let (_, file) = folder.file("cube.truth.hspy");
    experiment(&file, "truth", &map.mapv(|is| 2 * i64::from(is)), &[("", "", 1.0, 0.0, false); 2], "");
    file.close().unwrap();
    assert_eq!(truth(&cube, [3, 4]).unwrap().unwrap().sum(), 8);
}
