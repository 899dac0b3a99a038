//! HDF5 files as facilities, plugins and other programs write them: `judges/hdf5_files.py` says which.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use coreloss::archive::{Options, Reader, inspect};
use ndarray::Array3;

use crate::common::case::LIMIT;
use crate::common::{Ended, ask_python, coreloss, finish, folder, skip};

/// The folder of the files, and where hdf5plugin keeps its plugins, if it is there.
fn made() -> Option<&'static (PathBuf, Option<String>)> {
    static MADE: OnceLock<Option<(PathBuf, Option<String>)>> = OnceLock::new();
    let make = || {
        let folder = folder("files");
        let said = ask_python("tests/judges/hdf5_files.py", &[&folder])?;
        let plugins = said.lines().find_map(|line| line.strip_prefix("plugins "));
        Some((folder, plugins.map(str::to_owned)))
    };
    MADE.get_or_init(make).as_ref()
}

fn values() -> Array3<f32> {
    Array3::from_shape_fn((3, 4, 6), |(y, x, e)| (100 * y + 10 * x + e) as f32)
}

fn read(path: &Path) -> Reader {
    let reader = Reader::open(path, &Options::default()).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(reader.read(0..3, 0..4, 0..6).expect("values"), values(), "{}", path.display());
    reader
}

fn refusal(path: &Path) -> String {
    match Reader::open(path, &Options::default()) {
        Ok(_) => panic!("{} opened", path.display()),
        Err(error) => format!("{error:#}"),
    }
}

/// The calibration of y, x and energy.
fn calibration(reader: &Reader) -> [(f64, f64, String); 3] {
    let info = reader.info();
    [&info.y, &info.x, &info.energy].map(|axis| (axis.offset, axis.scale, axis.units.clone()))
}

#[test]
fn virtual_datasets_are_read_and_missing_parts_named() {
    let Some((folder, _)) = made() else { return };
    let reader = read(&folder.join("virtual.h5"));
    assert_eq!(reader.files().len(), 3);
    let said = refusal(&folder.join("virtual_gone.h5"));
    assert!(said.contains("\"gone0.h5\" is not there"), "{said}");
}

#[test]
fn every_place_of_a_calibration_is_used() {
    let Some((folder, _)) = made() else { return };
    let nm = |offset: f64| (offset, 2.0, "nm".to_string());
    let energy = || (450.0, 0.5, "eV".to_string());
    for name in ["scales.h5", "edges.nxs", "reversed.nxs", "swift.h5", "swift_old.h5"] {
        let reader = read(&folder.join(name));
        assert_eq!(calibration(&reader), [nm(20.0), nm(10.0), energy()], "{name}");
        let problems = reader.problems();
        assert_eq!(problems.len(), usize::from(name == "reversed.nxs"), "{name}: {problems:?}");
        assert!(problems.iter().all(|problem| problem.contains("the sizes decide")), "{name}: {problems:?}");
    }
    let reader = read(&folder.join("netcdf.nc.h5"));
    assert_eq!(calibration(&reader), [nm(20.0), (0.0, 1.0, String::new()), energy()]);
    assert_eq!(reader.problems(), [""; 0]);

    let reader = read(&folder.join("uncalibrated.hspy"));
    assert_eq!(calibration(&reader)[2], (0.0, 1.0, String::new()));
    let problems = reader.problems().join("; ");
    for words in ["nothing says that it is EELS", "no energy calibration"] {
        assert!(problems.contains(words), "{problems}");
    }
    let text = calibration(&read(&folder.join("text_scale.hspy")));
    assert_eq!((text[2].0, text[2].1), (400.0, 0.25));
}

#[test]
fn text_in_latin_1_is_decoded_and_copied() {
    let Some((folder, _)) = made() else { return };
    let path = folder.join("latin1.hspy");
    let reader = read(&path);
    assert_eq!(reader.info().x.units, "\u{b5}m");
    assert_eq!(reader.microscope().title.as_deref(), Some("Versuch f\u{fc}r Caf\u{e9}"));
    let path = path.to_str().expect("text");
    for ranks in [1, 2] {
        let ended = finish(coreloss(ranks, &["inspect", "--quick", "--json", path]), LIMIT);
        let found: serde_json::Value = serde_json::from_str(ended.succeeded().stdout.trim()).expect("JSON");
        assert_eq!(found["axes"][1]["units"], "\u{b5}m");
        let copies = folder.join(format!("copies-{ranks}"));
        finish(coreloss(ranks, &["import", path, "-o", copies.to_str().expect("text")]), LIMIT).succeeded();
        assert_eq!(calibration(&read(&copies.join("latin1.hspy"))), calibration(&reader));
    }
}

#[test]
fn what_does_not_open_is_named_with_its_reason() {
    let Some((folder, _)) = made() else { return };
    for (name, words) in [
        ("soft.h5", ["entry/data is a link to /nowhere/data, which is not there", ""]),
        ("external.h5", ["entry/data is a link to /data in the file gone.h5, which is not there", ""]),
        ("newer.h5", ["entry/data does not open", "libver='v110'"]),
        ("newer.hspy", ["Experiments/cube/data does not open", "libver='v110'"]),
    ] {
        let said = refusal(&folder.join(name));
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        assert!(inspect(&folder.join(name), &Options::default()).is_err());
    }
}

#[test]
fn filters_are_built_in_or_found_by_their_plugins() {
    let Some((folder, plugins)) = made() else { return };
    read(&folder.join("lzf.h5"));
    let Some(plugins) = plugins else { return skip("CORELOSS_PYTHON has no hdf5plugin") };
    for name in ["blosc", "blosc_zstd"] {
        read(&folder.join(format!("filter_{name}.h5")));
    }
    let run = |name: &str, plugins: Option<&str>| -> Ended {
        let path = folder.join(format!("filter_{name}.h5"));
        let copies = folder.join("copies");
        let text = |path: &Path| path.to_str().expect("text").to_string();
        let mut command = coreloss(2, &["import".into(), text(&path), "-o".into(), text(&copies)]);
        command.env_remove("HDF5_PLUGIN_PATH");
        if let Some(plugins) = plugins {
            command.env("HDF5_PLUGIN_PATH", plugins);
        }
        finish(command, LIMIT)
    };
    for (name, called) in [("zstd", "Zstandard"), ("blosc2", "Blosc2"), ("lz4", "LZ4"), ("bitshuffle", "Bitshuffle")] {
        let words = format!("({called}), which this HDF5 lacks, and HDF5_PLUGIN_PATH names no folder");
        run(name, None).exits(1).says(&words).says("pip install hdf5plugin");
        run(name, Some("/nowhere")).exits(1).says("/nowhere, has no plugin");
        run(name, Some(plugins)).succeeded();
        read(&folder.join(format!("copies/filter_{name}.hspy")));
    }
}
