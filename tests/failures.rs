//! Wrong input and bad luck on 1, 2 and 3 ranks: a clear message or a documented treatment, the right exit code, and
//! never a job that hangs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ndarray::{Array3, s};

use crate::common::case::{Case, LIMIT, RANKS};
use crate::common::cube::{counts, write_hspy, write_hspy_from, write_map, write_plain};
use crate::common::result::{maps, metrics, summary};
use crate::common::{Job, after, coreloss, files, finish, is_root, mpirun, send, skip};

const SHAPE: [usize; 3] = [16, 16, 64];

/// Pixels `[y, x]` without a score in a map of 16 columns.
fn unscored(score: &[f64]) -> Vec<[usize; 2]> {
    let nan = score.iter().enumerate().filter(|(_, value)| value.is_nan());
    nan.map(|(i, _)| [i / SHAPE[1], i % SHAPE[1]]).collect()
}

#[test]
fn a_missing_file_is_named_with_its_nearest() {
    let case = Case::new("missing").cube(&counts(SHAPE, 1));
    case.refused(&["archive.inputs=[cubes.hspy]"], 2, &["cubes.hspy: no such file", "did you mean", "cube.hspy?"]);
    case.refused(&["archive.inputs=[./*.dm4]"], 2, &["*.dm4 matches no file"]);
    // YAML takes this for an alias.
    case.refused(&["archive.inputs=[*.dm4]"], 2, &["not valid YAML", "[\"*.hspy\"]"]);
    case.refused(&["archive.inputs=[]"], 2, &["archive.inputs is empty"]);
}

#[test]
fn a_file_that_is_cut_short_or_damaged_is_named() {
    let case = Case::new("damaged").cube(&counts([64, 64, 64], 1));
    let path = case.path("cube.hspy");
    let whole = fs::read(&path).expect("a cube was written");
    fs::write(&path, &whole[..whole.len() / 2]).expect("a file can be cut");
    case.refused(&[], 1, &["cube.hspy", "cut short"]);
    fs::write(&path, "").expect("a file can be emptied");
    case.refused(&[], 1, &["cube.hspy", "is empty"]);
    fs::write(&path, "x,y\n1,2\n").expect("a file can be written");
    case.refused(&[], 1, &["cube.hspy", "is no HDF5 file"]);
    // Damaged in the middle of compressed values, which only one rank reads.
    let mut bytes = whole.clone();
    bytes[whole.len() / 2..][..64].fill(0xa5);
    fs::write(&path, &bytes).expect("a file can be written");
    case.refused(&[], 1, &["cube.hspy", "cannot read", "rank"]);
}

#[test]
fn a_wrong_dataset_is_refused_with_the_right_ones() {
    let case = Case::new("dataset").cube(&counts(SHAPE, 1));
    case.refused(
        &["archive.dataset=Experiments/none/data"],
        1,
        &["no experiment \"none\"", "Experiments/spectra/data"],
    );
    write_plain(&case.path("plain.h5"), "entry/counts", &counts(SHAPE, 1));
    let plain = "archive.inputs=[plain.h5]";
    case.refused(&[plain, "archive.dataset=entry/nothing"], 1, &["plain.h5", "entry/counts"]);
    case.ends(&[plain, "archive.dataset=entry/counts"], 0);
}

#[test]
fn values_that_are_missing_infinite_or_negative_are_treated() {
    let mut values = counts(SHAPE, 1);
    values.slice_mut(s![3, 4, ..]).fill(f32::NAN);
    values.slice_mut(s![9, 2, ..]).fill(f32::INFINITY);
    values.slice_mut(s![12, 12, ..]).fill(f32::NEG_INFINITY);
    values.slice_mut(s![0, 0, ..]).fill(0.0);
    // A few bad voxels are no reason to drop a pixel.
    values[[6, 6, 10]] = f32::NAN;
    values[[7, 7, 20]] = f32::INFINITY;
    values.slice_mut(s![5, .., 3]).fill(-50.0);
    let case = Case::new("values").cube(&values);
    // Without the mean over neighbours, a bad pixel is missing in the maps.
    case.ends(&["preprocess.spatial_mean=1"], 0);
    let missing = unscored(&case.score("cube"));
    assert_eq!(missing, [[0, 0], [3, 4], [9, 2], [12, 12]]);
}

#[test]
fn a_cube_without_signal_is_refused_in_words() {
    for (name, value) in [("zeros", 0.0), ("nan", f32::NAN), ("negative", -3.0)] {
        let case = Case::new(name).cube(&Array3::from_elem(SHAPE, value));
        case.refused(&[], 1, &["cube.hspy", "no pixel has signal"]);
    }
}

