//! What the integration tests share: a folder for each, jobs under `mpirun`, cubes, results, HyperSpy.
//!
//! Every job runs the real program under the real `mpirun`, in a process group of its own and with a time limit. A job
//! that exceeds its limit is killed with all its ranks, and the test fails with everything that the job printed.

pub mod case;
mod cores;
pub mod cube;
pub mod dm4;
pub mod result;
pub mod slurm;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cores::Cores;

/// Marks the processes of one job: ranks leave `mpirun`'s process group, but inherit its environment.
const MARK: &str = "CORELOSS_TEST_JOB";
/// What a rank of [`this_test`] is told.
const TOLD: &str = "CORELOSS_TEST_TOLD";

/// An empty folder `name` of the calling module. It stays after the test, for a look at what failed.
#[track_caller]
pub fn folder(name: &str) -> PathBuf {
    let module = Path::new(Location::caller().file()).file_stem().expect("tests lie in files");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(module).join(name);
    if path.exists() {
        fs::remove_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// `--set KEY=VALUE`.
pub fn set(key: &str, value: impl std::fmt::Display) -> Vec<String> {
    vec!["--set".into(), format!("{key}={value}")]
}

/// A configuration that ships with the program.
pub fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    path.to_str().expect("the checkout's path is text").into()
}

/// Says on stderr that a check is left out. In CI (`CI=true`), where everything is installed, that is a failure.
pub fn skip(why: &str) {
    // The test runner shows the output of `eprintln` only where a test fails.
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("stderr takes a line");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "nothing may be skipped where CI=true: {why}");
}

/// The folder of measured cubes and format files; [`skip`]s where it is absent.
pub fn measured_data() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    if !path.is_dir() {
        skip(&format!("{} is absent", path.display()));
        return None;
    }
    Some(path)
}

/// A Python with HyperSpy; [`skip`]s where `CORELOSS_PYTHON` names none.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("CORELOSS_PYTHON").or_else(|| std::env::var_os("HYPERSPY_PYTHON"));
    if python.is_none() {
        skip("CORELOSS_PYTHON names no Python with HyperSpy (scripts/setup.sh --test makes one)");
    }
    python.map(PathBuf::from)
}

/// The stdout of `script` of this repository, run by HyperSpy's Python; `None` where there is no such Python.
pub fn ask_python<S: AsRef<OsStr>>(script: &str, arguments: &[S]) -> Option<String> {
    let mut command = Command::new(python()?);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .args(arguments)
        // libtorch's libraries are not Python's.
        .env_remove("LD_LIBRARY_PATH");
    let ended = finish(command, Duration::from_secs(300));
    Some(ended.succeeded().stdout.clone())
}

/// The command that runs the program under `mpirun` on `ranks` ranks of one thread, or (0) without `mpirun`.
pub fn coreloss<S: AsRef<OsStr>>(ranks: usize, arguments: &[S]) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_coreloss"));
    let mut command = if ranks == 0 { Command::new(program) } else { on_ranks(ranks, program) };
    command.args(arguments).env("CORELOSS_THREADS", "1");
    without_open_files(&mut command);
    command
}

/// The command that runs the test `name` of this program on `ranks` ranks; each of them is [`told`] `word`.
pub fn this_test(ranks: usize, name: &str, word: &str) -> Command {
    let mut command = on_ranks(ranks, &std::env::current_exe().expect("a program knows its file"));
    command.args([name, "--exact", "--nocapture"]).env(TOLD, word);
    command
}

/// What [`this_test`] tells a rank; `None` in a process that the user started.
pub fn told() -> Option<String> {
    std::env::var(TOLD).ok()
}

fn on_ranks(ranks: usize, program: &Path) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun
        .args(["-n", &ranks.to_string(), "--oversubscribe", "--bind-to", "none"])
        .arg(program)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env(cores::RANKS, ranks.to_string());
    mpirun
}

/// A shell that runs `script`, in which `$0` is `word`, and then becomes `command`.
pub fn after(script: &str, word: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{script} && exec \"$@\""), word]);
    shell.arg(command.get_program()).args(command.get_args());
    let set = command.get_envs();
    shell.envs(set.filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// Runs `command` to its end.
pub fn finish(mut command: Command, limit: Duration) -> Ended {
    // Where a rank fails, `mpirun` waits a second or two between SIGTERM and SIGKILL for the others, longer than a
    // refusal takes. Only jobs that are sent signals need that time.
    command.env("OMPI_MCA_odls_base_sigkill_timeout", "0");
    Job::of(command).wait(limit)
}

/// Runs the program on `ranks` ranks of one thread.
pub fn mpirun<S: AsRef<OsStr>>(ranks: usize, arguments: &[S], limit: Duration) -> Ended {
    finish(coreloss(ranks, arguments), limit)
}

/// A running job; dropping it kills all its processes.
pub struct Job {
    child: Child,
    /// Value of [`MARK`].
    mark: String,
    shown: String,
    began: Instant,
    said: tempfile::TempDir,
    /// None where it runs on those of another job.
    _cores: Option<Cores>,
}

/// A job that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    shown: String,
}

/// Has `command` inherit no open file: HDF5 opens files without close-on-exec, and a child would hold their locks for as long as
/// it lives.
pub fn without_open_files(command: &mut Command) -> &mut Command {
    let close_on_exec = || {
        // SAFETY: a system call that takes plain numbers.
        unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        Ok(())
    };
    // SAFETY: between fork and exec there is nothing but that system call.
    unsafe { command.pre_exec(close_on_exec) }
}

