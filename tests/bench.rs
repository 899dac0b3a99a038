//! `coreloss bench` with and without `mpirun`: the last line of stdout is a JSON object, and its figures agree.

use std::fs;
use std::time::Duration;

use crate::common::cube::{counts, write_plain};
use crate::common::{Ended, coreloss, finish, folder};

const LIMIT: Duration = Duration::from_secs(60);

/// A small network with an odd number of channels.
const SPEC: &str = r#"{"patch": [4, 4], "energy": 33, "latent": 2, "hidden": 8, "encoder": [
    {"out": 4, "kernel": [1, 1, 7], "stride": [1, 1, 4], "pad": [0, 0, 3]},
    {"out": 16, "kernel": [3, 3, 3], "stride": [2, 2, 2], "pad": [1, 1, 1]}]}"#;

#[test]
fn bench_train_takes_the_same_steps_on_any_number_of_ranks() {
    let spec = folder("train").join("spec.json");
    fs::write(&spec, SPEC).expect("a folder takes a file");
    let mut losses = Vec::new();
    for (ranks, batch) in [(0, 4), (1, 4), (2, 2), (4, 1)] {
        let arguments = format!(
            "bench train --json --spec {} --batch {batch} --steps 3 --warmup 1 --set train.micro_batch=1",
            spec.display()
        );
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let found = last_line(&finish(coreloss(ranks, &arguments), LIMIT));
        assert_eq!(found["ranks"], ranks.max(1));
        let figure = |name: &str| found[name].as_f64().expect("a figure");
        let samples = 4.0 / (1e-3 * figure("step_ms"));
        assert!((figure("samples_per_s") / samples - 1.0).abs() < 1e-9);
        assert!(figure("share_of_matrix_product") > 0.0);
        losses.push([figure("first_loss"), figure("last_loss")].map(f64::to_bits));
    }
    assert!(losses.iter().all(|found| *found == losses[0]), "{losses:?}");
}

#[test]
fn bench_reconstruct_finds_the_same_on_any_number_of_ranks() {
    let spec = folder("reconstruct").join("spec.json");
    fs::write(&spec, SPEC).expect("a folder takes a file");
    let spec = spec.display().to_string();
    let mut squares = Vec::new();
    for ranks in [0, 1, 3] {
        let arguments = ["bench", "reconstruct", "--json", "--side", "20", "--rounds", "1", "--spec", &spec];
        let found = last_line(&finish(coreloss(ranks, &arguments), LIMIT));
        let figure = |name: &str| found[name].as_f64().expect("a figure");
        assert!((figure("spectra_per_s") * figure("seconds") / 400.0 - 1.0).abs() < 1e-9);
        squares.push(figure("mean_square"));
    }
    // The same lines are summed in another grouping.
    assert!(squares[0] > 0.0 && squares.iter().all(|s| (s / squares[0] - 1.0).abs() < 1e-12));
}

#[test]
fn a_batch_that_micro_batches_do_not_fill_is_bad_usage() {
    for ranks in [0, 2] {
        let ended = finish(coreloss(ranks, &["bench", "train", "--batch", "5"]), LIMIT);
        ended.exits(2).says("no multiple of train.micro_batch 2");
    }
}

#[test]
fn bench_pca_and_io_find_the_same_on_any_number_of_ranks() {
    let file = folder("bench_file").join("cube.h5");
    // More channels than the randomised solver has directions.
    write_plain(&file, "entry/data", &counts([24, 20, 200], 3));
    let mut found = Vec::new();
    for ranks in [0, 1, 3] {
        let bench = |what: &str, more: &[&str]| {
            let path = file.display().to_string();
            let arguments = [&["bench", what, &path, "--json"], more].concat();
            last_line(&finish(coreloss(ranks, &arguments), LIMIT))
        };
        let dataset = ["--set", "archive.dataset=entry/data"];
        let pca = bench("pca", &dataset);
        assert_eq!(pca["shape"], serde_json::json!([24, 20, 200]));
        let shares = |pca: &serde_json::Value| {
            let shares = pca["explained_variance_ratio"].as_array().expect("a list");
            assert_eq!(shares.len(), 10);
            shares.clone()
        };
        let randomized = bench("pca", &[&dataset[..], &["--set", "pca.solver=randomized"]].concat());
        found.push((shares(&pca), shares(&randomized)));
        assert!(bench("io", &dataset)["read_mb_s"].as_f64().expect("a rate") > 0.0);
    }
    assert!(found.iter().all(|shares| *shares == found[0]), "{found:?}");
    let (exact, randomized) = &found[0];
    // These spectra have two components, mean and edge; the others are noise.
    for (exact, randomized) in exact.iter().zip(randomized).take(2) {
        let ratio = randomized.as_f64().expect("a share") / exact.as_f64().expect("a share");
        assert!((ratio - 1.0).abs() < 1e-4, "{found:?}");
    }
}

#[test]
fn bench_allreduce_has_a_line_for_each_size() {
    let found = last_line(&finish(coreloss(2, &["bench", "allreduce", "--json"]), LIMIT));
    let sizes = found["sizes"].as_array().expect("a list");
    assert_eq!(sizes.len(), 4);
    let is_positive = |size: &serde_json::Value| size["exact_ratio"].as_f64() > Some(0.0);
    assert!(sizes.iter().all(is_positive), "{found}");
}

/// The figures that a benchmark printed.
fn last_line(ended: &Ended) -> serde_json::Value {
    ended.succeeded();
    let line = ended.stdout.lines().last().expect("a line of figures");
    serde_json::from_str(line).expect("JSON")
}
