//! Gatan files: every number type and byte order, the choice among images, windows of large cubes.

use super::dm_file::{Form, Node, Spec, document, energy_first, text};
use super::*;
use crate::archive::Metadata;

const FORM: Form = Form { version: 4, little: true };

fn write(folder: &Folder, form: Form, images: Vec<Spec>) -> PathBuf {
    let path = folder.path(&format!("x.dm{}", form.version));
    std::fs::write(&path, form.file(&document(images))).unwrap();
    path
}

fn image(index: usize) -> Options {
    Options { image: Some(index), ..Options::default() }
}

/// A cube of [`energy_first`], `[y, x, energy]`.
fn expected([ne, ny, nx]: [u32; 3]) -> Array3<f32> {
    let shape = (ny as usize, nx as usize, ne as usize);
    Array3::from_shape_fn(shape, |(y, x, e)| f32::from(((e as u32 * ny + y as u32) * nx + x as u32) as u16))
}

#[test]
fn both_versions_and_byte_orders_agree() {
    let folder = Folder::new();
    for form in Form::ALL {
        let path = write(&folder, form, vec![energy_first(form, "SI µ", [5, 3, 4], 450.0)]);
        let reader = open(&path);
        let info = reader.info();
        assert_eq!(read_all(&reader), expected([5, 3, 4]), "{form:?}");
        assert_eq!((info.dtype.as_str(), info.shape()), ("uint16", [3, 4, 5]));
        assert_eq!((info.energy.offset, info.energy.scale), (450.0, 0.5));
        assert_eq!(info.energy.units, "eV");
        // offset = -origin * scale
        assert_eq!((info.y.offset, info.x.offset), (-2.0, -2.0));
        assert_eq!((info.y.name.as_str(), info.x.name.as_str()), ("y", "x"));
        let about = reader.microscope();
        assert_eq!(about.title.as_deref(), Some("SI µ"));
        assert_eq!(about.beam_energy_kev, Some(200.0));
        assert_eq!((about.gain_factor, about.gain_offset), (Some(0.5), Some(2.0)));
    }
}

#[test]
fn every_number_of_a_gatan_file_becomes_a_float32() {
    macro_rules! check {
        ($folder:expr, $data_type:expr, $code:expr, $dtype:expr, $number:ty) => {
            for form in Form::ALL {
                let low: $number = <$number>::MIN;
                let high: $number = <$number>::MAX;
                let bytes = [low, high].map(|value| form.ordered(value.to_le_bytes()));
                let spec = Spec {
                    data_type: $data_type,
                    sizes: vec![2],
                    axes: vec![(0.0, 1.0, "eV")],
                    data: Node::Array($code, size_of::<$number>(), bytes.concat()),
                    ..energy_first(form, "spectrum", [1, 1, 1], 0.0)
                };
                let reader = open(&write($folder, form, vec![spec]));
                assert_eq!(reader.info().dtype, $dtype);
                assert_eq!(reader.info().shape(), [1, 1, 2]);
                let read = read_all(&reader).into_raw_vec_and_offset().0;
                assert_eq!(read, [low as f32, high as f32], "{} {form:?}", $dtype);
            }
        };
    }
    let folder = Folder::new();
    check!(&folder, 9, 9, "int8", i8);
    check!(&folder, 6, 10, "uint8", u8);
    check!(&folder, 14, 8, "bool", u8);
    check!(&folder, 1, 2, "int16", i16);
    check!(&folder, 10, 4, "uint16", u16);
    check!(&folder, 7, 3, "int32", i32);
    check!(&folder, 11, 5, "uint32", u32);
    check!(&folder, 39, 11, "int64", i64);
    check!(&folder, 40, 12, "uint64", u64);
    check!(&folder, 2, 6, "float32", f32);
    check!(&folder, 12, 7, "float64", f64);
}

