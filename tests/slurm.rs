//! The job scripts on a real Slurm of one node: they train and score, and nothing that ends a job loses its training.
//!
//! `scripts/slurm_sandbox.sh` needs root; without it the tests are skipped and say so, and fail where `CI=true`.
//! A cube of 64 x 64 x 120 and fewer steps than the defaults: what is tested is what Slurm does to a job, on however
//! slow a machine, and that the steps are good for something is tested elsewhere.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use coreloss::train::Checkpoint;
use serde_json::Value;

/// No single wait takes longer on a slow machine with neighbours.
const PATIENCE: Duration = Duration::from_secs(300);

/// The jobs of two tests at once would only wait for each other's cores.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn run_sbatch_trains_and_scores_with_two_tasks() {
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
    assert!(
        summary["cubes"][0]["methods"]["cvae"].is_object(),
        "{summary}"
    );
    assert!(out.join("cube.coreloss.hspy").exists() && out.join("report.html").exists());
    // Each task had the threads that it asked for, and none thought that it was alone.
    let log = slurm.log(&job);
    assert!(log.contains("ranks=2 threads_per_rank=1"), "{log}");
}

#[test]
fn a_job_that_its_time_limit_ends_goes_on_to_the_result_of_an_unbroken_one() {
    let Some(slurm) = Sandbox::start() else {
        return;
    };
    slurm.simulate();
    let probe = slurm.path("probe");
    slurm.finish(&slurm.submit("train", &probe, 40, &[]));
    // Slurm looks at limits every 30 s and signals that much too early rather than late: with 27 s of one minute left
    // to go, the signal comes 3 to 33 s after the start. There is more than that left to train.
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
    // One stop is enough, and many take long.
    slurm.ask(&[
        "scontrol",
        "update",
        &format!("JobId={job}"),
        "TimeLimit=30",
    ]);
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

    // Queued again too often: it ends with the exit code that says why.
    let job = submit(&["--export=ALL,CORELOSS_MAX_REQUEUES=0"]);
    slurm.wait_for_step(&job, &out, 10);
    slurm.ask(&["scancel", "--signal=USR1", "--batch", &job]);
    slurm.wait_for(&job, "FAILED");
    assert_eq!(slurm.show(&job, "ExitCode"), "75:0", "{}", slurm.log(&job));

    // One task of an array: only that is queued again.
    let task = format!("{}_7", submit(&["--array=7"]));
    slurm.wait_for_step(&task, &out, 50);
    slurm.ask(&["scancel", "--signal=USR1", "--batch", &task]);
    slurm.wait_until("second start", || slurm.show(&task, "Restarts") == "1");
    slurm.wait_for_step(&task, &out, 90);

    // Cancelled: the checkpoint is written, and the job stays cancelled for longer than a requeued one waits.
    slurm.ask(&["scancel", &task]);
    slurm.wait_for(&task, "CANCELLED");
    sleep(Duration::from_secs(8));
    slurm.wait_for(&task, "CANCELLED");
    let stopped = last_step(&out);
    let checkpoint = format!("checkpoints/step-{stopped:08}.safetensors");
    assert!(
        (90..steps).contains(&stopped) && out.join(&checkpoint).exists(),
        "no {checkpoint}"
    );

    slurm.finish(&submit(&[]));
    let unbroken = slurm.path("unbroken");
    slurm.finish(&slurm.submit("train", &unbroken, steps, &[]));
    assert_same_training(&out, &unbroken);
}

