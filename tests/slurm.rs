//! The job scripts on a real Slurm of one node: they train and score, and whatever ends a job, its training is not lost.
//!
//! The cube is small (64 x 64 x 120) and the steps are few: these tests are about what Slurm does to a job, and must pass
//! on slow machines.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use coreloss::train::Checkpoint;
use serde_json::Value;

use crate::common::send;
use crate::common::slurm::Sandbox;

#[test]
fn run_sbatch_trains_and_scores_and_import_sbatch_copies_with_two_tasks() {
    let Some(slurm) = Sandbox::start() else {
        return;
    };
    slurm.simulate();
    let out = slurm.path("run");
    let job = slurm.submit("run", &out, 40, &[]);
    slurm.wait_for(&job, "COMPLETED");

    let text = fs::read_to_string(out.join("summary.json")).expect("a finished run has a summary");
    let summary: Value = serde_json::from_str(&text).expect("a summary is JSON");
    assert_eq!(summary["ranks"], 2, "{summary}");
    assert_eq!(summary["cubes"][0]["name"], "cube", "{summary}");
    assert!(summary["cubes"][0]["methods"]["cvae"].is_object(), "{summary}");
    assert!(out.join("cube.coreloss.hspy").exists() && out.join("report.html").exists());
    // Each task had the threads that it asked for, and both were ranks of one job.
    let log = slurm.log(&job);
    assert!(log.contains("ranks=2 threads_per_rank=1"), "{log}");

    let copies = slurm.path("copies");
    let words = [slurm.path("archive/cube.hspy"), "-o".into(), copies.clone()];
    let words = words.map(|word| word.display().to_string());
    let job = slurm.sbatch("import", &[], &words.each_ref().map(|word| &word[..]));
    slurm.finish(&job);
    let log = slurm.log(&job);
    assert!(copies.join("cube.hspy").exists() && log.contains("ranks=2"), "{log}");
}

#[test]
fn a_job_that_its_time_limit_ends_goes_on_to_the_result_of_an_unbroken_one() {
    let Some(slurm) = Sandbox::start() else {
        return;
    };
    slurm.simulate();
    let probe = slurm.path("probe");
    slurm.finish(&slurm.submit("train", &probe, 40, &[]));
    // Slurm checks limits every 30 s, and signals up to 30 s early rather than late. A signal 27 s before the end of one
    // minute comes 3 to 33 s after the start, and the training takes longer than that.
    let steps = (45.0 * steps_per_s(&probe)) as usize;

    let unbroken = slurm.path("unbroken");
    slurm.finish(&slurm.submit("train", &unbroken, steps, &[]));
    let broken = slurm.path("broken");
    let job = slurm.submit("train", &broken, steps, &["--time=1", "--signal=B:USR1@27"]);
    slurm.wait_until("second start", || {
        let state = slurm.show(&job, "JobState");
        assert_ne!(state, "COMPLETED", "never stopped: {}", slurm.log(&job));
        slurm.show(&job, "Restarts") == "1"
    });
    let stopped = last_step(&broken);
    println!("the time limit came after step {stopped} of {steps}");
    assert!(stopped < steps);
    // One stop is enough; more would take long.
    slurm.ask(&["scontrol", "update", &format!("JobId={job}"), "TimeLimit=30"]);
    slurm.finish(&job);
    assert!(slurm.log(&job).contains("is queued again"));
    assert_same_training(&broken, &unbroken);
}

#[test]
fn tasks_of_arrays_go_on_and_scancel_and_the_cap_end_them_without_loss() {
    let Some(slurm) = Sandbox::start() else {
        return;
    };
    slurm.simulate();
    let steps = 240;
    let out = slurm.path("array");
    let submit = |options: &[&str]| slurm.submit("train", &out, steps, options);

    // Requeued too often: it ends with the exit code that says why.
    let job = submit(&["--export=ALL,CORELOSS_MAX_REQUEUES=0"]);
    slurm.wait_for_step(&job, &out, 10);
    slurm.ask(&["scancel", "--signal=USR1", "--batch", &job]);
    slurm.wait_for(&job, "FAILED");
    assert_eq!(slurm.show(&job, "ExitCode"), "75:0", "{}", slurm.log(&job));

    // A task of an array: only this task is requeued.
    let task = format!("{}_7", submit(&["--array=7"]));
    slurm.wait_for_step(&task, &out, 50);
    slurm.ask(&["scancel", "--signal=USR1", "--batch", &task]);
    slurm.wait_until("second start", || slurm.show(&task, "Restarts") == "1");
    slurm.wait_for_step(&task, &out, 90);

    // Cancelled: a checkpoint is written, and the job is not requeued. A requeued job would have started again by then.
    slurm.ask(&["scancel", &task]);
    slurm.wait_for(&task, "CANCELLED");
    sleep(Duration::from_secs(8));
    slurm.wait_for(&task, "CANCELLED");
    let stopped = last_step(&out);
    let checkpoint = format!("checkpoints/step-{stopped:08}.safetensors");
    assert!((90..steps).contains(&stopped) && out.join(&checkpoint).exists(), "no {checkpoint}");

    slurm.finish(&submit(&[]));
    let unbroken = slurm.path("unbroken");
    slurm.finish(&slurm.submit("train", &unbroken, steps, &[]));
    assert_same_training(&out, &unbroken);
}

