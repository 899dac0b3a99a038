//! What shells, folders and files of everyday do: closed pipes, Ctrl-C, long names, links that lead in circles.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::common::case::{Case, LIMIT};
use crate::common::cube::{counts, write_hspy_from, write_plain};
use crate::common::result::summary;
use crate::common::{Ended, Job, files, finish, send};

const SHAPE: [usize; 3] = [10, 12, 64];

/// What `script` makes of the program's output, with the program as its arguments.
fn piped(case: &Case, script: &str, arguments: &[&str]) -> Ended {
    let mut shell = std::process::Command::new("bash");
    let command = case.command(0, arguments);
    shell.args(["-c", script, "bash"]).arg(command.get_program()).args(command.get_args()).current_dir(&case.folder);
    finish(shell, LIMIT)
}

#[test]
fn output_that_nobody_reads_or_that_finds_no_room_ends_the_program_quietly() {
    let case = Case::new("printing").cube(&counts(SHAPE, 1));
    for arguments in [&["inspect", "cube.hspy"][..], &["config"], &["config", "--explain"]] {
        let ended = piped(&case, "\"$@\" | true", arguments);
        ended.without_panic();
        assert!(!ended.stderr.contains("error"), "{}", ended.dump());
        let ended = piped(&case, "\"$@\" > /dev/full", arguments);
        ended.exits(1).says("cannot print: No space left on device").without_panic();
    }
}

#[test]
fn ctrl_c_keeps_what_was_learned_and_a_second_one_ends_at_once() {
    let case = Case::new("ctrl-c").cube(&counts([48, 48, 128], 1));
    let learning = |name: &str| {
        let output = format!("output={name}");
        let run = ["run", "run.yaml", "--set", "train.steps=100000", "--set", &output];
        let mut job = Job::of(case.command(0, &run));
        let output = case.path(name);
        job.until("a step", LIMIT, || output.is_dir() && !files(&output, "metrics.jsonl").is_empty());
        job
    };
    let job = learning("out");
    job.signal(libc::SIGINT);
    job.wait(Duration::from_secs(30)).exits(75).says("start it again to go on").without_panic();
    assert!(!files(&case.path("out"), ".safetensors").is_empty());

    let job = learning("second");
    for program in job.processes("coreloss") {
        send(program, libc::SIGINT);
        send(program, libc::SIGINT);
    }
    assert!([75, 130].contains(&job.wait(Duration::from_secs(30)).code()));
}

#[test]
fn long_paths_are_written_and_names_that_are_too_long_are_refused_before_training() {
    let case = Case::new("long").cube(&counts(SHAPE, 1));
    let deep = ["d".repeat(120), "e".repeat(120), "f".repeat(60)].join("/");
    for ranks in [1, 2] {
        let output = format!("output={}/{deep}-{ranks}", case.folder.display());
        let ended = finish(case.command(ranks, &["run", "run.yaml", "--set", &output]), LIMIT);
        ended.succeeded();
    }
    let name = format!("{}.hspy", "n".repeat(240));
    fs::rename(case.path("cube.hspy"), case.path(&name)).expect("a file takes a long name");
    let inputs = format!("archive.inputs=[{name}]");
    let ended = finish(case.command(2, &["run", "run.yaml", "--set", &inputs, "--set", "output=long"]), LIMIT);
    ended.exits(1).says("file systems take 255: rename it").without_panic();
    assert!(!case.path("long/metrics.jsonl").exists());
}

#[test]
fn links_that_lead_in_circles_are_followed_once() {
    let case = Case::new("circles").cube(&counts(SHAPE, 1));
    fs::create_dir(case.path("d")).expect("a folder");
    fs::rename(case.path("cube.hspy"), case.path("d/cube.hspy")).expect("a file can move");
    symlink(".", case.path("d/a")).expect("a link");
    symlink("..", case.path("d/b")).expect("a link");
    let ended = finish(case.command(1, &["pca", "run.yaml", "--set", "archive.inputs=[d]"]), LIMIT);
    ended.succeeded();
    assert_eq!(files(&case.path("out"), ".coreloss.hspy").len(), 1);

    // Groups of HDF5 that hold themselves.
    let cube = hdf5::File::open_rw(case.path("d/cube.hspy")).expect("a cube opens");
    let group = cube.group("Experiments/spectra/original_metadata").expect("it has metadata");
    for name in ["one", "two"] {
        group.link_hard("/Experiments/spectra/original_metadata", name).expect("a link");
    }
    drop((group, cube));
    let ended = finish(case.command(2, &["import", "-o", "copies", "d/cube.hspy"]), LIMIT);
    ended.succeeded();
    assert_eq!(files(&case.path("copies"), ".hspy").len(), 1);
}

#[test]
fn what_is_doubtful_about_a_file_is_said_by_runs_and_results() {
    let case = Case::new("doubtful");
    write_plain(&case.path("cube.h5"), "data", &counts(SHAPE, 1));
    for ranks in [1, 2] {
        let ended = case.run(ranks, &["archive.inputs=[cube.h5]"]);
        ended.succeeded().says("cube.h5: no axis tells that it is the energy").says("doubtful: no energy calibration");
        let problems = &summary(&case.output(ranks))["cubes"][0]["problems"];
        assert_eq!(problems.as_array().map(Vec::len), Some(2), "{problems}");
        let page = fs::read_to_string(case.output(ranks).join("report.html")).expect("a report");
        assert!(page.contains("Doubtful: no energy calibration"), "the report is silent");
    }
}

#[test]
fn an_axis_that_begins_at_0_holds_no_zero_loss_peak_for_that() {
    let case = Case::new("zero");
    write_hspy_from(&case.path("cube.hspy"), &counts([10, 12, 200], 1), 0.0, 1.0);
    let ended = case.run(2, &["preprocess.thickness=true"]);
    ended.succeeded().says("no energy calibration");
    assert!(!ended.stderr.contains("zero-loss"), "{}", ended.dump());
    assert_eq!(summary(&case.output(2))["cubes"][0]["shape"], serde_json::json!([10, 12, 200]));
}

#[test]
fn fresh_removes_nothing_where_it_finds_files_of_others() {
    let case = Case::new("others").cube(&counts(SHAPE, 1));
    case.run(1, &[]).succeeded();
    let found = || {
        let found = files(&case.output(1), "").into_iter();
        found.filter(|path| !path.to_string_lossy().contains("/attempts/")).collect::<Vec<_>>()
    };
    let before = found();
    fs::write(case.output(1).join("checkpoints/mine"), "").expect("a folder takes a file");
    let fresh = ["run", "run.yaml", "--fresh", "--set", "output=out-1"];
    finish(case.command(2, &fresh), LIMIT).exits(1).says("checkpoints/mine is of no run").says("Nothing was removed");
    fs::remove_file(case.output(1).join("checkpoints/mine")).expect("a file can go");
    fs::create_dir(case.output(1).join("checkpoints/mine")).expect("a folder takes a folder");
    finish(case.command(1, &fresh), LIMIT).exits(1).says("checkpoints/mine is of no run").says("Nothing was removed");
    fs::remove_dir(case.output(1).join("checkpoints/mine")).expect("an empty folder can go");
    assert_eq!(found(), before);
}
