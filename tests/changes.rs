//! Inputs that change after a run, or while it is stopped; and two runs at once in one folder.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ndarray::Array3;

use crate::common::case::{Case, LIMIT};
use crate::common::cube::{counts, write_hspy};
use crate::common::result::{maps, metrics, summary};
use crate::common::{Job, files};

const SHAPE: [usize; 3] = [10, 12, 64];

fn cube(seed: u64) -> Array3<f32> {
    counts(SHAPE, seed)
}

fn names(output: &Path) -> Vec<String> {
    let cubes = summary(output)["cubes"].as_array().expect("a list").clone();
    cubes.iter().map(|cube| cube["name"].as_str().expect("a name").to_string()).collect()
}

/// All datasets of one result file of `output`, below its own name.
fn map_of(output: &Path, name: &str) -> Vec<(String, Vec<u64>)> {
    let found = maps(output).into_iter();
    let own = found.filter_map(|(path, (_, bits))| Some((path.strip_prefix(name)?.to_string(), bits)));
    let own: Vec<_> = own.filter(|(path, _)| path.starts_with(".coreloss.hspy")).collect();
    assert!(!own.is_empty(), "{} has no results of {name}", output.display());
    own
}

#[test]
fn a_cube_that_was_overwritten_is_learned_and_scored_anew() {
    let case = Case::new("overwritten");
    for ranks in [1, 2] {
        write_hspy(&case.path("cube.hspy"), &cube(1));
        let output = case.output(ranks);
        case.run(ranks, &[]).succeeded();
        let before = map_of(&output, "cube");
        // A copy with another time is the same cube.
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().append(true).open(case.path("cube.hspy")).and_then(|f| f.set_modified(later)).expect("a file");
        case.run(ranks, &[]).succeeded().says("is finished");

        write_hspy(&case.path("cube.hspy"), &cube(2));
        let resumed = case.command(ranks, &["run", "run.yaml", "--resume", "--set", &format!("output=out-{ranks}")]);
        crate::common::finish(resumed, LIMIT).exits(2).says("cube.hspy has changed").says("leave --resume out");
        let ended = case.run(ranks, &[]);
        ended.succeeded().says("cube.hspy has changed since it was trained on").says("earlier-1");
        assert_ne!(map_of(&output, "cube"), before);
        assert_eq!(map_of(&output.join("earlier-1"), "cube"), before);
        assert!(output.join("earlier-1/summary.json").exists());
        // As if nothing had been there before.
        let fresh = format!("output=fresh-{ranks}");
        case.run(ranks, &[&fresh]).succeeded();
        assert_eq!(map_of(&output, "cube"), map_of(&case.path(&format!("fresh-{ranks}")), "cube"));
        case.run(ranks, &[]).succeeded().says("is finished");
    }
}

#[test]
fn a_cube_that_was_added_is_scored_and_the_others_stay() {
    let case = Case::new("added");
    let inputs = "archive.inputs=[cubes]";
    for ranks in [1, 2] {
        let folder = case.path("cubes");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        write_hspy(&folder.join("a.hspy"), &cube(1));
        case.run(ranks, &[inputs]).succeeded();
        let output = case.output(ranks);
        let about =
            || fs::metadata(output.join("a.coreloss.hspy")).and_then(|about| about.modified()).expect("results");
        let (written, learned) = (about(), metrics(&output));

        write_hspy(&folder.join("b.hspy"), &cube(2));
        case.run(ranks, &[inputs]).succeeded().says("b.hspy is new").says("has not seen it: b");
        assert_eq!(names(&output), ["a", "b"]);
        assert_eq!((about(), metrics(&output)), (written, learned.clone()));
        case.run(ranks, &[inputs]).succeeded().says("is finished");

        // A cube that was only scored is scored again, and what was found before is set apart.
        let before = map_of(&output, "b");
        write_hspy(&folder.join("b.hspy"), &cube(3));
        case.run(ranks, &[inputs]).succeeded().says("b.hspy has changed since it was scored").says("earlier-1");
        assert_eq!(map_of(&output.join("earlier-1"), "b"), before);
        assert_ne!(map_of(&output, "b"), before);
        assert_eq!((about(), metrics(&output)), (written, learned));

        // What cannot be used is told once, and tried again when it has changed.
        fs::write(folder.join("c.hspy"), "no cube").expect("a folder takes a file");
        case.run(ranks, &[inputs]).exits(3).says("c.hspy is new");
        case.run(ranks, &[inputs]).succeeded().says("is finished");
        write_hspy(&folder.join("c.hspy"), &cube(4));
        case.run(ranks, &[inputs]).succeeded().says("c.hspy is new");
        assert_eq!(names(&output), ["a", "b", "c"]);

        fs::remove_file(folder.join("b.hspy")).expect("a file can go");
        case.run(ranks, &[inputs]).succeeded().says("b is no input any more");
        assert_eq!(names(&output), ["a", "c"]);
        assert!(output.join("b.coreloss.hspy").exists());
        case.run(ranks, &[inputs]).succeeded().says("is finished");
    }
}

#[test]
fn a_training_does_not_go_on_with_other_cubes() {
    let case = Case::new("stopped").cube(&counts([48, 48, 128], 1));
    let output = case.path("out");
    let lines = || fs::read_to_string(output.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    let learning = || {
        let before = lines();
        let mut job = Job::of(case.command(0, &["run", "run.yaml", "--set", "train.steps=100000"]));
        job.until("a step", LIMIT, || lines() > before);
        job
    };
    let job = learning();
    // A second run in the same folder is refused, and the first goes on.
    let second = job.beside(case.command(0, &["train", "run.yaml", "--set", "train.steps=100000"]));
    second.wait(LIMIT).exits(2).says("out is in use by process").without_panic();
    job.signal(libc::SIGTERM);
    job.wait(Duration::from_secs(30)).exits(75);

    write_hspy(&case.path("cube.hspy"), &counts([48, 48, 128], 2));
    let mut job = Job::of(case.command(0, &["run", "run.yaml", "--set", "train.steps=100000"]));
    let apart = output.join("earlier-1");
    job.until("a new beginning", LIMIT, || apart.join("metrics.jsonl").exists() && lines() > 0);
    job.signal(libc::SIGTERM);
    job.wait(Duration::from_secs(30)).exits(75).says("cube.hspy has changed since it was trained on");
    assert!(!files(&apart, ".safetensors").is_empty());
    // The same cube goes on.
    let job = learning();
    job.signal(libc::SIGTERM);
    job.wait(Duration::from_secs(30)).exits(75);
    assert!(!output.join("earlier-2").exists());
}