#[test]
fn energy_last_and_lines_are_read() {
    let folder = Folder::new();
    let last = Spec {
        axes: vec![(-900.0, 0.5, "eV"), (0.0, 1.0, "nm"), (0.0, 1.0, "nm")],
        ..energy_first(FORM, "cube", [3, 4, 5], 0.0)
    };
    let reader = open(&write(&folder, FORM, vec![last]));
    let stored = Array3::from_shape_fn((3, 4, 5), |(y, x, e)| ((y * 4 + x) * 5 + e) as f32);
    assert_eq!(read_all(&reader), stored);
    assert_eq!(reader.info().energy.offset, 450.0);

    let line = Spec {
        sizes: vec![5, 12],
        axes: vec![(-900.0, 0.5, "eV"), (0.0, 1.0, "nm")],
        ..energy_first(FORM, "line", [3, 4, 5], 0.0)
    };
    let reader = open(&write(&folder, FORM, vec![line]));
    assert_eq!(reader.info().shape(), [1, 12, 5]);
    let pixels = stored.into_shape_with_order((1, 12, 5)).unwrap();
    assert_eq!(read_all(&reader), pixels);
}

#[test]
fn windows_of_large_cubes_are_read_in_pieces() {
    let folder = Folder::new();
    // Several blocks of planes; lines that are no whole block; gaps that are read over and gaps that are not.
    for shape in [[40, 300, 300], [2, 45, 70_000], [70, 9, 5000]] {
        let path = write(&folder, FORM, vec![energy_first(FORM, "large", shape, 100.0)]);
        let reader = open(&path);
        let all = expected(shape);
        assert_eq!(read_all(&reader), all, "{shape:?}");
        let [ny, nx, ne] = reader.info().shape();
        for part in [
            [0..ny, 7..nx - 3, 0..ne],
            [1..ny, nx / 2..nx / 2 + 2, 0..ne],
            [ny / 2..ny / 2 + 2, 0..nx, 1..ne],
            [ny - 1..ny, nx - 1..nx, ne - 1..ne],
            [2..2, 0..nx, 0..ne],
        ] {
            let [y, x, e] = part.clone();
            let window = reader.read(y.clone(), x.clone(), e.clone()).unwrap();
            assert_eq!(window, all.slice(ndarray::s![y, x, e]), "{shape:?} {part:?}");
        }
    }
}

#[test]
fn a_cube_larger_than_memory_is_read_by_windows() {
    use std::os::unix::fs::FileExt;
    let folder = Folder::new();
    let [ne, ny, nx] = [2048u32, 3000, 2500];
    let marker = [0xab; 16];
    let large = Spec {
        sizes: vec![nx, ny, ne],
        data: Node::Array(4, 2, marker.to_vec()),
        ..energy_first(FORM, "large", [1, 1, 1], 450.0)
    };
    // The data are a hole in the file, but for one value.
    let mut head = FORM.file(&document(vec![large]));
    let place = head.windows(16).position(|part| part == marker).unwrap();
    let tail = head.split_off(place).split_off(marker.len());
    let count = u64::from(ne) * u64::from(ny) * u64::from(nx);
    head[place - 8..].copy_from_slice(&count.to_be_bytes());
    let path = folder.path("large.dm4");
    let file = std::fs::File::create(&path).unwrap();
    file.write_all_at(&head, 0).unwrap();
    file.write_all_at(&tail, place as u64 + count * 2).unwrap();
    let (e, y, x) = (2000, 1501, 2400);
    let value = place as u64 + ((e * 3000 + y) * 2500 + x) * 2;
    file.write_all_at(&7u16.to_le_bytes(), value).unwrap();

    let reader = open(&path);
    assert_eq!(reader.info().shape(), [3000, 2500, 2048]);
    let window = reader.read(1500..1502, 2300..2500, 0..2048).unwrap();
    assert_eq!(window[[1, 100, 2000]], 7.0);
    assert_eq!(window.sum(), 7.0);
}

