//! The readers against RosettaSciIO: shape, axes, and values to the bit, of every measured cube and format file in
//! `../shared/data`, and of NeXus and EMD files that RosettaSciIO writes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use coreloss::archive::{Options, Reader, catalogue, inspect, low_loss};
use coreloss::comm::exit_code;
use coreloss::cube::Axis;
use ndarray::{Array3, s};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::{ask_python, files, measured_data, mpirun, skip};

/// What RosettaSciIO says for `command`; `None` where it is not installed.
fn judge(command: &str, paths: &[PathBuf]) -> Option<String> {
    ask_python("tests/judges/rosettasciio_judge.py", &[&[command.into()], paths].concat())
}

fn read_all(reader: &Reader) -> Array3<f32> {
    let [rows, columns, channels] = reader.info().shape();
    reader.read(0..rows, 0..columns, 0..channels).expect("the whole cube is read")
}

/// Compares an image of `path`, that of `options` or else the one chosen by default, with what the judge says of it.
fn check(path: &Path, options: &Options, expected: &Value) {
    let place = format!("{} {:?}", path.display(), options.image);
    let reader = Reader::open(path, options).unwrap_or_else(|error| panic!("{place}: {error:#}"));
    let info = reader.info();
    assert_eq!(info.dtype, expected["dtype"], "{place}");
    let axes = expected["axes"].as_array().expect("a list of axes");
    let mut found: Vec<&Axis> = vec![&info.y, &info.x, &info.energy];
    // A line scan has no y axis in the file, a single spectrum neither y nor x.
    let found = found.split_off(3 - axes.len());
    assert_eq!(
        info.shape().iter().product::<usize>(),
        found.iter().map(|axis| axis.size).product::<usize>(),
        "{place}"
    );
    for (axis, expected) in found.into_iter().zip(axes) {
        // Energies are converted to eV.
        let (factor, units) = match expected["units"].as_str().expect("text") {
            "keV" => (1e3, "eV"),
            units => (1.0, units),
        };
        let number = |name: &str| expected[name].as_f64().expect("a number") * factor;
        assert_eq!(axis.size as u64, expected["size"], "{place}");
        assert_eq!(axis.units, units, "{place}");
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
        let is_dm = matches!(info.format.as_str(), "dm3" | "dm4");
        for (value, expected) in [(axis.scale, number("scale")), (axis.offset, number("offset"))] {
            assert!(
                value == expected || (!is_dm && close(value, expected)),
                "{place}: {} is {value}, not {expected}",
                axis.name
            );
        }
    }
    let values = read_all(&reader);
    let mut hash = Sha256::new();
    for value in &values {
        hash.update(value.to_le_bytes());
    }
    let digest = format!("{:x}", hash.finalize());
    assert_eq!(digest, expected["sha256"], "{place}: its values");

    let [rows, columns, channels] = info.shape();
    for part in
        [[rows / 2..rows, columns / 3..columns.div_ceil(2), 0..channels], [0..1, 0..columns, channels / 2..channels]]
    {
        let [y, x, energy] = part.clone();
        let window = reader.read(y.clone(), x.clone(), energy.clone()).expect("a window is read");
        let expected = values.slice(s![y, x, energy]);
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        assert!(window.shape() == expected.shape() && window.iter().zip(expected).all(same), "{place}: {part:?}");
    }
}

/// Compares every image of `path` with the judge's `images`. Complex and RGB images must be refused as such.
fn check_images(path: &Path, images: &[Value]) {
    for (index, expected) in images.iter().enumerate() {
        let options = Options { image: Some(index), ..Options::default() };
        let dtype = expected["dtype"].as_str().expect("text");
        if !dtype.starts_with("complex") && !dtype.starts_with('[') {
            check(path, &options, expected);
            continue;
        }
        let error = Reader::open(path, &options).err().expect("refused");
        let word = if dtype.starts_with('[') { "RGB colours" } else { "complex values" };
        let message = format!("{error:#}");
        assert!(message.contains(word) && message.contains(&path.display().to_string()), "{message}");
        assert_eq!(exit_code(&error), 2, "{message}");
    }
    let eels: Vec<&Value> = images.iter().filter(|image| image["signal_type"] == "EELS").collect();
    match eels[..] {
        [expected] => check(path, &Options::default(), expected),
        _ => {
            let refused = Reader::open(path, &Options::default());
            assert!(refused.is_err(), "{} is no EELS", path.display());
            if let Ok(summary) = inspect(path, &Options::default()) {
                assert!(!summary.problems.is_empty());
            }
        }
    }
}