/// A Slurm of this test's own, and a folder for what its jobs read and write; dropping it ends both.
struct Sandbox {
    /// Stops the Slurm when its stdin is closed: by us, or because this process was killed.
    keeper: Child,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Sandbox {
    /// None where there cannot be one, said on stdout.
    fn start() -> Option<Sandbox> {
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: only reads the process's user.
        if unsafe { libc::geteuid() } != 0 {
            println!("SKIPPED: scripts/slurm_sandbox.sh needs root");
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "CI must not skip this"
            );
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("slurm");
        let keeper = Command::new("bash")
            .args(["-c", "read -r; exec scripts/slurm_sandbox.sh stop"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CORELOSS_SLURM_STATE", state)
            .stdin(Stdio::piped())
            // Ctrl-C is not for it.
            .process_group(0)
            .spawn()
            .expect("bash runs");
        let sandbox = Sandbox {
            keeper,
            folder,
            _turn: turn,
        };
        sandbox.ask(&["scripts/slurm_sandbox.sh", "start"]);
        Some(sandbox)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that finds this sandbox.
    fn command(&self, program: &str) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_coreloss")).parent();
        let programs = programs.expect("a program lies in a folder").display();
        let mut command = Command::new(program);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env(
                "PATH",
                format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()),
            )
            .env("CORELOSS_SLURM_STATE", self.path("slurm"))
            .env_remove("CORELOSS_THREADS");
        command
    }

    /// Runs the words of `command` with the exports of `scripts/slurm_sandbox.sh env`; returns its stdout.
    fn ask(&self, command: &[&str]) -> String {
        let script = match command[0] {
            "scripts/slurm_sandbox.sh" => r#"exec "$@""#,
            _ => r#"eval "$(scripts/slurm_sandbox.sh env)" && exec "$@""#,
        };
        let output = self
            .command("bash")
            .args(["-c", script, "slurm"])
            .args(command)
            .output()
            .expect("bash runs");
        assert!(
            output.status.success(),
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

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
        let status = self
            .command(env!("CARGO_BIN_EXE_coreloss"))
            .arg("simulate")
            .arg(self.path("config.yaml"))
            .status();
        assert!(status.expect("coreloss runs").success());
    }

    /// Submits `jobs/NAME.sbatch` with two tasks; returns its number.
    fn submit(&self, name: &str, out: &Path, steps: usize, options: &[&str]) -> String {
        let script = format!("jobs/{name}.sbatch");
        let log = format!("--output={}/%j.log", self.folder.path().display());
        let config = self.path("config.yaml").display().to_string();
        let output = format!("output={}", out.display());
        let steps = format!("train.steps={steps}");
        let mut words = vec!["sbatch", "--parsable", "--ntasks=2", "--cpus-per-task=1"];
        // A laptop has less than the script asks for.
        words.extend(["--mem-per-cpu=256M", &log]);
        words.extend(options);
        words.extend([&script[..], &config, "--set", &output, "--set", &steps]);
        self.ask(&words)
    }

    /// One field of `scontrol show job`.
    fn show(&self, job: &str, field: &str) -> String {
        let text = self.ask(&["scontrol", "-o", "show", "job", job]);
        let field = format!("{field}=");
        let value = text.split(' ').find_map(|word| word.strip_prefix(&field));
        value
            .unwrap_or_else(|| panic!("no {field} in {text}"))
            .to_string()
    }

    fn log(&self, job: &str) -> String {
        fs::read_to_string(self.show(job, "StdOut")).unwrap_or_default()
    }

    fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(
                start.elapsed() < PATIENCE,
                "no {what}: {}",
                self.ask(&["squeue", "--long"])
            );
            sleep(Duration::from_millis(200));
        }
    }

    /// Waits for the job's end, which must be `state`.
    fn wait_for(&self, job: &str, state: &str) {
        let mut found = String::new();
        self.wait_until(&format!("end of job {job}"), || {
            found = self.show(job, "JobState");
            ![
                "PENDING",
                "CONFIGURING",
                "RUNNING",
                "COMPLETING",
                "REQUEUED",
            ]
            .contains(&&found[..])
        });
        assert_eq!(found, state, "{}", self.log(job));
    }

    fn finish(&self, job: &str) {
        self.wait_for(job, "COMPLETED");
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
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let stopped = self.keeper.wait();
        if !stopped.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("the sandbox does not stop");
        }
    }
}

/// The lines of `metrics.jsonl` without what depends on time.
fn metrics(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    // The last line may be half written.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .map(|mut line| {
            line.as_object_mut()
                .map(|line| line.remove("patches_per_s"));
            line
        })
        .collect()
}

fn last_step(out: &Path) -> usize {
    let lines = metrics(out);
    lines
        .last()
        .and_then(|line| line["step"].as_u64())
        .unwrap_or(0) as usize
}

/// Of the last steps, which no longer wait for anything to warm up.
fn steps_per_s(out: &Path) -> f64 {
    let text = fs::read_to_string(out.join("metrics.jsonl")).expect("a training has metrics");
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut speeds: Vec<f64> = lines
        .filter_map(|line| line["patches_per_s"].as_f64())
        .collect();
    speeds.sort_by(f64::total_cmp);
    // The default of train.global_batch.
    speeds[speeds.len() / 2] / 16.0
}

/// The same losses at every step, and the same weights and moments at the end, to the bit.
fn assert_same_training(a: &Path, b: &Path) {
    let (left, right) = (metrics(a), metrics(b));
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left, right);
    }
    assert_eq!(left.len(), right.len());
    let name = format!("checkpoints/step-{:08}.safetensors", last_step(b));
    let [a, b] =
        [a, b].map(|out| Checkpoint::read(&out.join(&name)).expect("the last checkpoint is whole"));
    let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
    assert!(
        bits(a.model.parameters.values()) == bits(b.model.parameters.values()),
        "weights differ"
    );
    assert!(
        bits(&a.first_moment) == bits(&b.first_moment),
        "first moments differ"
    );
    assert!(
        bits(&a.second_moment) == bits(&b.second_moment),
        "second moments differ"
    );
}
