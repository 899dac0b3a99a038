//! A real Slurm, of one node by `scripts/slurm_sandbox.sh` or of several by `scripts/slurm_nodes.sh`, and what tests ask of it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cores::Cores;
use super::{Ended, is_root, skip, without_open_files};

/// Limit of a single wait, also on a slow machine that others use.
const PATIENCE: Duration = Duration::from_secs(300);

/// A Slurm of one test, and a folder for what its jobs read and write; dropping it ends both.
pub struct Sandbox {
    /// Stops the Slurm when its stdin is closed: by this process, or by its death.
    keeper: Child,
    folder: tempfile::TempDir,
    /// What runs a command where jobs are submitted.
    access: &'static str,
    cores: Option<Cores>,
}

impl Sandbox {
    /// One node, for jobs on all cores of the machine; [`skip`]s where there cannot be one.
    pub fn start() -> Option<Sandbox> {
        let access = r#"eval "$(scripts/slurm_sandbox.sh env)" && exec "$@""#;
        Sandbox::started_by("scripts/slurm_sandbox.sh", &[], access)
    }

    /// As many rehearsed nodes, whose names are `node1` and so on; [`skip`]s where there cannot be any.
    pub fn of_nodes(nodes: usize) -> Option<Sandbox> {
        let access = r#"exec scripts/slurm_nodes.sh on head "$@""#;
        Sandbox::started_by("scripts/slurm_nodes.sh", &[&nodes.to_string()], access)
    }

    fn started_by(script: &str, arguments: &[&str], access: &'static str) -> Option<Sandbox> {
        if !is_root() {
            skip(&format!("{script} needs root"));
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("slurm");
        let keeper = without_open_files(&mut Command::new("bash"))
            .args(["-c", r#"read -r; exec "$0" stop"#, script])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CORELOSS_SLURM_STATE", &state)
            .env("CORELOSS_NODES_STATE", &state)
            .stdin(Stdio::piped())
            // Ctrl-C must end the tests alone: the keeper has yet to stop Slurm.
            .process_group(0)
            .spawn()
            .expect("bash runs");
        let mut sandbox = Sandbox { keeper, folder, access, cores: None };
        // The first to start installs Slurm, while the others wait. Neither needs cores.
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        sandbox.ask(&[&[script, "start"], arguments].concat());
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
            .env("CORELOSS_NODES_STATE", self.path("slurm"))
            // A node that lost its power comes back before Slurm gives it up.
            .env("CORELOSS_NODES_PATIENCE", "60")
            .env("CORELOSS_NODES_SHARED", self.shared())
            .env_remove("CORELOSS_THREADS");
        command
    }

    /// The folders that nodes share even where they lie below /tmp.
    fn shared(&self) -> OsString {
        let libtorch = std::env::var_os("LIBTORCH").map(PathBuf::from);
        let built = Path::new(env!("CARGO_BIN_EXE_coreloss")).parent();
        let ours =
            [self.folder.path(), Path::new(env!("CARGO_MANIFEST_DIR")), built.expect("a program lies in a folder")];
        let folders = ours.map(Path::to_path_buf).into_iter().chain(libtorch);
        std::env::join_paths(folders).expect("no colon in a path")
    }

    /// Runs the words of `command` where jobs are submitted, or a script of this repository here; returns its stdout.
    pub fn ask(&self, command: &[&str]) -> String {
        self.run(command).succeeded().stdout.trim().to_string()
    }

    /// As [`Sandbox::ask`], for a command that may fail.
    pub fn run(&self, command: &[&str]) -> Ended {
        let script = if command[0].starts_with("scripts/") { r#"exec "$@""# } else { self.access };
        let began = Instant::now();
        let output = self.command("bash").args(["-c", script, "slurm"]).args(command).output().expect("bash runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ended { status: output.status, stdout, stderr, took: began.elapsed(), shown: command.join(" ") }
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