/// The files that are compared. RosettaSciIO reads the NeXus files there only if it is told which dataset to take, and `.dm5` not
/// at all.
fn is_compared(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["dm3", "dm4", "hspy"].iter().any(|known| extension == *known))
}

#[test]
fn measured_cubes_and_format_files_agree() {
    let Some(data) = measured_data() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut found = [files(&data.join("real"), ""), files(&data.join("formats"), "")].concat();
    for packed in found.iter().filter(|path| path.to_string_lossy().ends_with(".tar.gz")) {
        let status = Command::new("tar")
            .arg("-xzf")
            .arg(packed)
            .arg("-C")
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status()
            .expect("tar starts");
        assert!(status.success(), "{}", packed.display());
    }
    found.extend(files(folder.path(), ""));
    found.retain(|path| is_compared(path));
    let Some(said) = judge("describe", &found) else {
        return;
    };
    assert_eq!(said.lines().count(), found.len());
    for (path, line) in found.iter().zip(said.lines()) {
        let images: Value = serde_json::from_str(line).expect("a line of JSON");
        let images = images.as_array().expect("a list of images");
        if path.extension().is_some_and(|extension| extension == "hspy") {
            check(path, &Options::default(), &images[0]);
        } else {
            check_images(path, images);
        }
        println!("agrees: {}", path.display());
    }
}

/// What the judge says for `command`, a list of images for each line; `None` where it is not installed.
fn further(command: &str, paths: &[PathBuf]) -> Option<Vec<Vec<Value>>> {
    let said = ask_python("tests/judges/formats_judge.py", &[&[command.into()], paths].concat())?;
    let lines = said.lines().filter(|line| line.starts_with('['));
    Some(lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect())
}

fn refusal(path: &Path) -> String {
    let error = Reader::open(path, &Options::default()).err().expect("refused");
    let described = inspect(path, &Options::default()).map(|summary| summary.problems.join("; "));
    format!("{error:#}; {}", described.unwrap_or_default())
}