impl Job {
    /// Starts `command` as soon as there are cores for it.
    pub fn of(command: Command) -> Job {
        let cores = Cores::of(&command);
        Job::start(command, Some(cores))
    }

    /// Starts `command` at once, on the cores of this job.
    pub fn beside(&self, command: Command) -> Job {
        Job::start(command, None)
    }

    fn start(mut command: Command, cores: Option<Cores>) -> Job {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let said = tempfile::tempdir().expect("a folder for what the job says");
        let file = |name: &str| File::create(said.path().join(name)).expect("a file for it");
        let shown = format!("{command:?}");
        let child = without_open_files(&mut command)
            .env(MARK, &mark)
            .env("HDF5_USE_FILE_LOCKING", "BEST_EFFORT")
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let began = Instant::now();
        Job { child, mark, shown, began, said, _cores: cores }
    }

    /// The ids of the job's processes whose program is called `name`, or of all for "".
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.mark);
        let listed = fs::read_dir("/proc").expect("/proc lists processes");
        let ids = listed.flatten().filter_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let ours = environment.split(|&b| b == 0).any(|set| set == mark.as_bytes());
            let called = fs::read_to_string(entry.path().join("comm")).ok()?;
            (ours && (name.is_empty() || called.trim() == name)).then_some(id)
        });
        ids.collect()
    }

    /// The ranks, in the order in which they were started.
    pub fn ranks(&self) -> Vec<i32> {
        let mut ids = self.processes("coreloss");
        ids.sort();
        ids
    }

    /// Sends `signal` to `mpirun`, as a batch system does.
    pub fn signal(&self, signal: i32) {
        send(self.child.id() as i32, signal);
    }

    /// Kills every process at once, as a node that dies does.
    pub fn kill(mut self) -> Ended {
        self.kill_all();
        self.wait(Duration::from_secs(20))
    }

    fn kill_all(&mut self) {
        // A process that is started while they are listed is killed in the next round.
        for _ in 0..50 {
            let ids = self.processes("");
            ids.iter().for_each(|&id| send(id, libc::SIGKILL));
            let _ = self.child.try_wait();
            if ids.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits until `seen` holds; fails where the job ends or `limit` passes before.
    pub fn until(&mut self, what: &str, limit: Duration, mut seen: impl FnMut() -> bool) {
        while !seen() {
            if self.running() && self.began.elapsed() < limit {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            self.kill_all();
            panic!("the job ended, or {limit:?} passed, before {what}:\n{}", self.dump());
        }
    }

    /// Waits for the end; kills the job and fails after `limit`.
    pub fn wait(mut self, limit: Duration) -> Ended {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child can be asked") {
                Some(status) => break status,
                None if began.elapsed() < limit => std::thread::sleep(Duration::from_millis(5)),
                None => {
                    self.kill_all();
                    panic!("did not end within {limit:?} and was killed:\n{}", self.dump());
                }
            }
        };
        let took = self.began.elapsed();
        // No rank may outlive its job, but mpirun does not wait for those that it has killed.
        let patience = Instant::now() + Duration::from_secs(10);
        while !self.processes("").is_empty() {
            if Instant::now() > patience {
                let left = self.processes("");
                self.kill_all();
                panic!("ended, but left processes {left:?} behind:\n{}", self.dump());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ended { status, took, stdout: self.read("stdout"), stderr: self.read("stderr"), shown: self.shown.clone() }
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.said.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn dump(&self) -> String {
        dump(&self.shown, &self.read("stdout"), &self.read("stderr"))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl Ended {
    /// The exit code; 128 plus the signal's number where a signal ended it, as in a shell.
    pub fn code(&self) -> i32 {
        let signalled = || 128 + self.status.signal().unwrap_or(0);
        self.status.code().unwrap_or_else(signalled)
    }

    pub fn dump(&self) -> String {
        let ended = format!("{}, ended with {} after {:?}", self.shown, self.status, self.took);
        dump(&ended, &self.stdout, &self.stderr)
    }

    pub fn exits(&self, code: i32) -> &Ended {
        assert!(self.code() == code, "expected exit code {code}:\n{}", self.dump());
        self
    }

    pub fn succeeded(&self) -> &Ended {
        self.exits(0)
    }

    /// Everything that both streams hold.
    pub fn said(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    pub fn says(&self, part: &str) -> &Ended {
        assert!(self.said().contains(part), "did not say {part:?}:\n{}", self.dump());
        self
    }

    /// It did not panic: wrong input ends in a message.
    pub fn without_panic(&self) -> &Ended {
        assert!(!self.said().contains("panicked at"), "panicked:\n{}", self.dump());
        self
    }
}

fn dump(command: &str, stdout: &str, stderr: &str) -> String {
    format!("{command}\n--- stdout ---\n{stdout}\n--- stderr ---\n{stderr}\n---")
}

pub fn send(id: i32, signal: i32) {
    // SAFETY: kill takes plain numbers; a process that is gone is an error code that nobody needs.
    unsafe { libc::kill(id, signal) };
}

pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Paths with `ending` below `folder`, but for a first look, sorted.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a folder lists its files").path();
            if path.is_dir() {
                if !path.ends_with("first_look") {
                    folders.push(path);
                }
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