#[test]
fn a_killed_rank_and_scontrol_requeue_lose_nothing() {
    let Some(slurm) = Sandbox::start() else {
        return;
    };
    slurm.simulate();
    let (steps, out) = (100, slurm.path("killed"));
    let job = slurm.submit("train", &out, steps, &[]);
    slurm.wait_for_step(&job, &out, 20);
    let ranks = slurm.processes(&job);
    assert_eq!(ranks.len(), 2, "{ranks:?}");
    send(ranks[1], libc::SIGKILL);
    slurm.wait_for(&job, "FAILED");
    let log = slurm.log(&job);
    assert!(log.contains("task 1: Killed"), "{log}");
    assert!(last_step(&out) < steps);

    // Submitted again it continues, and once more after Slurm has taken its node away.
    let job = slurm.submit("train", &out, steps, &[]);
    slurm.wait_for_step(&job, &out, 50);
    slurm.ask(&["scontrol", "requeue", &job]);
    slurm.wait_until("second start", || slurm.show(&job, "Restarts") == "1");
    slurm.finish(&job);

    let unbroken = slurm.path("unbroken");
    slurm.finish(&slurm.submit("train", &unbroken, steps, &[]));
    assert_same_training(&out, &unbroken);
}

/// What only these tests ask of the sandbox.
trait Jobs {
    fn simulate(&self);
    fn submit(&self, name: &str, out: &Path, steps: usize, options: &[&str]) -> String;
    fn wait_for_step(&self, job: &str, out: &Path, step: usize);
    fn processes(&self, job: &str) -> Vec<i32>;
}

impl Jobs for Sandbox {
    /// Writes the archive and a configuration.
    fn simulate(&self) {
        let archive = self.path("archive");
        let archive = archive.display();
        let config = format!(
            "archive: {{inputs: ['{archive}/*.hspy']}}\n\
             train: {{device: cpu}}\n\
             pca: {{components: [3]}}\n\
             simulate:\n  dir: '{archive}'\n  cubes:\n    - name: cube\n      scene:\n        \
             shape: [64, 64, 120]\n        dispersion_ev: 3.3\n        \
             anomalies: [{{kind: shift, amount: 8, discs: 2}}]\n"
        );
        fs::write(self.path("config.yaml"), config).expect("a configuration");
        let status =
            self.command(env!("CARGO_BIN_EXE_coreloss")).arg("simulate").arg(self.path("config.yaml")).status();
        assert!(status.expect("coreloss runs").success());
    }

    /// Submits `jobs/NAME.sbatch` with two tasks; returns its number.
    fn submit(&self, name: &str, out: &Path, steps: usize, options: &[&str]) -> String {
        let config = self.path("config.yaml").display().to_string();
        let output = format!("output={}", out.display());
        let steps = format!("train.steps={steps}");
        self.sbatch(name, options, &[&config, "--set", &output, "--set", &steps])
    }

    /// Waits until the running job has done `step`.
    fn wait_for_step(&self, job: &str, out: &Path, step: usize) {
        self.wait_until(&format!("step {step}"), || {
            let state = self.show(job, "JobState");
            assert!(
                ["PENDING", "RUNNING", "COMPLETING"].contains(&&state[..]),
                "job {job} is {state}: {}",
                self.log(job)
            );
            state == "RUNNING" && last_step(out) >= step
        });
    }

    /// The ranks of a job, in their order.
    fn processes(&self, job: &str) -> Vec<i32> {
        let listed = self.ask(&["scontrol", "listpids", job]);
        let mut ranks: Vec<(usize, i32)> = listed
            .lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let pid: i32 = words.first()?.parse().ok()?;
                let called = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                (called.trim() == "coreloss").then_some((words.last()?.parse().ok()?, pid))
            })
            .collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|(_, pid)| pid).collect()
    }
}

/// The lines of `metrics.jsonl` without the field that depends on time.
fn metrics(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    // The last line may be incomplete.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .map(|mut line| {
            line.as_object_mut().map(|line| line.remove("patches_per_s"));
            line
        })
        .collect()
}

fn last_step(out: &Path) -> usize {
    let lines = metrics(out);
    lines.last().and_then(|line| line["step"].as_u64()).unwrap_or(0) as usize
}

/// The median, so that the first slow steps do not count.
fn steps_per_s(out: &Path) -> f64 {
    let text = fs::read_to_string(out.join("metrics.jsonl")).expect("a training has metrics");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut speeds: Vec<f64> = lines.filter_map(|line| line["patches_per_s"].as_f64()).collect();
    speeds.sort_by(f64::total_cmp);
    // The default of train.global_batch.
    speeds[speeds.len() / 2] / 8.0
}

/// The same losses at every step, and the same weights and moments at the end, to the bit.
fn assert_same_training(a: &Path, b: &Path) {
    let (left, right) = (metrics(a), metrics(b));
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left, right);
    }
    assert_eq!(left.len(), right.len());
    let name = format!("checkpoints/step-{:08}.safetensors", last_step(b));
    let [a, b] = [a, b].map(|out| Checkpoint::read(&out.join(&name)).expect("the last checkpoint is whole"));
    let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
    assert!(bits(a.model.parameters.values()) == bits(b.model.parameters.values()), "weights differ");
    assert!(bits(&a.first_moment) == bits(&b.first_moment), "first moments differ");
    assert!(bits(&a.second_moment) == bits(&b.second_moment), "second moments differ");
}
