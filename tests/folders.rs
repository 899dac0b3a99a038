//! Output folders on 1, 2 and 3 ranks: what a run finds there, what it may remove, and what it takes as finished.

use std::fs;
use std::path::Path;

use ndarray::s;

use crate::common::case::{Case, LIMIT, RANKS};
use crate::common::cube::{counts, write_hspy};
use crate::common::result::summary;
use crate::common::{Ended, finish};

const SHAPE: [usize; 3] = [12, 14, 200];

/// A cube with a region that is unlike the rest.
fn case(name: &str) -> Case {
    let mut cube = counts(SHAPE, 6);
    cube.slice_mut(s![4..8, 4..8, 100..]).mapv_inplace(|value| (1.6 * value).round());
    Case::new(name).cube(&cube)
}

/// `coreloss STAGE run.yaml`, with `--set` for each of `sets`.
fn call(case: &Case, ranks: usize, stage: &[&str], sets: &[&str]) -> Ended {
    let mut arguments = vec![stage[0], "run.yaml"];
    arguments.extend(&stage[1..]);
    sets.iter().for_each(|set| arguments.extend(["--set", set]));
    let ended = finish(case.command(ranks, &arguments), LIMIT);
    ended.without_panic();
    ended
}

#[test]
fn fresh_removes_its_own_results_once_the_inputs_are_open() {
    let case = case("fresh");
    for ranks in RANKS {
        case.run(ranks, &[]).succeeded();
        let output = case.output(ranks);
        let others = ["first/config.yaml", "first/cube.coreloss.hspy"].map(|name| output.join(name));
        fs::create_dir(output.join("first")).expect("a folder takes a folder");
        for path in &others {
            fs::write(path, "of another run").expect("a folder takes a file");
        }
        let set = format!("output=out-{ranks}");
        let mistyped = ["archive.inputs=[cubes.hspy]", &set];
        call(&case, ranks, &["run", "--fresh"], &mistyped).exits(2).says("cubes.hspy: no such file");
        call(&case, ranks, &["score", "--fresh"], &[&set]).exits(2).says("leave --fresh out");
        summary(&output);
        call(&case, ranks, &["run"], &[&set]).succeeded().says("is finished");
        call(&case, ranks, &["run", "--fresh"], &[&set, "train.steps=3"]).succeeded();
        assert!(output.join("checkpoints/step-00000003.safetensors").exists());
        assert!(!output.join("checkpoints/step-00000002.safetensors").exists());
        assert!(others.iter().all(|path| path.exists()), "another run's");
    }
}

#[test]
fn what_the_linear_methods_left_is_no_finished_run_and_they_lose_none() {
    let case = case("stages");
    let has_cvae = |output: &Path| {
        let methods = summary(output)["cubes"][0]["methods"].clone();
        assert!(methods.get("pca3").is_some(), "{methods}");
        methods.get("cvae").is_some()
    };
    for ranks in RANKS {
        let output = case.output(ranks);
        let set = format!("output=out-{ranks}");
        call(&case, ranks, &["pca"], &[&set]).succeeded();
        assert!(!has_cvae(&output));
        // Neither a summary nor, without one, the files of the cubes are taken as a finished run.
        if ranks == 2 {
            fs::remove_file(output.join("summary.json")).expect("a summary");
        }
        call(&case, ranks, &["run"], &[&set]).succeeded();
        assert!(has_cvae(&output));
        assert!(output.join("metrics.jsonl").exists());
        call(&case, ranks, &["pca"], &[&set])
            .exits(2)
            .says("cube.coreloss.hspy holds scores of the CVAE")
            .says("coreloss score");
        call(&case, ranks, &["run"], &[&set]).succeeded().says("is finished");
        call(&case, ranks, &["score"], &[&set]).succeeded();
        assert!(has_cvae(&output));
    }
}

#[test]
fn an_output_that_fails_is_not_booked_on_the_input() {
    let case = case("output-fails");
    write_hspy(&case.path("other.hspy"), &counts(SHAPE, 7));
    for ranks in RANKS {
        // A folder takes the place of the second cube's file.
        let blocking = case.output(ranks).join("other.coreloss.hspy.partial");
        fs::create_dir_all(&blocking).expect("folders");
        case.run(ranks, &["archive.inputs=[./*.hspy]"]).exits(1).says("other.coreloss.hspy.partial").without_panic();
        let output = case.output(ranks);
        assert!(output.join("cube.coreloss.hspy").exists());
        assert!(!output.join("summary.json").exists());
        fs::remove_dir(blocking).expect("an empty folder");
        case.run(ranks, &["archive.inputs=[./*.hspy]"]).succeeded();
        assert_eq!(summary(&output)["cubes"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn an_earlier_run_is_of_the_same_cubes_and_stays_as_it_was() {
    let case = case("earlier");
    case.run(1, &[]).succeeded();
    let earlier = "archive.train_without=out-1";
    call(&case, 2, &["run"], &["output=.", earlier]).exits(2).says("lies in the output");
    let nothing = "archive.regions=[{y: [5, 7], x: [5, 7], use: train}]";
    call(&case, 2, &["run"], &["output=none", earlier, nothing])
        .exits(1)
        .says("cube.hspy")
        .says("leaves none of its pixels to train on");
    call(&case, 2, &["run"], &["output=second", earlier]).succeeded().says("left out of the training");

    // A cube that the earlier run did not score is set aside unless it was named.
    write_hspy(&case.path("other.hspy"), &counts(SHAPE, 7));
    for ranks in RANKS {
        let output = format!("output=some-{ranks}");
        let glob = "archive.inputs=[./*.hspy]";
        call(&case, ranks, &["run"], &[&output, earlier, glob]).exits(3).says("out-1 tells nothing of other.hspy");
    }
    let named = "archive.inputs=[cube.hspy, other.hspy]";
    call(&case, 2, &["run"], &["output=named", earlier, named]).exits(1).says("out-1 tells nothing of other.hspy");

    // Scoring alone needs no earlier run.
    fs::rename(case.path("out-1"), case.path("away")).expect("a folder can be moved");
    call(&case, 2, &["score"], &["output=second", earlier]).succeeded();
    // Another run takes its place and flags other pixels.
    let ignored = "archive.regions=[{y: [4, 7], x: [4, 8], use: ignore}]";
    case.run(1, &[ignored]).succeeded();
    fs::remove_file(case.path("second/summary.json")).expect("a summary");
    call(&case, 2, &["run"], &["output=second", earlier])
        .exits(2)
        .says("cube: archive.train_without or archive.verdicts leaves out other pixels");

    // Another cube of the same name and size.
    write_hspy(&case.path("cube.hspy"), &counts(SHAPE, 8));
    for ranks in RANKS {
        call(&case, ranks, &["run"], &["output=third", earlier])
            .exits(1)
            .says("out-1/cube.coreloss.hspy is of cube.hspy, not of cube.hspy as it is now");
    }
}
