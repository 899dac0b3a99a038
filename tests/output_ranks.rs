//! The parallel writer on 1, 2 and 3 ranks: uneven bands, idle ranks, chunks that ranks share, errors that all agree on.
//!
//! The test runs itself under `mpirun`. HyperSpy judges the files.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use coreloss::comm::{self, Comm};
use coreloss::cube::Axis;
use coreloss::output::{
    Contents, Data, HspyWriter, LearningResults, Signal, read_learning_results, read_signal_f32, read_text,
    signal_path, signal_titles,
};
use ndarray::{Array2, Array3, ArrayD, IxDyn};

use crate::common::case::RANKS;
use crate::common::{ask_python, finish, this_test, told};

const LIMIT: Duration = Duration::from_secs(60);
const SHAPE: [usize; 3] = [7, 5, 40];

#[test]
fn files_are_right_on_any_number_of_ranks() {
    if let Some(path) = told() {
        return rank(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    for ranks in RANKS {
        let path = folder.path().join(format!("new/folder/ranks{ranks}.hspy"));
        let name = "output_ranks::files_are_right_on_any_number_of_ranks";
        let mut command = this_test(ranks, name, path.to_str().expect("a path is text"));
        command.env("OMP_NUM_THREADS", "1");
        finish(command, LIMIT).succeeded();
        check(&path);
        ask_python("tests/judges/hyperspy_judge.py", &[&path]);
    }
}

/// A value that is different for every place.
fn value(y: usize, x: usize, e: usize) -> f32 {
    (y * 10_000 + x * 100 + e) as f32 + 0.5
}

fn axis(name: &str, size: usize, navigate: bool) -> Axis {
    let (units, scale, offset) = match name {
        "Energy loss" => ("eV", 0.25, 450.0),
        "component" => ("", 1.0, 0.0),
        _ => ("nm", 0.8, -1.0),
    };
    Axis { name: name.into(), units: units.into(), scale, offset, size, navigate }
}

/// What root adds at the end: the descriptions of all signals, small data, and texts.
fn contents() -> Contents {
    let [ny, nx, ne] = SHAPE;
    let places = || vec![axis("y", ny, true), axis("x", nx, true)];
    let cube =
        |title: &str, data| Signal::new(title, [places(), vec![axis("Energy loss", ne, false)]].concat(), "EELS", data);
    let image = |title: &str, data| Signal::new(title, vec![axis("y", ny, false), axis("x", nx, false)], "", data);
    let learning = LearningResults {
        factors: Array2::from_shape_fn((ne, 2), |(e, k)| if k == 0 { 1.0 } else { e as f64 }),
        explained_variance: vec![9.0, 1.0, 0.5],
        explained_variance_ratio: vec![0.857, 0.095, 0.048],
        poissonian_noise_normalized: true,
        output_dimension: 2,
    };
    let pca = cube("pca3", Data::Declared { chunk: vec![2, nx, ne] });
    let labels = Data::I32(ArrayD::from_shape_fn(IxDyn(&[ny, nx]), |i| (i[0] * 5 + i[1]) as i32));
    let spectra = Data::F32(ArrayD::from_shape_fn(IxDyn(&[2, ne]), |i| i[1] as f32));
    let spectra_axes = vec![axis("component", 2, true), axis("Energy loss", ne, false)];
    Contents {
        signals: vec![
            cube("01 residual / cube", Data::Written),
            Signal { learning_results: Some(learning), ..pca },
            image("score", Data::Written),
            Signal::written("mask", places(), ""),
            image("labels", labels),
            Signal::new("spectra", spectra_axes, "EELS", spectra),
        ],
        texts: BTreeMap::from([
            ("config".into(), "seed: 1\nname: \u{b5}m".into()),
            ("log".into(), "0123456789".repeat(10_000)),
            ("empty".into(), String::new()),
        ]),
    }
}

fn rank(path: &Path) {
    let session = comm::init().expect("MPI starts");
    let comm = session.comm();
    if let Err(error) = write(&comm, path) {
        comm.fail(&error);
    }
}

fn write(comm: &Comm, path: &Path) -> Result<()> {
    let [ny, nx, ne] = SHAPE;
    // The bands of the first two ranks share a chunk; further ranks have no row.
    let rows = match (comm.size(), comm.rank()) {
        (1, _) => 0..ny,
        (_, 0) => 0..3,
        (_, 1) => 3..ny,
        _ => 0..0,
    };
    // An incomplete file fails on every rank and never gets its final name. The next attempt replaces it.
    let writer = HspyWriter::create(comm, path)?;
    let unwritten = writer.finish(contents()).expect_err("nothing was written");
    let message = format!("{unwritten:#}");
    assert!(message.contains("its data were never written"), "{message}");
    assert!(!path.exists());
    let mut writer = HspyWriter::create(comm, path)?;

    let cube = signal_path("01 residual / cube");
    writer.create_dataset::<f32>(&cube, &SHAPE, &[2, nx, ne])?;
    // Energy comes first in memory: the writer must reorder.
    let local = Array3::from_shape_fn((ne, rows.len(), nx), |(e, y, x)| value(y + rows.start, x, e));
    let local = local.permuted_axes([1, 2, 0]).into_dyn();
    writer.write(&cube, &[rows.start, 0, 0], local.view())?;

    let pixels = |rows: &std::ops::Range<usize>| (rows.len() * nx, 2);
    let loadings = "Experiments/pca3/learning_results/loadings";
    writer.create_dataset::<f64>(loadings, &[ny * nx, 2], &[2 * nx, 2])?;
    let local = Array2::from_shape_fn(pixels(&rows), |(i, k)| (rows.start * nx + i) as f64 * (k + 1) as f64);
    writer.write(loadings, &[rows.start * nx, 0], local.into_dyn().view())?;

    let score = signal_path("score");
    writer.create_dataset::<u16>(&score, &[ny, nx], &[64, 64])?;
    let local = Array2::from_shape_fn((rows.len(), nx), |(y, x)| value(y + rows.start, x, 0) as u16);
    writer.write(&score, &[rows.start, 0], local.into_dyn().view())?;

    let mask = signal_path("mask");
    writer.create_dataset::<u8>(&mask, &[ny, nx], &[1, nx])?;
    // Several writes to one dataset, a row each, from different ranks.
    for y in 0..ny {
        let mine = y % comm.size() == comm.rank();
        let local = ArrayD::from_elem(IxDyn(&[usize::from(mine), nx]), y as u8);
        writer.write(&mask, &[y, 0], local.view())?;
    }

    // A mistake of one rank is an error on all, and the file can still be written.
    let start = if comm.rank() + 1 == comm.size() { ny } else { 0 };
    let wrong = writer.write(&mask, &[start, 0], ArrayD::from_elem(IxDyn(&[1, nx]), 0u8).view());
    let message = format!("{:#}", wrong.expect_err("outside"));
    assert!(message.contains("outside dataset Experiments/mask/data"), "{message}");
    let wrong = writer.write(&mask, &[0, 0], ArrayD::from_elem(IxDyn(&[1, nx]), 0f32).view());
    assert!(format!("{:#}", wrong.expect_err("type")).contains("stores uint8"));
    assert!(writer.create_dataset::<u8>(&mask, &[ny, nx], &[1, nx]).is_err());
    assert!(writer.create_dataset::<u8>("empty", &[0, nx], &[1, nx]).is_err());

    assert!(!path.exists());
    writer.finish(if comm.is_root() { contents() } else { Contents::default() })
}

/// Reads the file of [`write`] and compares.
fn check(path: &Path) {
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap())
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial") })
            .count(),
        0
    );
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o002, 0);
    let titles = signal_titles(path).unwrap();
    assert_eq!(titles, ["01 residual - cube", "labels", "mask", "pca3", "score", "spectra"]);

    let (axes, cube) = read_signal_f32(path, "01 residual / cube").unwrap();
    assert_eq!(axes[2], axis("Energy loss", SHAPE[2], false));
    assert_eq!(axes[0], axis("y", SHAPE[0], true));
    assert_eq!(cube.shape(), SHAPE);
    assert!(cube.indexed_iter().all(|(i, &found)| found == value(i[0], i[1], i[2])));
    let (_, mask) = read_signal_f32(path, "mask").unwrap();
    assert!(mask.indexed_iter().all(|(i, &found)| found == i[0] as f32));
    let (_, score) = read_signal_f32(path, "score").unwrap();
    assert!(score.indexed_iter().all(|(i, &found)| found == f32::from(value(i[0], i[1], 0) as u16)));
    let (_, declared) = read_signal_f32(path, "pca3").unwrap();
    assert!(declared.iter().all(|&found| found == 0.0));

    let (learning, loadings) = read_learning_results(path, "pca3").unwrap();
    assert_eq!(Some(learning), contents().signals.swap_remove(1).learning_results);
    assert!(loadings.indexed_iter().all(|((i, k), &found)| found == i as f64 * (k + 1) as f64));
    for (name, text) in contents().texts {
        assert_eq!(read_text(path, &name).unwrap(), text);
    }
    assert!(read_text(path, "absent").is_err());
}