#[test]
fn a_constant_cube_runs_to_the_end() {
    for (name, value) in [("constant", 100.0), ("ones", 1.0), ("faint", 1e-3), ("bright", 1e9)] {
        let case = Case::new(name).cube(&Array3::from_elem(SHAPE, value));
        case.ends(&[], 0);
    }
}

#[test]
fn tiny_cubes_run_to_the_end() {
    for [rows, columns] in [[1, 1], [2, 2], [1, 100], [49, 6]] {
        let case = Case::new(&format!("tiny-{rows}x{columns}")).cube(&counts([rows, columns, 64], 1));
        case.ends(&[], 0);
        for ranks in RANKS {
            let shape = &summary(&case.output(ranks))["cubes"][0]["shape"];
            assert_eq!(*shape, serde_json::json!([rows, columns, 64]));
            assert!(metrics(&case.output(1)) == metrics(&case.output(ranks)));
        }
    }
    let case = Case::new("few-channels").cube(&counts([8, 8, 7], 1));
    case.refused(&[], 1, &["at least 16 energy channels"]);
}

#[test]
fn a_wrong_configuration_is_explained() {
    let case = Case::new("configuration").cube(&counts(SHAPE, 1));
    let yaml = "seed: 1\ntrain:\n  global_bacth: 16\n";
    fs::write(case.path("run.yaml"), yaml).expect("a folder takes a file");
    case.refused(&[], 2, &["run.yaml", "line 3", "Did you mean `global_batch`?"]);
    fs::write(case.path("run.yaml"), "train: {steps: 2\n").expect("a folder takes a file");
    case.refused(&[], 2, &["run.yaml", "line"]);
    fs::remove_file(case.path("run.yaml")).expect("a file can go");
    case.refused(&[], 2, &["cannot read the configuration run.yaml"]);

    let case = Case::new("values-out-of-range").cube(&counts(SHAPE, 1));
    case.refused(&["train.micro_batch=3"], 2, &["train.global_batch: a multiple"]);
    case.refused(&["trian.steps=3"], 2, &["Did you mean `train`?"]);
    case.refused(&["train.steps"], 2, &["key=value"]);
    case.refused(&["archive.energy_range_ev=[9000, 9100]"], 1, &["holds none of its energies"]);
    case.refused(&["archive.regions=[{y: [0, 99], x: [0, 4], use: ignore}]"], 1, &["reach beyond its 16 x 16 pixels"]);
    for ranks in RANKS {
        let unknown = finish(case.command(ranks, &["rum", "run.yaml"]), LIMIT);
        unknown.exits(2).says("run");
        let report = finish(case.command(ranks, &["report", "run.yaml"]), LIMIT);
        report.exits(1).says("holds no finished run").without_panic();
        let score = finish(case.command(ranks, &["score", "run.yaml"]), LIMIT);
        score.exits(1).says("run `coreloss train` first").without_panic();
    }
}

#[test]
fn cubes_that_do_not_belong_together_are_refused() {
    let case = Case::new("axes").cube(&counts(SHAPE, 1));
    let both = "archive.inputs=[cube.hspy, other.hspy]";
    let words = ["cube.hspy", "other.hspy", "one energy axis"];
    // Channels of 40 and 6.25 eV; then energies of which a third are common.
    write_hspy(&case.path("other.hspy"), &counts([16, 16, 10], 1));
    case.refused(&[both], 1, &[&words[..], &["4 times as wide"]].concat());
    write_hspy_from(&case.path("other.hspy"), &counts(SHAPE, 1), 700.0, 6.25);
    case.refused(&[both], 1, &[&words[..], &["less than half in common"]].concat());
    // Companions of another size.
    let case = Case::new("companions").cube(&counts(SHAPE, 1));
    write_map(&case.path("cube.mask.hspy"), [4, 4], &[0; 16]);
    case.refused(&[], 1, &["cube.mask.hspy", "[4, 4]", "[16, 16]"]);
    fs::remove_file(case.path("cube.mask.hspy")).expect("a file can go");
    write_map(&case.path("cube.truth.hspy"), [4, 4], &[0; 16]);
    case.refused(&[], 1, &["cube.truth.hspy", "[4, 4]", "[16, 16]"]);
}

