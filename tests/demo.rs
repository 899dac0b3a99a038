//! The demonstration at its full length and defaults: equal to the bit on any number of ranks and threads, also after
//! kills and signals; it finds the planted anomalies, and its files open in HyperSpy.
//!
//! A full run takes about a minute on two cores, so all tests share one simulation and one reference run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::common::result::{assert_equal, datasets, findings, metrics, summary, weights};
use crate::common::{Job, ask_python, coreloss, files, finish, folder, mpirun, send, set, shipped};

/// Of a full run: several times what it takes on two busy cores.
const LIMIT: Duration = Duration::from_secs(600);

/// Training steps of the demonstration.
const STEPS: usize = 700;
const STEPS_PER_EPOCH: usize = 50;

struct Demo {
    archive: PathBuf,
    /// The unbroken run on one rank of two threads.
    reference: PathBuf,
}

/// The simulated archive and the reference run, made when a test first asks for them.
fn demo() -> &'static Demo {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    DEMO.get_or_init(|| {
        let root = folder("demo");
        let demo = Demo { archive: root.join("archive"), reference: root.join("reference") };
        simulate(2, &demo.archive);
        let mut command = coreloss(1, &arguments(&demo, "run", &demo.reference, &[]));
        command.env("CORELOSS_THREADS", "2");
        finish(command, LIMIT).succeeded();
        demo
    })
}

fn simulate(ranks: usize, archive: &Path) {
    let mut arguments = vec!["simulate".to_string(), shipped("demo.yaml")];
    arguments.extend(set("simulate.dir", archive.display()));
    mpirun(ranks, &arguments, Duration::from_secs(120)).succeeded();
}

/// Arguments for the demonstration's configuration as it ships, with other folders to read and write.
fn arguments(demo: &Demo, command: &str, output: &Path, more: &[&str]) -> Vec<String> {
    let mut arguments = vec![command.to_string(), shipped("demo.yaml")];
    arguments.extend(set("output", output.display()));
    arguments.extend(set("simulate.dir", demo.archive.display()));
    arguments.extend(set("archive.inputs", format!("[{}/*.hspy]", demo.archive.display())));
    arguments.extend(more.iter().map(|text| text.to_string()));
    arguments
}

#[test]
fn simulated_cubes_are_equal_for_any_number_of_ranks() {
    let demo = demo();
    let inputs = files(&demo.archive, ".hspy");
    assert_eq!(inputs.len(), 6, "three cubes and their truth: {inputs:?}");
    for ranks in [1, 3, 4] {
        let again = folder("simulate");
        simulate(ranks, &again);
        for path in &inputs {
            let other = again.join(path.file_name().expect("a name"));
            let (one, other) = (datasets(path), datasets(&other));
            assert!(one == other, "{} differs on {ranks} ranks", path.display());
        }
    }
}

/// Three and four ranks train and score in [`a_run_that_is_killed_and_signalled_ends_as_the_unbroken_one`].
#[test]
fn losses_weights_and_maps_are_equal_on_one_and_two_ranks() {
    let demo = demo();
    // The reference was trained for all steps of the configuration.
    let lines = metrics(&demo.reference);
    assert_eq!(lines.iter().filter(|line| line.get("loss").is_some()).count(), STEPS);
    assert_eq!(weights(&demo.reference).0, format!("step-{STEPS:08}.safetensors"));
    let output = folder("ranks-2");
    mpirun(2, &arguments(demo, "run", &output, &[]), LIMIT).succeeded();
    assert_equal(&demo.reference, &output);
    let summary = summary(&output);
    assert_eq!(summary["ranks"], 2);
    assert_eq!(summary["peak_rss_mib"].as_array().map(Vec::len), Some(2));
}

/// One run that is killed three times and stopped by a signal twice, and continues on another number of ranks each time.
#[test]
fn a_run_that_is_killed_and_signalled_ends_as_the_unbroken_one() {
    let demo = demo();
    let output = folder("broken");
    let first_look = output.join("first_look");
    // With the default, every third epoch, a kill loses up to three. How often checkpoints are written changes no result.
    let often = ["--set", "train.checkpoint_epochs=1"];
    let start = |ranks: usize| Job::of(coreloss(ranks, &arguments(demo, "run", &output, &often)));
    let epochs = || {
        let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("{\"epoch\"")).count()
    };
    let step = || {
        let found = files(&output, ".safetensors");
        let name = found.last().expect("a checkpoint").file_stem().expect("a name");
        let number = name.to_string_lossy().replace("step-", "");
        number.parse::<usize>().expect("a step")
    };

    // Killed while it trains, on two and then on three ranks.
    for (ranks, epoch) in [(2, 3), (3, 6)] {
        let mut job = start(ranks);
        job.until("an epoch was done", LIMIT, || epochs() >= epoch);
        job.kill();
        let kept = STEPS_PER_EPOCH * (epoch - 1)..STEPS;
        assert!(kept.contains(&step()), "step {}", step());
        assert!(files(&output, ".coreloss.hspy").is_empty());
        // What needs no network was shown before the training.
        assert_eq!(files(&first_look, ".coreloss.hspy").len(), 3);
        assert!(first_look.join("report.html").exists());
    }
    // Asked to stop as srun and scancel do, by a signal to each rank.
    let mut job = start(4);
    let before = step();
    job.until("an epoch was done", LIMIT, || epochs() >= 9);
    job.ranks().into_iter().for_each(|rank| send(rank, libc::SIGTERM));
    job.wait(Duration::from_secs(60)).exits(75);
    let stopped = step();
    assert!(stopped > before && stopped < STEPS, "step {stopped}");
    // Asked to stop as batch scripts do, by a signal to mpirun.
    let mut job = start(1);
    job.until("an epoch was done", LIMIT, || epochs() >= 11);
    job.signal(libc::SIGUSR1);
    job.wait(Duration::from_secs(60)).exits(75);
    assert!(step() > stopped && step() < STEPS, "step {}", step());

    // Killed while it scores, with one cube done.
    let mut job = start(3);
    job.until("a cube was scored", LIMIT, || !files(&output, ".coreloss.hspy").is_empty());
    job.kill();
    assert_eq!(step(), STEPS);
    let scored = files(&output, ".coreloss.hspy");
    let times = |paths: &[PathBuf]| -> Vec<_> {
        let time = |path: &PathBuf| fs::metadata(path).and_then(|about| about.modified());
        paths.iter().map(|path| time(path).expect("a file has a time")).collect()
    };
    let before = times(&scored);
    assert!(!output.join("summary.json").exists());

    let last = start(4).wait(LIMIT);
    last.succeeded();
    assert_eq!(summary(&output)["ranks"], 4);
    assert_equal(&demo.reference, &output);
    assert_eq!(times(&scored), before, "a cube that was done was scored again");
    assert!(!last.stderr.contains("steps_per_epoch"), "it trained again:\n{}", last.dump());
    assert!(files(&output, ".partial").is_empty());
    assert!(!first_look.exists());
}

