//! Several nodes, rehearsed on this machine with TCP between them alone: the results are those of one node, and whatever a node
//! or the network does, a job says which and ends, and goes on to the same results.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::Ended;
use crate::common::result::{assert_equal, maps, metrics, weights};
use crate::common::slurm::Sandbox;

/// Time in which a job that cannot go on has said why.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_run_and_a_survey_on_two_and_three_nodes_equal_those_on_one() {
    let Some(slurm) = Sandbox::of_nodes(3) else {
        return;
    };
    slurm.simulate();
    let (one, input) = (slurm.path("one"), format!("archive.inputs=[{}]", slurm.path("archive/cube.hspy").display()));
    slurm.coreloss(["-N1", "-n1"], "run", &[&input, &output(&one)]).succeeded();
    for nodes in ["2", "3"] {
        let out = slurm.path(nodes);
        slurm.coreloss([&format!("-N{nodes}"), &format!("-n{nodes}")], "run", &[&input, &output(&out)]).succeeded();
        assert_equal(&out, &one);
    }
    // Without Slurm: mpirun reaches the nodes through an agent, as it would through ssh.
    let out = slurm.path("mpirun");
    let config = slurm.path("config.yaml").display().to_string();
    let agent = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/slurm_nodes.sh rsh");
    let mpirun = "mpirun --allow-run-as-root -H node1:2,node3:1 --bind-to none --mca plm_rsh_agent";
    let mpirun: Vec<&str> = mpirun.split(' ').chain([agent, env!("CARGO_BIN_EXE_coreloss"), "run", &config]).collect();
    slurm.run(&[&mpirun[..], &["--set", &input, "--set", &output(&out)]].concat()).succeeded();
    assert_equal(&out, &one);

    // Groups of a survey's ranks work on a cube each.
    for (name, ranks) in [("survey1", ["-N1", "-n1"]), ("survey2", ["-N2", "-n2"])] {
        slurm.coreloss(ranks, "survey", &[&output(&slurm.path(name))]).succeeded();
    }
    assert!(maps(&slurm.path("survey1")) == maps(&slurm.path("survey2")), "surveys differ");
}

#[test]
fn what_a_rank_says_last_arrives() {
    let Some(slurm) = Sandbox::of_nodes(2) else {
        return;
    };
    slurm.simulate();
    let archive = slurm.path("archive").display().to_string();
    for _ in 0..3 {
        // An error that all ranks agree on.
        let ended = slurm.coreloss(["-N2", "-n2"], "run", &[&format!("archive.inputs=[{archive}/none.hspy]")]);
        ended.exits(2).says("none.hspy");
        // A report, and then an error.
        let ended = slurm.coreloss(["-N2", "-n3"], "doctor", &["output=/proc/none"]);
        ended
            .exits(1)
            .says("BAD      output")
            .says("2, with unequal numbers of ranks: 2 on node1, 1 on node2")
            .says("checks are bad");
    }
    // Interfaces of one address on every node, as docker0 is: Open MPI would connect the ranks to themselves.
    for node in ["node1", "node2"] {
        for line in ["link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up"] {
            let words: Vec<&str> =
                ["scripts/slurm_nodes.sh", "on", node, "ip"].into_iter().chain(line.split(' ')).collect();
            slurm.ask(&words);
        }
    }
    let ended = slurm.coreloss(["-N2", "-n2"], "doctor", &[&output(&slurm.path("doctor"))]);
    ended.exits(0).says("all ranks write one file").says("2, with 1 ranks each");
    // Folders that have the same name on all nodes, and are others.
    let began = Instant::now();
    let ended = slurm.coreloss(["-N2", "-n2"], "run", &["output=/tmp/out"]);
    ended.exits(2).says("/tmp/out is not the same folder on all nodes: rank 1 on node2 does not see");
    slurm.ask(&["scripts/slurm_nodes.sh", "on", "node1", "cp", "-r", &archive, "/tmp/archive"]);
    let inputs = "archive.inputs=[/tmp/archive/cube.hspy]";
    let ended = slurm.coreloss(["-N2", "-n2"], "run", &[inputs, &output(&slurm.path("inputs"))]);
    ended.exits(2).says("/tmp/archive/cube.hspy is not the same on all nodes: rank 1 on node2 has no such file");
    assert!(began.elapsed() < LIMIT);
}