#[test]
fn a_training_that_diverges_is_ended_on_all_ranks() {
    let case = Case::new("diverges").cube(&counts(SHAPE, 1));
    let sets = ["train.learning_rate=1e30", "train.steps=20"];
    case.refused(&sets, 1, &["the loss is not finite at step", "train.learning_rate"]);
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let case = Case::new("unwritable").cube(&counts(SHAPE, 1));
    fs::write(case.path("file"), "no folder").expect("a folder takes a file");
    for ranks in RANKS {
        let ended = case.run(ranks, &["output=file/below"]);
        ended.exits(1).says("file/below").says("choose another `output`").without_panic();
    }
    if !is_root() {
        return skip("only root can mount a read-only or full file system");
    }
    let mounted = case.path("mounted");
    fs::create_dir(&mounted).expect("a folder takes a folder");
    let command = |options: &str, ranks: usize, arguments: &[&str]| {
        let run = case.command(ranks, arguments);
        let run = after("mount -t tmpfs -o \"$0\" none mounted", options, &run);
        // A mount in a name space of the job disappears with the job.
        let mut command = Command::new("unshare");
        command.arg("-m").arg(run.get_program()).args(run.get_args());
        let set = run.get_envs();
        command.envs(set.filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(&case.folder);
        finish(command, LIMIT)
    };
    let on = |options: &str, ranks| command(options, ranks, &["run", "run.yaml", "--set", "output=mounted/out"]);
    let can_mount = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none"]).arg(&mounted).status();
    if !can_mount.is_ok_and(|status| status.success()) {
        return skip("this machine lets not even root mount a file system");
    }
    for ranks in RANKS {
        let ended = on("ro", ranks);
        ended.exits(1).says("mounted/out").says("choose another `output`").without_panic();
        // Space for the configuration, but neither for a checkpoint nor for maps.
        let ended = on("size=64k", ranks);
        ended.exits(1).says("mounted/out").without_panic();
        // Space for the checkpoint, but not for the maps as well.
        let ended = on("size=5450k", ranks);
        ended.exits(1).says("mounted/out").without_panic();
    }
    // Every other command that ranks write cubes with. The cube takes more than 40 KiB, and less than 1 MiB; what is written
    // on closing is reckoned with 4 MiB.
    write_hspy(&case.path("large.hspy"), &counts([48, 48, 128], 3));
    let anomaly = "{kind: shift, amount: 3, edge_ev: 620, discs: 2, radius_px: [1.5, 2.2]}";
    let inject =
        format!("inject={{dir: mounted/made, input: large.hspy, cubes: [{{name: made, anomalies: [{anomaly}]}}]}}");
    let scene =
        "simulate={dir: mounted/made, cubes: [{name: made, scene: {shape: [48, 48, 128], dispersion_ev: 2.5}}]}";
    for size in ["size=40k", "size=1m"] {
        for arguments in [
            &["import", "large.hspy", "-o", "mounted/copies"][..],
            &["simulate", "run.yaml", "--set", scene],
            &["inject", "run.yaml", "--set", &inject],
            &["pca", "run.yaml", "--set", "output=mounted/out"],
        ] {
            command(size, 2, arguments).exits(1).says("mounted/").without_panic();
        }
    }
}

#[test]
fn a_bad_file_of_a_glob_is_set_aside_and_a_named_one_is_not() {
    let case = Case::new("set-aside").cube(&counts(SHAPE, 1));
    let whole = fs::read(case.path("cube.hspy")).expect("a cube was written");
    fs::write(case.path("broken.hspy"), &whole[..whole.len() / 2]).expect("a file can be cut");
    // This one opens, but has nothing to score.
    write_hspy(&case.path("dark.hspy"), &Array3::from_elem(SHAPE, 0f32));
    // This one opens, and fails when its values are read.
    let mut bytes = whole.clone();
    bytes[whole.len() / 2..][..64].fill(0xa5);
    fs::write(case.path("garbled.hspy"), &bytes).expect("a file can be written");
    case.ends(&["archive.inputs=[./*.hspy]"], 3);
    for ranks in RANKS {
        let summary = summary(&case.output(ranks));
        let failed = summary["failed_inputs"].as_array().expect("a list");
        let told: Vec<(&str, &str)> = failed
            .iter()
            .map(|one| (one["path"].as_str().expect("a path"), one["reason"].as_str().expect("a reason")))
            .collect();
        let reason = |path: &str| told.iter().find(|one| one.0 == path).map_or("", |one| one.1);
        assert!(reason("broken.hspy").contains("cut short"), "{told:?}");
        assert!(reason("dark.hspy").contains("no pixel has signal"), "{told:?}");
        assert!(reason("garbled.hspy").contains("cannot read"), "{told:?}");
        assert_eq!(told.len(), 3);
        assert_eq!(summary["cubes"].as_array().map(Vec::len), Some(1));
        assert_eq!(summary["cubes"][0]["name"], "cube");
    }
    for name in ["broken", "dark", "garbled"] {
        let named = Case::new(&format!("named-{name}")).cube(&counts(SHAPE, 1));
        let file = format!("{name}.hspy");
        fs::copy(case.path(&file), named.path(&file)).expect("a file can be copied");
        named.refused(&[&format!("archive.inputs=[cube.hspy, {file}]")], 1, &[&file]);
    }
    // Nothing is left to score.
    fs::remove_file(case.path("cube.hspy")).expect("a file can go");
    case.refused_fresh(&["archive.inputs=[./*.hspy]"], 1, &["none of", "broken.hspy", "dark.hspy"]);
}

impl Case {
    /// As `refused`, after the outputs of earlier runs are removed.
    fn refused_fresh(&self, sets: &[&str], code: i32, words: &[&str]) {
        for ranks in RANKS {
            fs::remove_dir_all(self.output(ranks)).expect("an earlier output");
        }
        self.refused(sets, code, words);
    }
}

#[test]
fn masks_and_regions_are_honoured() {
    let case = Case::new("mask").cube(&counts(SHAPE, 1));
    let mut mask = [0u8; 16 * 16];
    mask[5 * 16 + 3] = 1;
    mask[15 * 16 + 15] = 1;
    write_map(&case.path("cube.mask.hspy"), [16, 16], &mask);
    case.ends(&["archive.regions=[{y: [2, 4], x: [7, 9], use: ignore}]"], 0);
    let ignored = unscored(&case.score("cube"));
    assert_eq!(ignored, [[2, 7], [2, 8], [3, 7], [3, 8], [5, 3], [15, 15]]);
    assert_eq!(summary(&case.output(2))["cubes"][0]["ignored"], 6);

    // Trained on the left half only: the right half changes no loss, but is scored.
    let train = ["archive.regions=[{y: [0, 16], x: [0, 6], use: train}]", "preprocess.gain=1"];
    let mut losses = Vec::new();
    for (name, factor) in [("bulk", 1.0), ("bulk-other", 1.5)] {
        let mut values = counts(SHAPE, 1);
        values.slice_mut(s![.., 8.., ..]).mapv_inplace(|count| (count * factor).round());
        let case = Case::new(name).cube(&values);
        case.ends(&train, 0);
        assert!(unscored(&case.score("cube")).is_empty());
        losses.push(metrics(&case.output(1)));
    }
    assert!(losses[0] == losses[1], "pixels outside of the training region changed the training");
}

#[test]
fn a_rank_that_dies_ends_the_job_at_once() {
    for ranks in [2, 3] {
        for phase in ["metrics.jsonl", ".coreloss.hspy.partial"] {
            let case = Case::new("dies").cube(&counts([96, 96, 256], 1));
            let steps = if phase == "metrics.jsonl" { "100000" } else { "1" };
            let steps = format!("train.steps={steps}");
            let arguments = ["run", "run.yaml", "--set", &steps];
            let mut job = Job::of(case.command(ranks, &arguments));
            let output = case.path("out");
            job.until(phase, LIMIT, || output.is_dir() && !files(&output, phase).is_empty());
            let victim = job.ranks()[ranks - 1];
            send(victim, libc::SIGKILL);
            let ended = job.wait(Duration::from_secs(10));
            assert!(ended.code() != 0, "a dead rank went unnoticed:\n{}", ended.dump());
            ended.says(&format!("rank {} ", ranks - 1)).says("signal 9");
            assert!(files(&output, ".coreloss.hspy").is_empty(), "{}", ended.dump());
            assert!(!output.join("summary.json").exists());
        }
    }
}

#[test]
fn ranks_of_other_programs_or_arguments_are_refused() {
    let case = Case::new("others").cube(&counts(SHAPE, 1));
    let program = env!("CARGO_BIN_EXE_coreloss");
    let other = case.path("coreloss");
    fs::copy(program, &other).expect("a program can be copied");
    let mut bytes = fs::read(&other).expect("it can be read");
    bytes.extend(b"another");
    fs::write(&other, bytes).expect("it can be written");
    for (second, words) in [
        (vec![other.to_str().expect("a path"), "run", "run.yaml"], "rank 2 runs another program"),
        (vec![program, "run", "run.yaml", "--set", "seed=5"], "rank 2 was started with `run run.yaml --set seed=5`"),
    ] {
        let mut command = case.command(2, &["run", "run.yaml", ":", "-n", "1"]);
        command.args(second);
        let ended = finish(command, LIMIT);
        ended.exits(2).says(words).without_panic();
    }
}

#[test]
fn the_program_works_without_mpirun() {
    let case = Case::new("alone").cube(&counts(SHAPE, 1));
    case.ends(&[], 0);
    case.run(0, &[]).succeeded();
    assert!(maps(&case.output(0)) == maps(&case.output(1)));
    mpirun(1, &["--version"], LIMIT).succeeded().says(env!("CARGO_PKG_VERSION"));
    let help = finish(coreloss(0, &["--help"]), LIMIT);
    help.succeeded().says("Exit codes");
    assert!(Path::new(&case.output(0)).join("report.html").exists());
}