#[test]
fn energy_ranges_of_velox_agree() {
    let Some(data) = measured_data() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let packed = data.join("formats/velox_eels_eds.zip");
    let Some(said) = further("velox", &[packed, folder.path().to_path_buf()]) else { return };
    let path = folder.path().join("all.emd");
    let mut ranges = said.into_iter().next().expect("a line for the file");
    assert_eq!(ranges.len(), 3);
    // We count them from the lowest energy, RosettaSciIO in the order of their random names.
    let start = |range: &Value| range["axes"][2]["offset"].as_f64().expect("a number");
    ranges.sort_by(|a, b| start(a).total_cmp(&start(b)));
    for (i, range) in ranges.iter().enumerate() {
        let options = Options { image: Some(i), ..Options::default() };
        check(&path, &options, range);
        // The same by its name.
        let named = Reader::open(&path, &options).expect("opens").dataset().to_string();
        check(&path, &Options { dataset: Some(named), ..Options::default() }, range);
    }
    let refused = refusal(&path);
    for words in ["archive.image", "1 (480.0 to 826.4 eV", "2 (800.0 to 1146.4 eV"] {
        assert!(refused.contains(words), "{refused}");
    }

    let options = Options { image: Some(1), ..Options::default() };
    let core = Reader::open(&path, &options).expect("opens");
    let scope = core.microscope();
    assert_eq!((scope.beam_energy_kev, scope.exposure_s), (Some(300.0), Some(0.005)));
    assert!((scope.convergence_angle_mrad.expect("known") - 21.43).abs() < 0.01);
    assert!((scope.gain_offset.expect("known") - 100.0).abs() < 1e-9);
    assert_eq!(scope.instrument.as_deref(), Some("Titan Spectra"));
    let low = low_loss(&core, &options, None).expect("is read").expect("is there");
    assert_eq!(low.info().energy.offset, -21.5026);

    let copies = folder.path().join("copies");
    let text = |path: &Path| path.display().to_string();
    let arguments =
        ["import".into(), text(&path), "-o".into(), text(&copies), "--set".into(), "archive.image=1".into()];
    mpirun(2, &arguments, Duration::from_secs(60)).succeeded();
    let copy = Reader::open(&copies.join("all.hspy"), &Options::default()).expect("opens");
    assert_eq!(read_all(&copy), read_all(&core));
    assert_eq!((&copy.info().y, &copy.info().energy), (&core.info().y, &core.info().energy));
    assert_eq!(copy.microscope().gain_offset, scope.gain_offset);

    for (name, words) in [("eds", "X-ray (EDS)"), ("fft", "an FFT"), ("pictures", "a Velox file of pictures")] {
        let refused = refusal(&folder.path().join(name).with_extension("emd"));
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn gatans_hdf5_files_agree() {
    let Some(data) = measured_data() else { return };
    let found = files(&data.join("formats/dm5"), ".dm5");
    assert_eq!(found.len(), 7);
    let Some(said) = further("dm5", &found) else { return };
    for (path, images) in found.iter().zip(&said) {
        let [image] = &images[..] else { panic!("one image") };
        if image["signal_type"] == "EELS" {
            check(path, &Options::default(), image);
            let summary = inspect(path, &Options::default()).expect("is described");
            assert_eq!((&summary.format[..], summary.images.len()), ("dm5", 1));
        } else {
            let refused = refusal(path);
            assert!(refused.contains("no axis of it is in eV, and no Meta Data:Signal says EELS"), "{refused}");
        }
    }
}

#[test]
fn hyperspys_zarr_files_agree() {
    let Some(data) = measured_data() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = data.join("real/sto_lsmo_interface.dm3");
    let arguments: [PathBuf; 3] = ["zspy".into(), source.clone(), folder.path().to_path_buf()];
    let Some(said) = ask_python("tests/judges/formats_judge.py", &arguments) else { return };
    let written: Vec<PathBuf> = said.lines().filter(|line| line.ends_with(".zspy")).map(PathBuf::from).collect();
    if written.is_empty() {
        skip("zarr is not installed");
        return;
    }
    assert_eq!(written.len(), 7);
    let source = Reader::open(&source, &Options::default()).expect("opens");
    let said = further("hyperspy", &written).expect("it has just spoken");
    for (path, images) in written.iter().zip(&said) {
        check(path, &Options::default(), &images[0]);
        let reader = Reader::open(path, &Options::default()).expect("opens");
        assert_eq!(reader.info().format, "zspy");
        assert_eq!(reader.microscope().collection_angle_mrad, source.microscope().collection_angle_mrad);
        if reader.info().dtype == "float32" {
            assert_eq!(read_all(&reader), read_all(&source));
            assert_eq!(reader.info().chunk_rows, 7);
        }
    }
    // A folder of a search, and found as one cube.
    let found = catalogue(&[folder.path().display().to_string()]).expect("is searched");
    assert_eq!(found.len(), 7);
    assert!(found.iter().all(|source| !source.named && written.contains(&source.path)));
    let one = catalogue(&[written[0].display().to_string()]).expect("is there");
    assert!(one.len() == 1 && one[0].named);
}

#[test]
fn the_nanocubes_are_the_same_in_every_format() {
    let Some(data) = measured_data() else { return };
    let open = |path: &Path| Reader::open(path, &Options::default()).expect("opens");
    let dm3 = open(&data.join("real/fe_oxide_nanocubes.dm3"));
    let source = data.join("real/fe_oxide_nanocubes.hspy");
    let hspy = open(&source);
    let values = read_all(&dm3);
    let axes = |reader: &Reader| {
        let info = reader.info();
        [info.y.clone(), info.x.clone(), info.energy.clone()]
    };
    assert_eq!(axes(&dm3), axes(&hspy));
    assert_eq!(values, read_all(&hspy));
    assert_eq!(dm3.microscope().beam_energy_kev, Some(200.0));
    assert_eq!(dm3.microscope().gain_factor, hspy.microscope().gain_factor);
    assert_eq!(dm3.microscope().instrument, hspy.microscope().instrument);

    let folder = tempfile::tempdir().expect("a temporary folder");
    if judge("write", &[source, folder.path().to_path_buf()]).is_none() {
        return;
    }
    let written = ["x.nxs", "x.emd"].map(|name| folder.path().join(name));
    let Some(said) = judge("describe", &written) else {
        return;
    };
    for (path, line) in written.iter().zip(said.lines()) {
        let images: Value = serde_json::from_str(line).expect("a line of JSON");
        check(path, &Options::default(), &images[0]);
        assert_eq!(read_all(&open(path)), values, "{}", path.display());
    }
    // NeXus keeps the instrument; EMD files that RosettaSciIO writes do not.
    let (kept, known) = (open(&written[0]), hspy.microscope());
    let kept = kept.microscope();
    assert!(known.beam_energy_kev.is_some() && known.exposure_s.is_some());
    for (kept, known) in [
        (kept.beam_energy_kev, known.beam_energy_kev),
        (kept.convergence_angle_mrad, known.convergence_angle_mrad),
        (kept.collection_angle_mrad, known.collection_angle_mrad),
        (kept.camera_length_mm, known.camera_length_mm),
        (kept.aperture_mm, known.aperture_mm),
        (kept.exposure_s, known.exposure_s),
        (kept.frames, known.frames),
    ] {
        assert_eq!(kept, known);
    }
    assert_eq!(kept.instrument, known.instrument);
    assert_eq!(kept.detector, known.detector);
    let converted = folder.path().join("converted");
    let others = ["r.rpl", "r.msa"].map(|name| folder.path().join(name));
    let arguments = [&["-o".into(), converted.clone()][..], &others].concat();
    if ask_python("scripts/convert.py", &arguments).is_none() {
        return;
    }
    // Their names differ in the extension only, so the copies keep it.
    let rpl = open(&converted.join("r.rpl.hspy"));
    assert_eq!(read_all(&rpl), values);
    let (a, b) = (&rpl.info().energy, &dm3.info().energy);
    assert_eq!((a.offset, a.scale, a.size), (b.offset, b.scale, b.size));
    // MSA is text with a few digits.
    let msa = read_all(&open(&converted.join("r.msa.hspy")));
    let spectrum = values.slice(s![3..4, 4..5, ..]);
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
    assert!(msa.shape() == spectrum.shape() && msa.iter().zip(spectrum).all(close));

    let plain = Options { dataset: Some("some/where/counts".into()), ..Options::default() };
    let plain = Reader::open(&folder.path().join("x.h5"), &plain).expect("opens");
    assert_eq!(read_all(&plain), values);
}

#[test]
fn a_converted_file_is_the_same_cube() {
    let Some(data) = measured_data() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["sto_lsmo_interface", "fecr_linescan"] {
        let source = data.join("real").join(name).with_extension("dm3");
        let arguments = ["-o".into(), folder.path().to_path_buf(), source.clone()];
        if ask_python("scripts/convert.py", &arguments).is_none() {
            return;
        }
        let open = |path: &Path| Reader::open(path, &Options::default()).expect("opens");
        let original = open(&source);
        let converted = open(&folder.path().join(name).with_extension("hspy"));
        assert_eq!(read_all(&converted), read_all(&original), "{name}");
        let (a, b) = (original.info(), converted.info());
        assert_eq!((&a.y.scale, &a.x.scale, &a.energy), (&b.y.scale, &b.x.scale, &b.energy));
        let (a, b) = (original.microscope(), converted.microscope());
        assert_eq!(a.exposure_s, b.exposure_s, "{name}");
        assert_eq!(a.collection_angle_mrad, b.collection_angle_mrad, "{name}");
    }
}

#[test]
fn files_of_other_programs_are_converted_with_their_calibration() {
    let Some(data) = measured_data() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = data.join("real/sto_lsmo_interface.dm3");
    if further("packed", &[source.clone(), folder.path().to_path_buf()]).is_none() {
        return;
    }
    let original = Reader::open(&source, &Options::default()).expect("opens");
    let values = read_all(&original);
    let energy = ["--energy".into(), "350".into(), "0.5".into()];
    let cases: [(&str, &[String]); 4] = [("n.ndata", &[]), ("n.h5", &[]), ("p.prz", &[]), ("s.tif", &energy)];
    for (name, options) in cases {
        let output = folder.path().join("converted").join(name.replace('.', "-"));
        let mut arguments: Vec<String> = vec!["-o".into(), output.display().to_string()];
        arguments.extend(options.iter().cloned());
        arguments.push(folder.path().join(name).display().to_string());
        ask_python("scripts/convert.py", &arguments).expect("it has just spoken");
        let converted = files(&output, ".hspy");
        assert_eq!(converted.len(), 1, "{name}: {converted:?}");
        let reader =
            Reader::open(&converted[0], &Options::default()).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let info = reader.info();
        assert_eq!((info.energy.offset, info.energy.scale), (350.0, 0.5), "{name}");
        assert_eq!(info.energy.units, "eV", "{name}");
        assert_eq!(read_all(&reader), values, "{name}");
        if name == "p.prz" {
            assert_eq!((info.y.scale, info.x.scale), (0.25, 0.5));
        }
        if name.starts_with("n.") {
            let scope = reader.microscope();
            assert_eq!((scope.beam_energy_kev, scope.exposure_s), (Some(200.0), Some(0.25)), "{name}");
        }
    }
}