#[test]
fn a_lost_node_rank_or_cable_ends_the_job_which_goes_on_to_the_same_result() {
    let Some(slurm) = Sandbox::of_nodes(2) else {
        return;
    };
    slurm.simulate();
    let (steps, out) = ("train.steps=60", slurm.path("broken"));
    let script =
        |words: &str| slurm.ask(&[&["scripts/slurm_nodes.sh"][..], &words.split(' ').collect::<Vec<_>>()].concat());
    let submit = |out: &Path, options: &[&str]| {
        let config = slurm.path("config.yaml").display().to_string();
        let arguments = [&config[..], "--set", &output(out), "--set", steps, "--set", "comm.abort_s=4"];
        slurm.sbatch("train", &[&["--nodes=2"], options].concat(), &arguments)
    };
    let count = |job: &str, what: &str| slurm.log(job).matches(what).count();
    // Does `fault` to node2 once the job trains for the `times`-th time, and waits until the job says so.
    let strike = |job: &str, times: usize, fault: &[&str]| {
        slurm.wait_until("training", || count(job, "steps_per_epoch=") == times);
        let since = Instant::now();
        fault.iter().for_each(|words| drop(script(words)));
        slurm.wait_until("word of it", || count(job, "no sign for 4 s of rank 1 on node2") == times);
        assert!(since.elapsed() < LIMIT, "{fault:?} was told after {:?}: {}", since.elapsed(), slurm.log(job));
        println!("{fault:?} was told after {:?}", since.elapsed());
    };

    // The node is back before Slurm gives it up. What PMIx left there keeps the job from being launched, once.
    let job = submit(&out, &[]);
    strike(&job, 1, &["kill node2", "boot node2"]);
    slurm.wait_until("another launch", || count(&job, "launched once more") == 1);
    strike(&job, 2, &["on node2 pkill -STOP -x coreloss"]);
    slurm.finish(&job);
    assert_eq!(slurm.show(&job, "Restarts"), "2", "{}", slurm.log(&job));

    let unbroken = slurm.path("unbroken");
    slurm.coreloss(["-N1", "-n1"], "train", &[&output(&unbroken), steps]).succeeded();
    assert!(metrics(&out) == metrics(&unbroken), "the losses differ");
    assert!(weights(&out) == weights(&unbroken), "the weights differ");

    let job = submit(&slurm.path("unplugged"), &["--export=ALL,CORELOSS_MAX_REQUEUES=0"]);
    strike(&job, 1, &["unplug node2"]);
    script("plug node2");
    slurm.wait_for(&job, "FAILED");
    assert_eq!(slurm.show(&job, "ExitCode"), "75:0", "{}", slurm.log(&job));
}

fn output(folder: &Path) -> String {
    format!("output={}", folder.display())
}

/// What only these tests ask of the sandbox.
trait Nodes {
    fn simulate(&self);
    fn coreloss(&self, ranks: [&str; 2], command: &str, sets: &[&str]) -> Ended;
}

impl Nodes for Sandbox {
    /// Writes an archive of two small cubes, and a configuration.
    fn simulate(&self) {
        let archive = self.path("archive").display().to_string();
        let scene = "scene: {shape: [24, 24, 48], dispersion_ev: 3.3, anomalies: [{kind: shift, amount: 8, discs: 1}]}";
        let config = format!(
            "archive: {{inputs: ['{archive}/*.hspy']}}\ntrain: {{device: cpu, steps: 3}}\npca: {{components: [3]}}\n\
             simulate:\n  dir: '{archive}'\n  cubes:\n    - {{name: cube, {scene}}}\n    - {{name: other, {scene}}}\n"
        );
        fs::write(self.path("config.yaml"), config).expect("a configuration");
        let mut simulate = self.command(env!("CARGO_BIN_EXE_coreloss"));
        assert!(simulate.arg("simulate").arg(self.path("config.yaml")).status().expect("coreloss runs").success());
    }

    /// Runs a command on `ranks`, as srun's options tell, with values set.
    fn coreloss(&self, ranks: [&str; 2], command: &str, sets: &[&str]) -> Ended {
        let config = self.path("config.yaml").display().to_string();
        let mut words = vec!["env", "CORELOSS_THREADS=1", "srun", "--mpi=pmix", "--kill-on-bad-exit=1"];
        words.extend(ranks);
        words.extend([env!("CARGO_BIN_EXE_coreloss"), command, &config]);
        sets.iter().for_each(|set| words.extend(["--set", set]));
        self.run(&words)
    }
}
