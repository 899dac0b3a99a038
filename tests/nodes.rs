//! Several nodes, rehearsed on this machine with TCP between them alone: the results are those of one node, and whatever a node
//! or the network does, a job says which and ends, and goes on to the same results.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::result::{assert_equal, metrics};
use crate::common::send;
use crate::common::slurm::Sandbox;
use crate::common::{Ended, result};

/// Seconds until a job that cannot go on ends itself, and the option that says so.
const PATIENCE: &str = "comm.abort_s=5";
/// Time in which such a job has ended.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_run_and_a_survey_on_two_and_three_nodes_equal_those_on_one() {
    let Some(slurm) = Sandbox::of_nodes(3) else {
        return;
    };
    slurm.simulate();
    let one = slurm.path("one");
    slurm.coreloss(["-N1", "-n1"], "run", &[&output(&one)]).succeeded();
    for nodes in ["2", "3"] {
        let out = slurm.path(nodes);
        slurm.coreloss([&format!("-N{nodes}"), &format!("-n{nodes}")], "run", &[&output(&out)]).succeeded();
        assert_equal(&out, &one);
    }
    // Without Slurm: mpirun reaches the nodes through an agent, as it would through ssh.
    let out = slurm.path("mpirun");
    let config = slurm.path("config.yaml").display().to_string();
    let agent = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/slurm_nodes.sh rsh");
    let mpirun = "mpirun --allow-run-as-root -H node1:2,node3:1 --bind-to none --mca plm_rsh_agent";
    let mpirun: Vec<&str> = mpirun.split(' ').chain([agent, env!("CARGO_BIN_EXE_coreloss"), "run", &config]).collect();
    slurm.run(&[&mpirun[..], &["--set", &output(&out)]].concat()).succeeded();
    assert_equal(&out, &one);

    // A survey's groups of ranks lie on one node each, and its results do not tell.
    let survey = |nodes: [&str; 2], name: &str| {
        let out = slurm.path(name);
        slurm.coreloss(nodes, "survey", &[&output(&out)]).succeeded();
        ["cube", "other"].map(|cube| result::datasets(&out.join(format!("{cube}.survey.hspy"))))
    };
    assert!(survey(["-N2", "-n2"], "survey2") == survey(["-N1", "-n1"], "survey1"), "surveys differ");
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
        ended.exits(1).says("BAD      output").says("2 on node1, 1 on node2").says("checks are bad");
    }
    // Interfaces of one address on every node, as docker0 is: Open MPI would connect the ranks to themselves.
    for node in ["node1", "node2"] {
        for line in ["link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up"] {
            let words: Vec<&str> = ["scripts/slurm_nodes.sh", "on", node, "ip"].into_iter().chain(line.split(' ')).collect();
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
fn a_node_that_lost_its_power_a_cable_or_a_message_ends_the_job_and_it_goes_on() {
    let Some(slurm) = Sandbox::of_nodes(2) else {
        return;
    };
    slurm.simulate();
    let (steps, out) = ("train.steps=60", slurm.path("broken"));
    let config = slurm.path("config.yaml").display().to_string();
    let arguments = [&config[..], "--set", &output(&out), "--set", steps, "--set", PATIENCE].map(str::to_string);
    let arguments = arguments.each_ref().map(|word| &word[..]);
    let nodes = |what: &str, node: &str| slurm.ask(&["scripts/slurm_nodes.sh", what, node]);
    let step = || if out.join("metrics.jsonl").exists() { metrics(&out).len() } else { 0 };
    let submit = || slurm.sbatch("train", &["--nodes=2"], &arguments);
    let ends = |job: &str, since: Instant, said: &str| {
        slurm.wait_until("end of the job's part", || slurm.show(job, "Restarts") != "0");
        assert!(since.elapsed() < LIMIT, "{:?}: {}", since.elapsed(), slurm.log(job));
        let log = slurm.log(job);
        assert!(log.contains(said) && log.contains("comm.abort_s"), "not {said:?}: {log}");
    };

    // A node without power that comes back before Slurm gives it up. What PMIx left there would stop the next start.
    let job = submit();
    slurm.wait_until("training", || step() > 3);
    let since = Instant::now();
    nodes("kill", "node2");
    nodes("boot", "node2");
    ends(&job, since, "no sign for 5 s of rank 1 on node2");
    let before = step();
    slurm.wait_until("a launch after all", || slurm.log(&job).contains("launched once more") && step() > before + 3);

    // A rank that stops without a word.
    let ranks = slurm.ask(&["scontrol", "listpids", &job]);
    println!("{ranks}");
    slurm.ask(&["scancel", &job]);
    slurm.wait_for(&job, "CANCELLED");

    // A cable.
    let job = submit();
    let before = step();
    slurm.wait_until("training", || step() > before + 3);
    let since = Instant::now();
    nodes("unplug", "node2");
    ends(&job, since, "no sign for 5 s of rank 1 on node2");
    nodes("plug", "node2");
    slurm.finish(&job);

    let unbroken = slurm.path("unbroken");
    slurm.coreloss(["-N1", "-n1"], "train", &[&output(&unbroken), steps]).succeeded();
    assert!(metrics(&out) == metrics(&unbroken), "the losses differ");
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
        let scene = "scene: {shape: [32, 32, 64], dispersion_ev: 3.3, anomalies: [{kind: shift, amount: 8, discs: 1}]}";
        let config = format!(
            "archive: {{inputs: ['{archive}/*.hspy']}}\ntrain: {{device: cpu, steps: 4}}\npca: {{components: [3]}}\n\
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