#[test]
fn the_core_loss_image_is_chosen_by_its_tags() {
    let folder = Folder::new();
    let cube = |title, first| energy_first(FORM, title, [6, 2, 2], first);
    let survey =
        || Spec { sizes: vec![6, 4], axes: vec![], signal: "DigiScan", format: "Image", ..cube("survey", 0.0) };
    let x_rays = || Spec { signal: "X-ray", ..cube("EDS", 450.0) };
    let both = || vec![survey(), cube("low loss", -1.0), x_rays(), cube("core loss", 450.0)];
    let path = write(&folder, FORM, both());
    assert_eq!(open(&path).microscope().title.as_deref(), Some("core loss"));
    let low = Reader::open(&path, &image(1)).unwrap();
    assert_eq!(low.microscope().title.as_deref(), Some("low loss"));
    let summary = inspect(&path, &Options::default()).unwrap();
    assert_eq!(summary.images.len(), 4);
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
    // What the user insists on is read, and said to be odd.
    let eds = Reader::open(&path, &image(2)).unwrap();
    assert!(eds.problems()[0].contains("Meta Data:Signal is X-ray"), "{:?}", eds.problems());
    let message = format!("{:#}", Reader::open(&path, &image(4)).err().unwrap());
    assert!(message.contains("no image 4") && message.contains("3 (\"core loss\""), "{message}");

    // A low-loss cube alone is a cube; two core-loss ones need a choice.
    let path = write(&folder, FORM, vec![survey(), cube("low loss", -1.0)]);
    assert_eq!(open(&path).microscope().title.as_deref(), Some("low loss"));
    let path = write(&folder, FORM, vec![cube("a", 100.0), cube("b", 450.0)]);
    let message = refusal(&path);
    assert!(message.contains("archive.image: 0 (\"a\"") && message.contains("1 (\"b\""), "{message}");

    // Both ranges of a dual acquisition may begin below 0.
    let path = write(&folder, FORM, vec![cube("dual low loss", -2.0), cube("core loss", -1.0)]);
    assert_eq!(open(&path).microscope().title.as_deref(), Some("core loss"));

    // Without an EELS image the file is described, not read.
    let path = write(&folder, FORM, vec![survey(), x_rays()]);
    assert!(refusal(&path).contains("image 1: its Meta Data:Signal is X-ray, not EELS"));
    let summary = inspect(&path, &Options::default()).unwrap();
    assert_eq!(summary.shape, [6, 2, 2]);
    assert!(summary.problems[0].contains("no EELS spectrum image"));
}

#[test]
fn a_series_is_called_so() {
    let folder = Folder::new();
    let frames = |frames: u32| Spec {
        sizes: vec![4, 3, 5, frames],
        axes: vec![(0.0, 1.0, "nm"), (0.0, 1.0, "nm"), (-900.0, 0.5, "eV"), (0.0, 1.0, "s")],
        ..energy_first(FORM, "series", [5 * frames, 3, 4], 450.0)
    };
    let message = refusal(&write(&folder, FORM, vec![frames(2)]));
    assert!(message.contains("4 dimensions (2 x 5 x 3 x 4)") && message.contains("one frame"), "{message}");
    let reader = open(&write(&folder, FORM, vec![frames(1)]));
    assert_eq!(read_all(&reader), expected([5, 3, 4]));
}

#[test]
fn units_or_the_signal_alone_make_an_eels_image() {
    let folder = Folder::new();
    let by_units = Spec { signal: "", format: "", ..energy_first(FORM, "units", [5, 3, 4], 450.0) };
    assert_eq!(read_all(&open(&write(&folder, FORM, vec![by_units]))), expected([5, 3, 4]));
    let by_signal = Spec { axes: vec![], ..energy_first(FORM, "signal", [5, 3, 4], 450.0) };
    let reader = open(&write(&folder, FORM, vec![by_signal]));
    assert_eq!(read_all(&reader), expected([5, 3, 4]));
    assert!(reader.problems()[0].contains("no units"), "{:?}", reader.problems());
    let in_kev = Spec {
        axes: vec![(0.0, 1.0, ""), (0.0, 1.0, ""), (-100.0, 0.25, "keV")],
        ..energy_first(FORM, "keV", [5, 3, 4], 0.0)
    };
    let reader = open(&write(&folder, FORM, vec![in_kev]));
    assert_eq!((reader.info().energy.offset, reader.info().energy.scale), (25e3, 250.0));
}

