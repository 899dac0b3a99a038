//! `coreloss bench`: alone and under mpirun, the last line of stdout is one JSON object with figures that fit together.

mod common;

use std::fs;
use std::time::Duration;

use common::{alone, coreloss, folder, Job};

const LIMIT: Duration = Duration::from_secs(60);

/// Few channels, an odd number of them.
const SPEC: &str = r#"{"patch": [4, 4], "energy": 33, "latent": 2, "hidden": 8, "encoder": [
    {"out": 4, "kernel": [1, 1, 7], "stride": [1, 1, 4], "pad": [0, 0, 3]},
    {"out": 16, "kernel": [3, 3, 3], "stride": [2, 2, 2], "pad": [1, 1, 1]}]}"#;

#[test]
fn bench_train_takes_the_same_steps_on_any_number_of_ranks() {
    let _alone = alone();
    let spec = folder("train").join("spec.json");
    fs::write(&spec, SPEC).expect("a folder takes a file");
    let mut losses = Vec::new();
    for (ranks, batch) in [(0, 4), (1, 4), (2, 2), (4, 1)] {
        let arguments = format!(
            "bench train --json --spec {} --batch {batch} --steps 3 --warmup 1 --set train.micro_batch=1",
            spec.display()
        );
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let ended = Job::of(coreloss(ranks, &arguments)).wait(LIMIT);
        ended.succeeded();
        let line = ended.stdout.lines().last().expect("a line of figures");
        let found: serde_json::Value = serde_json::from_str(line).expect("JSON");
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
fn a_batch_that_micro_batches_do_not_fill_is_bad_usage() {
    let _alone = alone();
    for ranks in [0, 2] {
        let ended = Job::of(coreloss(ranks, &["bench", "train", "--batch", "6"])).wait(LIMIT);
        ended.exits(2).says("no multiple of train.micro_batch 4");
    }
}
