//! A real Slurm of one node, started by `scripts/slurm_sandbox.sh`, and what tests ask of it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cores::Cores;
use super::{is_root, skip, without_open_files};

/// Limit of a single wait, also on a slow machine that others use.
const PATIENCE: Duration = Duration::from_secs(300);

/// A Slurm of one test, and a folder for what its jobs read and write; dropping it ends both.
pub struct Sandbox {
    /// Stops the Slurm when its stdin is closed: by this process, or by its death.
    keeper: Child,
    folder: tempfile::TempDir,
    cores: Option<Cores>,
}

impl Sandbox {
    /// For jobs on all cores of the machine; [`skip`]s where there cannot be one.
    pub fn start() -> Option<Sandbox> {
        if !is_root() {
            skip("scripts/slurm_sandbox.sh needs root");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("slurm");
        let keeper = without_open_files(&mut Command::new("bash"))
            .args(["-c", "read -r; exec scripts/slurm_sandbox.sh stop"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CORELOSS_SLURM_STATE", state)
            .stdin(Stdio::piped())
            // Ctrl-C must end the tests alone: the keeper has yet to stop Slurm.
            .process_group(0)
            .spawn()
            .expect("bash runs");
        let mut sandbox = Sandbox { keeper, folder, cores: None };
        // The first to start installs Slurm, while the others wait. Neither needs cores.
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        sandbox.ask(&["scripts/slurm_sandbox.sh", "start"]);
        drop(turn);
        sandbox.cores = Some(Cores::all());
        Some(sandbox)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command in the environment of this sandbox.
    pub fn command(&self, program: &str) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_coreloss")).parent();
        let programs = programs.expect("a program lies in a folder").display();
        let mut command = Command::new(program);
        without_open_files(&mut command)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()))
            .env("CORELOSS_SLURM_STATE", self.path("slurm"))
            .env_remove("CORELOSS_THREADS");
        command
    }

    /// Runs the words of `command` with the exports of `scripts/slurm_sandbox.sh env`; returns its stdout.
    pub fn ask(&self, command: &[&str]) -> String {
        let script = match command[0] {
            "scripts/slurm_sandbox.sh" => r#"exec "$@""#,
            _ => r#"eval "$(scripts/slurm_sandbox.sh env)" && exec "$@""#,
        };
        let output = self.command("bash").args(["-c", script, "slurm"]).args(command).output().expect("bash runs");
        assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    /// Submits `jobs/NAME.sbatch` with two tasks of one thread; returns its number.
    pub fn sbatch(&self, name: &str, options: &[&str], arguments: &[&str]) -> String {
        let script = format!("jobs/{name}.sbatch");
        let log = format!("--output={}/%j.log", self.folder.path().display());
        let mut words = vec!["sbatch", "--parsable", "--ntasks=2", "--cpus-per-task=1"];
        // A laptop has less than the script asks for.
        words.extend(["--mem-per-cpu=256M", &log]);
        words.extend(options);
        words.push(&script);
        words.extend(arguments);
        self.ask(&words)
    }

    /// One field of `scontrol show job`.
    pub fn show(&self, job: &str, field: &str) -> String {
        let text = self.ask(&["scontrol", "-o", "show", "job", job]);
        let field = format!("{field}=");
        let value = text.split(' ').find_map(|word| word.strip_prefix(&field));
        value.unwrap_or_else(|| panic!("no {field} in {text}")).to_string()
    }

    pub fn log(&self, job: &str) -> String {
        fs::read_to_string(self.show(job, "StdOut")).unwrap_or_default()
    }

    pub fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "no {what}: {}", self.ask(&["squeue", "--long"]));
            sleep(Duration::from_millis(200));
        }
    }

    /// Waits for the job's end, which must be `state`.
    pub fn wait_for(&self, job: &str, state: &str) {
        let mut found = String::new();
        self.wait_until(&format!("end of job {job}"), || {
            found = self.show(job, "JobState");
            !["PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED"].contains(&&found[..])
        });
        assert_eq!(found, state, "{}", self.log(job));
    }

    pub fn finish(&self, job: &str) {
        self.wait_for(job, "COMPLETED");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.cores = None;
        drop(self.keeper.stdin.take());
        let stopped = self.keeper.wait();
        if !stopped.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("the sandbox does not stop");
        }
    }
}
