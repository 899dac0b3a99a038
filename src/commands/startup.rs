//! How commands start: the log, the configuration, the threads, and the signals that ask to stop.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::ConfigArguments;
use crate::comm::Comm;
use crate::config::{Config, Overrides};
use crate::gpu::device;
use crate::invalid::Invalid;

/// Logs to stderr, each line with its rank: `info` and above on root, warnings on the others. Rank-local.
pub fn start_log(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    let level = if comm.is_root() { "info" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format(move |out, record| {
            writeln!(out, "[{rank}/{size}] {} {}: {}", record.level(), record.target(), record.args())
        })
        .init();
}

/// The configuration of a command that reads one. Starts watchdog and threads.
///
/// # Collective
/// # Errors
/// A file that cannot be read, a configuration that is refused.
pub fn configured(comm: &Comm, arguments: &ConfigArguments) -> Result<Config> {
    let config = read_config(comm, &arguments.config, &arguments.overrides)?;
    begin(comm, &config)?;
    Ok(config)
}

/// The defaults with `overrides`, for a command that reads no configuration; `what` names it in errors. Starts watchdog
/// and threads.
///
/// # Collective
/// # Errors
/// Overrides that are refused.
pub fn by_default(comm: &Comm, what: &str, overrides: &Overrides) -> Result<Config> {
    let config = comm.agree(Config::parse(what, "", &overrides.set))?;
    begin(comm, &config)?;
    Ok(config)
}

/// Root reads the file, every rank parses the same bytes.
///
/// # Collective
/// # Errors
/// A file that cannot be read, a configuration that is refused.
pub fn read_config(comm: &Comm, path: &Path, overrides: &Overrides) -> Result<Config> {
    let text = comm.from_root(|| {
        std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            match error.kind() {
                ErrorKind::IsADirectory => Invalid(format!(
                    "{path} is a folder, and a configuration a file: {path}/config.yaml is that of a run"
                )),
                ErrorKind::InvalidData => Invalid(format!(
                    "{path} is no text, and a configuration is: `coreloss init {path}` writes one for a cube"
                )),
                _ => Invalid(format!("cannot read the configuration {path}: {error}")),
            }
            .into()
        })
    })?;
    comm.agree(Config::parse(&path.display().to_string(), &text, &overrides.set))
}

/// Starts the watchdog and the threads.
///
/// # Collective
/// # Errors
/// A number of threads that is not valid.
pub fn begin(comm: &Comm, config: &Config) -> Result<()> {
    comm.watch(config.comm.watchdog_s, config.comm.abort_s);
    start_threads(comm)
}

/// A flag that the signals that ask to stop will set: SIGTERM, SIGUSR1, and SIGINT (Ctrl-C), of which the second ends at once.
///
/// # Collective
pub fn listen(comm: &Comm) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    // Before the flag is set by the first.
    let second = signal_hook::flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, stop.clone());
    comm.agree(second.context("cannot listen to signals"))?;
    for signal in [SIGTERM, SIGUSR1, SIGINT] {
        comm.agree(signal_hook::flag::register(signal, stop.clone()).context("cannot listen to signals"))?;
    }
    Ok(stop)
}

/// The number of threads of a rank that the user or Slurm gives, if any.
///
/// # Errors
/// A value that is not a number.
fn given_threads() -> Result<Option<usize>> {
    for name in ["CORELOSS_THREADS", "SLURM_CPUS_PER_TASK"] {
        let Ok(value) = std::env::var(name) else {
            continue;
        };
        return match value.parse::<usize>() {
            Ok(threads) if threads > 0 => Ok(Some(threads)),
            _ => Err(Invalid(format!(
                "the environment variable {name} is {value:?}: give a number of threads, 1 or more, or unset it"
            ))
            .into()),
        };
    }
    Ok(None)
}

/// Starts the same number of threads on every rank: that of the Slurm task, else the cores of the node divided by its
/// ranks.
///
/// # Collective
fn start_threads(comm: &Comm) -> Result<()> {
    let local_ranks = comm.local_size();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let wanted = comm.agree(given_threads())?;
    let wanted = wanted.unwrap_or(cores / local_ranks).max(1);
    // The smallest number of all ranks.
    let threads = (u64::MAX - comm.max_u64(u64::MAX - wanted as u64)) as usize;
    comm.agree(rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start threads"))?;
    device::one_thread_per_operator();
    if comm.is_root() {
        log::info!(
            "coreloss {} ({}), ranks={} threads_per_rank={threads}",
            env!("CARGO_PKG_VERSION"),
            env!("CORELOSS_REVISION"),
            comm.size()
        );
    }
    Ok(())
}