#[test]
fn complex_and_coloured_images_are_refused_as_usage() {
    let folder = Folder::new();
    let complex = Spec {
        data_type: 3,
        data: Node::Raw(vec![20, 15, 0, 2, 0, 6, 0, 6, 60], vec![0; 480]),
        ..energy_first(FORM, "complex", [5, 3, 4], 450.0)
    };
    let colours = Spec {
        data_type: 23,
        data: Node::Array(3, 4, vec![0; 240]),
        ..energy_first(FORM, "colours", [5, 3, 4], 450.0)
    };
    for (spec, word) in [(complex, "complex values"), (colours, "RGB colours")] {
        let path = write(&folder, FORM, vec![spec]);
        assert!(refusal(&path).contains(word));
        let error = inspect(&path, &Options::default()).unwrap_err();
        assert_eq!(crate::comm::exit_code(&error), 2);
    }
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    let folder = Folder::new();
    let cube = || energy_first(FORM, "cube", [5, 3, 4], 450.0);
    let refuses = |spec: Spec, word: &str| {
        let message = refusal(&write(&folder, FORM, vec![spec]));
        assert!(message.contains(word), "{message}");
    };
    let sizes = |sizes: Vec<u32>| Spec { sizes, ..cube() };
    refuses(sizes(vec![4, 3, 6]), "do not make up");
    refuses(sizes(vec![u32::MAX; 3]), "do not make up");
    refuses(sizes(vec![u32::MAX; 9]), "do not make up");
    refuses(sizes(vec![0, 3, 5]), "do not make up");
    refuses(sizes(vec![]), "do not make up");
    refuses(Spec { data_type: 99, ..cube() }, "DataType is 99");
    let backwards = vec![(0.0, 1.0, ""), (0.0, 1.0, ""), (0.0, -1.0, "eV")];
    refuses(Spec { axes: backwards, ..cube() }, "backwards");
    let path = folder.path("none.dm4");
    std::fs::write(&path, FORM.file(&Node::Group(vec![("Name", text("empty"))]))).unwrap();
    assert!(refusal(&path).contains("without an image"));
}

#[test]
fn values_keep_their_type_and_tags_and_pictures_their_names() {
    let folder = Folder::new();
    let survey = Spec {
        data_type: 6,
        sizes: vec![3, 2],
        axes: vec![(0.0, 2.0, "nm"), (-1.0, 4.0, "nm")],
        signal: "",
        format: "Image",
        data: Node::Array(10, 1, vec![1, 2, 3, 4, 5, 6]),
        ..energy_first(FORM, "survey", [1, 1, 1], 0.0)
    };
    for form in Form::ALL {
        let cube = energy_first(form, "cube", [5, 3, 4], 450.0);
        let survey = Spec {
            data: Node::Array(10, 1, vec![1, 2, 3, 4, 5, 6]),
            axes: survey.axes.clone(),
            sizes: survey.sizes.clone(),
            ..survey
        };
        let path = write(&folder, form, vec![survey, cube]);
        let reader = open(&path);
        let stored: Array3<u16> = reader.read_stored(0..3, 0..4, 0..5).unwrap();
        assert_eq!(stored.mapv(f32::from), expected([5, 3, 4]));
        assert!(reader.read_stored::<f32>(0..3, 0..4, 0..5).is_err());

        let (pictures, others) = reader.pictures(&Options::default()).unwrap();
        assert!(pictures.len() == 1 && others.is_empty());
        let read = pictures[0].read::<u8>().unwrap();
        assert_eq!(read, ndarray::array![[1, 2, 3], [4, 5, 6]].into_dyn());
        let [y, x] = &pictures[0].axes[..] else {
            panic!("two axes");
        };
        assert_eq!((y.scale, y.offset, x.scale), (4.0, 4.0, 2.0));
        assert_eq!((&pictures[0].title[..], pictures[0].signal_type), ("survey", ""));

        let at = |tree: &Metadata, name: &str| match tree {
            Metadata::Group(members) => {
                let found = members.iter().find(|(known, _)| known == name);
                found.map(|(_, member)| member.clone())
            }
            _ => None,
        };
        let mut tags = reader.metadata().unwrap();
        for name in ["ImageList", "TagGroup2", "ImageData"] {
            tags = at(&tags, name).unwrap_or_else(|| panic!("{name} in {tags:?}"));
        }
        assert_eq!(at(&tags, "DataType"), Some(Metadata::Number(10.0)));
        assert_eq!(at(&tags, "Data"), None);
    }
}