#[test]
fn a_finished_run_is_left_alone_and_another_configuration_is_refused() {
    let demo = demo();
    let quick = Duration::from_secs(60);
    let call = |ranks: usize, output: &Path, more: &[&str]| mpirun(ranks, &arguments(demo, "run", output, more), quick);
    let before = findings(&demo.reference);
    for ranks in [1, 3] {
        let done = call(ranks, &demo.reference, &[]);
        done.succeeded().says("is finished").says("--fresh");
        let other = call(ranks, &demo.reference, &["--set", "train.learning_rate=0.001"]);
        other.exits(2).says("train.learning_rate: \"auto\" -> 0.001").says("--fresh").without_panic();
        let other = call(ranks, &demo.reference, &["--set", "seed=2"]);
        other.exits(2).says("seed: 1 -> 2");
        let none = call(ranks, &folder("resume"), &["--resume"]);
        none.exits(2).says("holds no checkpoint").without_panic();
    }
    // The memory for reading does not change results, so it may differ.
    call(2, &demo.reference, &["--set", "io.memory_mib=512"]).succeeded().says("is finished");
    call(2, &demo.reference, &["--resume"]).succeeded().says("is finished");
    call(2, &demo.reference, &["--resume", "--fresh"]).exits(2);
    assert_eq!(findings(&demo.reference), before);

    // Few steps; the number of lines shows whether the run started anew.
    let output = folder("fresh");
    let few = ["--set", "train.steps=4"];
    let fewer = ["--set", "train.steps=3"];
    call(2, &output, &few).succeeded();
    let steps = || metrics(&output).iter().filter(|line| line.get("loss").is_some()).count();
    assert_eq!(steps(), 4);
    fs::write(output.join("notes.txt"), "not ours").expect("a folder takes a file");
    call(2, &output, &fewer).exits(2).says("train.steps: 4 -> 3");
    assert_eq!(steps(), 4);
    call(2, &output, &[&fewer[..], &["--fresh"]].concat()).succeeded();
    assert_eq!((steps(), weights(&output).0.as_str()), (3, "step-00000003.safetensors"));
    assert!(output.join("notes.txt").exists(), "--fresh removed what is not coreloss's");
}

#[test]
fn the_default_score_finds_the_planted_shifts() {
    let summary = summary(&demo().reference);
    let cubes = summary["cubes"].as_array().expect("cubes");
    let shown = |name: &str| {
        let cube = cubes.iter().find(|cube| cube["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        let (method, score) = (&cube["default"]["method"], &cube["default"]["score"]);
        let (method, score) = (method.as_str().expect("a method"), score.as_str().expect("a score"));
        (cube, cube["methods"][method][score].clone())
    };
    for name in ["shift_5.4eV", "shift_2.4eV"] {
        let (cube, found) = shown(name);
        let f1 = found["f1"].as_f64().expect("there is truth beside the cube");
        assert!(f1 >= 0.95, "{name}: F1 {f1} by its own threshold: {found:#}");
        // PCA is scored as well.
        assert!(cube["methods"]["pca3"]["pcc"]["f1"].is_number(), "{name}");
        let regions = cube["regions"].as_array().expect("regions");
        assert!(!regions.is_empty(), "{name} has no region");
    }
    // Whatever the result is, it is listed.
    let (_, oxygen) = shown("oxygen_minus_30");
    for metric in ["f1", "best_f1", "auroc", "average_precision", "precision", "recall"] {
        assert!(oxygen[metric].is_number(), "{metric} of oxygen_minus_30: {oxygen:#}");
    }
}

#[test]
fn every_file_of_the_demo_opens_in_hyperspy() {
    let demo = demo();
    let mut all = files(&demo.archive, ".hspy");
    all.extend(files(&demo.reference, ".hspy"));
    assert_eq!(all.len(), 9, "cubes, truth and results: {all:?}");
    ask_python("tests/judges/hyperspy_judge.py", &all);
}
