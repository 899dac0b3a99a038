//! Surveys of a few small cubes: the energies, training cubes and folders of their models.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ndarray::Array3;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};

use crate::common::cube::{counts, write_hspy, write_hspy_from};
use crate::common::result::metrics;
use crate::common::{Ended, Job, coreloss, files, folder, send};

const LIMIT: Duration = Duration::from_secs(180);
const SIZE: usize = 16;

/// Writes a cube whose edge is shifted by up to `drift_ev`, differently in each line.
fn wandering(path: &Path, drift_ev: f64, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values = Array3::from_shape_fn((SIZE, SIZE, 320), |(y, _, e)| {
        let e = 420.0 + e as f64 - drift_ev * (y as f64 * 0.4).sin();
        let step = 1.0 / (1.0 + (-(e - 532.0) / 1.5).exp());
        let peak = (-0.5 * ((e - 540.0) / 4.0).powi(2)).exp();
        let mean = 600.0 * (e / 420.0).powf(-2.9) + 240.0 * (step * (e / 532.0).powi(-3) + peak);
        Poisson::new(mean).expect("a mean").sample(&mut random) as f32
    });
    write_hspy_from(path, &values, 420.0, 1.0);
}

fn plain(path: &Path, channels: usize, seed: u64) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
    write_hspy(path, &counts([SIZE, SIZE, channels], seed));
}

/// A survey of all cubes in `archive` with `sets`, into `output`, on two ranks.
fn start(case: &Path, output: &str, sets: &[&str]) -> Job {
    fs::write(
        case.join("survey.yaml"),
        "archive: {inputs: ['archive/**/*.hspy']}\npca: {components: [3]}\ntrain: {steps: 2, device: cpu}\n",
    )
    .expect("a configuration");
    let output = format!("output={output}");
    let mut words = vec!["survey", "survey.yaml", "--set", &output];
    sets.iter().for_each(|set| words.extend(["--set", set]));
    let mut command = coreloss(2, &words);
    command.current_dir(case);
    Job::of(command)
}

fn survey(case: &Path, output: &str, sets: &[&str]) -> Ended {
    start(case, output, sets).wait(LIMIT)
}

/// The folders of the models.
fn models(case: &Path, output: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(case.join(output).join("models")).expect("models");
    entries.flatten().map(|entry| entry.path()).collect()
}

#[test]
fn aligned_cubes_are_scored_on_the_energies_of_their_model() {
    let case = folder("aligned");
    let cube = |name: &str| case.join("archive").join(name);
    fs::create_dir(case.join("archive")).expect("a folder can be made");
    // Alignment takes different channels from each.
    wandering(&cube("a.hspy"), 1.0, 1);
    wandering(&cube("b.hspy"), 3.0, 2);
    let sets = ["preprocess.align=edge", "preprocess.gain=1", "preprocess.rebin=2"];
    survey(&case, "out", &sets).succeeded().without_panic();
    let results = || files(&case.join("out"), ".coreloss.hspy").len();
    assert_eq!(results(), 2);

    // One more cube of the group, after the training; its larger shifts leave fewer channels.
    wandering(&cube("c.hspy"), 5.5, 3);
    let ended = survey(&case, "out", &sets);
    ended.exits(3).without_panic();
    ended.says("c.hspy: its pixels all hold").says("archive.energy_range_ev");
    assert_eq!(results(), 2);

    // Models of other runs are also matched with the channels that are left of a cube.
    let group = &models(&case, "out")[0];
    let pretrained = format!("survey.pretrained=['{}']", group.display());
    let sets = [&sets[..], &["survey.models=pretrained", &pretrained]].concat();
    survey(&case, "later", &sets).exits(3).without_panic();
    assert_eq!(files(&case.join("later"), ".coreloss.hspy").len(), 2);
}

#[test]
fn a_training_that_was_stopped_goes_on_although_cubes_were_added() {
    let case = folder("added");
    for (i, name) in ["m", "n", "o"].iter().enumerate() {
        plain(&case.join(format!("archive/{name}.hspy")), 64, i as u64);
    }
    let sets = ["train.steps=90", "survey.train_cubes=2"];
    let mut job = start(&case, "out", &sets);
    job.until("a training", LIMIT, || {
        let out = case.join("out");
        out.is_dir() && !files(&out, "metrics.jsonl").is_empty()
    });
    job.ranks().into_iter().for_each(|rank| send(rank, libc::SIGTERM));
    job.wait(LIMIT).exits(75);
    // With this cube, a new choice of training cubes would be another.
    plain(&case.join("archive/a.hspy"), 64, 9);
    survey(&case, "out", &sets).succeeded();
    assert_eq!(files(&case.join("out"), ".coreloss.hspy").len(), 4);
    let group = &models(&case, "out")[0];
    let learned = fs::read_to_string(group.join("cubes.json")).expect("a list");
    assert!(learned.contains("m.hspy") && !learned.contains("a.hspy"), "{learned}");
    assert_eq!(metrics(group).iter().filter(|line| line.get("loss").is_some()).count(), 90);
}

#[test]
fn trainings_know_cubes_by_their_ids_and_keep_out_of_each_others_folders() {
    let case = folder("ids");
    // The name of one cube is the folder of the other. Relative to `SI` alone, the ids would be different.
    plain(&case.join("archive/SI.hspy"), 80, 1);
    plain(&case.join("archive/SI/b.hspy"), 64, 2);
    let losses = |output: &str| {
        let of_b = models(&case, output)
            .into_iter()
            .find(|folder| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("64x")));
        metrics(&of_b.expect("a model of 64 channels"))
    };
    survey(&case, "whole", &[]).succeeded();
    let part = "archive.regions=[{cubes: SI/b, use: ignore, y: [0, 8], x: [0, 16]}]";
    survey(&case, "part", &[part]).succeeded();
    assert!(losses("whole") != losses("part"));

    survey(&case, "own", &["survey.models=per_cube"]).succeeded();
    assert!(models(&case, "own").is_empty());

    // A damaged result costs only its own place in the ranking.
    let result = files(&case.join("own"), "SI.coreloss.hspy").remove(0);
    let file = hdf5::File::open_rw(&result).expect("a result");
    let maps = file.group("Experiments").expect("maps");
    // Whichever method's map is the default.
    let combined: Vec<String> =
        maps.member_names().expect("names").into_iter().filter(|name| name.ends_with("_combined")).collect();
    assert!(combined.len() > 2, "{combined:?}");
    combined.iter().for_each(|name| maps.unlink(name).expect("a map"));
    drop((maps, file));
    let ended = survey(&case, "own", &["survey.models=per_cube"]);
    ended.exits(3).says("ranking of 1 cubes");
    ended.says("set aside: archive/SI.hspy");
}
