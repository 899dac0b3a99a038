//! Velox files made up, and the JSON in them with arbitrary bytes changed.

use anyhow::Context;
use ndarray::Array2;

use super::*;
use crate::archive::velox;
use crate::fuzz::fuzz;

const OPTICS: &str = r#"{"Optics": {"AccelerationVoltage": "300000", "FullScanFieldOfView": {"x": "4e-08", "y": "4e-08"}},
    "Scan": {"ScanArea": {"left": "0.25", "top": "0.5", "right": "0.35", "bottom": "0.8"}},
    "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1700000000"}}}"#;

fn spectrometer(offset: f64) -> String {
    format!(r#"{{"Data": {{"dispersion": 0.25, "offset": {offset}, "exposureTime": 0.01, "intensityScale": 0.5}}}}"#)
}

/// A text as Velox keeps it: a column of bytes for each frame or line, padded with zeros.
fn put(group: &Group, name: &str, text: &[u8], columns: usize) {
    let padded = Array2::from_shape_fn((text.len() + 8, columns), |(i, _)| text.get(i).copied().unwrap_or(0));
    group.new_dataset_builder().with_data(&padded).create(name).unwrap();
}

fn written(folder: &Folder, name: &str, ranges: &[(&str, f64)]) -> (PathBuf, File) {
    let (path, file) = folder.file(name);
    let version: VarLenUnicode = r#"{"format": "Velox", "version": "13"}"#.parse().unwrap();
    file.new_dataset_builder().with_data(&[version]).create("Version").unwrap();
    let stored = values().permuted_axes([1, 2, 0]).as_standard_layout().into_owned();
    for (name, offset) in ranges {
        let group = file.create_group(&format!("Data/EelsSpectrumImage/{name}")).unwrap();
        group.new_dataset_builder().with_data(&stored).chunk([4, 5, 1]).create("Data").unwrap();
        put(&group, "Metadata", OPTICS.as_bytes(), 1);
        put(&group, "AcquisitionMetadata", spectrometer(*offset).as_bytes(), 3);
    }
    (path, file)
}

#[test]
fn one_core_loss_range_is_the_cube() {
    let folder = Folder::new();
    let (path, file) = written(&folder, "a.emd", &[("b", 450.0), ("a", -0.5)]);
    file.close().unwrap();
    let reader = open(&path);
    assert_eq!(read_all(&reader), values());
    let info = reader.info();
    assert_eq!((info.energy.offset, info.energy.scale, info.chunk_rows), (450.0, 0.25, 1));
    // A field of 40 nm: a tenth of it 4 pixels wide, three tenths 3 lines high.
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(info.x.scale, 1.0) && close(info.x.offset, -10.0), "{:?}", info.x);
    assert!(close(info.y.scale, 4.0) && close(info.y.offset, 0.0), "{:?}", info.y);
    assert_eq!(reader.microscope().date.as_deref(), Some("2023-11-14"));
    let low = crate::archive::low_loss(&reader, &Options::default(), None).unwrap().unwrap();
    assert_eq!(low.info().energy.offset, -0.5);
    assert!(matches!(reader.metadata().unwrap(), crate::archive::Metadata::Group(texts) if texts.len() == 2));
    let summary = inspect(&path, &Options::default()).unwrap();
    assert!(summary.images[0].starts_with("-0.5 to 0.5 eV"), "{:?}", summary.images);
}

#[test]
fn ranges_without_their_calibration_are_told() {
    let folder = Folder::new();
    let (path, file) = written(&folder, "a.emd", &[("a", 450.0)]);
    file.unlink("Data/EelsSpectrumImage/a/AcquisitionMetadata").unwrap();
    file.close().unwrap();
    let reader = open(&path);
    let problems = reader.problems().join("; ");
    assert!(problems.contains("AcquisitionMetadata") && problems.contains("no energy calibration"), "{problems}");
}

#[test]
fn fuzz_json_of_velox() {
    fuzz(vec![OPTICS.into(), spectrometer(1.0).into()], &["\"Optics\"", "{", "[", "1e999", "null"], |bytes| {
        let text = velox::parse(bytes).context("no JSON")?;
        velox::tree(&text, velox::DEEPEST);
        let calibration = velox::Calibration { optics: Some(text.clone()), acquisition: Some(text) };
        let energy = calibration.energy(5, &mut Vec::new());
        anyhow::ensure!(energy.offset.is_finite() && energy.scale.is_finite(), "{energy:?}");
        for name in ["x", "y"] {
            calibration.scan(name, 4);
        }
        calibration.microscope();
        Ok(())
    });
}
