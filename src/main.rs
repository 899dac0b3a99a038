//! The command line: reads arguments and configuration, starts MPI, runs one command, ends every rank alike.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use coreloss::comm::{self, Comm};
use coreloss::config::{Config, Invalid};
use coreloss::doctor;
use coreloss::run::{self, Ending, Stage, Start};
use coreloss::survey;
use coreloss::sweep::{self, Which};

/// Finds anomalous spectra in archives of EELS spectrum images.
///
/// Works alone, under `mpirun -n N` and under `srun --mpi=pmix`.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done; 1 failed; 2 bad configuration or usage; 3 done, some inputs set \
    aside; 75 stopped by a signal after a checkpoint (start it again to go on)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole pipeline: train, PCA, score, maps and report; goes on where an earlier run stopped.
    Run {
        #[command(flatten)]
        run: RunArguments,
        /// Says what it would do, take and need, from a few measured steps; writes nothing.
        #[arg(long, conflicts_with_all = ["fresh", "resume"])]
        dry_run: bool,
    },
    /// Trains the 3D-CVAE only.
    Train(RunArguments),
    /// Principal components and their scores only; needs no trained model.
    Pca(RunArguments),
    /// Scores with the model that `train` left in the output folder.
    Score(RunArguments),
    /// Draws report.html of a finished run anew.
    Report(ConfigArguments),
    /// Writes the simulated cubes of a configuration, with their truth.
    Simulate(ConfigArguments),
    /// Writes copies of measured cubes with known anomalies, with their truth.
    Inject(ConfigArguments),
    /// Copies cubes of any readable format into chunked .hspy files, in parallel, and checks the copies.
    Import(ImportArguments),
    /// Many configurations from one file: plans, runs, shows and collects them.
    #[command(subcommand)]
    Sweep(SweepCommand),
    /// Scores a catalogue of many cubes and ranks them; goes on where it stopped, and takes in what was added.
    Survey(ConfigArguments),
    /// Looks for the traps of clusters, and says how to mend each; alone, under mpirun and under srun.
    Doctor(DoctorArguments),
    /// Describes files: shape, axes, instrument, counts, noise, edges, drift, and what is wrong with them.
    Inspect(InspectArguments),
}

#[derive(Args)]
struct ConfigArguments {
    /// YAML file; see configs/ for examples.
    config: PathBuf,
    /// Lays a value over the file: --set train.steps=800 --set 'archive.inputs=[a.hspy, b.hspy]'.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Removes the results of earlier runs in the output folder first.
    #[arg(long, conflicts_with = "resume")]
    fresh: bool,
    /// Refuses to start where there is no checkpoint to go on from.
    #[arg(long)]
    resume: bool,
}

#[derive(Args)]
struct ImportArguments {
    /// Files, globs (quoted) and folders; HyperSpy, HDF5, NeXus, EMD, DM3 and DM4.
    #[arg(required = true)]
    files: Vec<String>,
    /// Folder of the copies: ID.hspy, small images as ID.survey.hspy; ids are the paths below the inputs' common root.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// One line of JSON for each file.
    #[arg(long)]
    json: bool,
    /// Chooses and bounds: --set archive.image=1, --set archive.dataset=entry/data, --set io.memory_mib=512.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
struct DoctorArguments {
    /// Checks what this configuration asks for, too.
    config: Option<PathBuf>,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
    /// Lays a value over the file.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Subcommand)]
enum SweepCommand {
    /// Prints the table of points.
    Plan(ConfigArguments),
    /// Runs one point, or one after the other those that are missing. Several may run at once on one folder.
    Run {
        #[command(flatten)]
        config: ConfigArguments,
        /// Runs this point only; by default that of the Slurm array's task.
        #[arg(long, env = "SLURM_ARRAY_TASK_ID", value_name = "K")]
        index: Option<usize>,
        /// Runs what failed again, and nothing else.
        #[arg(long)]
        only_failed: bool,
    },
    /// Shows how every point stands: done, running, failed (and why) or missing.
    Status {
        #[command(flatten)]
        config: ConfigArguments,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Gathers table.csv, table.h5 and figures of what is done.
    Collect(ConfigArguments),
}

#[derive(Args)]
struct InspectArguments {
    /// HyperSpy, HDF5, NeXus, EMD, DM3 and DM4 files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One line of JSON for each file.
    #[arg(long)]
    json: bool,
    /// Reads no spectrum: only what the files say of themselves.
    #[arg(long)]
    quick: bool,
    /// Chooses what to describe: --set archive.image=1, --set archive.dataset=entry/data.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl RunArguments {
    fn start(&self) -> Start {
        match (self.fresh, self.resume) {
            (true, _) => Start::Fresh,
            (_, true) => Start::Resume,
            _ => Start::Continue,
        }
    }
}

fn main() -> ExitCode {
    // One thread for each operator: rayon spreads whole micro-batches and tiles over the threads instead, so that their
    // number never changes a sum.
    std::env::set_var("OMP_NUM_THREADS", "1");
    std::env::set_var("MKL_NUM_THREADS", "1");
    let cli = Cli::parse();
    doctor::before_mpi();
    let session = match comm::init() {
        Ok(session) => session,
        Err(error) => {
            eprintln!("coreloss: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let comm = session.comm();
    match start(&comm, &cli.command) {
        Ok(ending) => {
            if ending == Ending::Stopped && comm.is_root() {
                log::warn!("stopped by a signal; what was done is kept: start it again to go on");
            }
            comm.barrier();
            ExitCode::from(match ending {
                Ending::Done => 0,
                Ending::SomeSetAside => 3,
                Ending::Stopped => 75,
            })
        }
        Err(error) => comm.fail(&error),
    }
}

fn start(comm: &Comm, command: &Command) -> Result<Ending> {
    start_log(comm);
    doctor::refuse_others(comm)?;
    match command {
        Command::Run { run, dry_run: true } => run::dry_run(comm, &prepare(comm, &run.config)?),
        Command::Run { run, .. } => staged(comm, Stage::All, run),
        Command::Train(run) => staged(comm, Stage::Train, run),
        Command::Pca(run) => staged(comm, Stage::Pca, run),
        Command::Score(run) => staged(comm, Stage::Score, run),
        Command::Report(config) => run::report(comm, &prepare(comm, config)?),
        Command::Simulate(config) => run::simulate(comm, &prepare(comm, config)?),
        Command::Import(import) => {
            let config = comm.agree(Config::parse("import", "", &import.set))?;
            begin(comm, &config)?;
            run::import(comm, &config, &import.files, &import.output, import.json)
        }
        Command::Inject(config) => run::inject(comm, &prepare(comm, config)?),
        Command::Sweep(command) => swept(comm, command),
        Command::Survey(arguments) => {
            let config = prepare(comm, arguments)?;
            doctor::at_start(comm, &config)?;
            survey::survey(comm, &config, &listen(comm)?)
        }
        Command::Doctor(arguments) => {
            let config = match &arguments.config {
                Some(path) => read_config(comm, path, &arguments.set)?,
                None => comm.agree(Config::parse("doctor", "", &arguments.set))?,
            };
            begin(comm, &config)?;
            doctor::doctor(comm, &config, arguments.json)
        }
        Command::Inspect(inspect) => {
            let config = comm.agree(Config::parse("inspect", "", &inspect.set))?;
            begin(comm, &config)?;
            run::inspect(comm, &config, &inspect.files, inspect.quick, inspect.json)
        }
    }
}

fn staged(comm: &Comm, stage: Stage, arguments: &RunArguments) -> Result<Ending> {
    let config = prepare(comm, &arguments.config)?;
    doctor::at_start(comm, &config)?;
    let stop = listen(comm)?;
    run::run(comm, &config, stage, arguments.start(), &stop)
}

fn swept(comm: &Comm, command: &SweepCommand) -> Result<Ending> {
    let open = |arguments: &ConfigArguments| sweep::open(comm, &arguments.config, &arguments.set);
    match command {
        SweepCommand::Plan(config) => sweep::plan(comm, &open(config)?),
        SweepCommand::Run {
            config,
            index,
            only_failed,
        } => {
            let sweep = open(config)?;
            begin(comm, &sweep.points[0].config)?;
            doctor::at_start(comm, &sweep.points[0].config)?;
            let which = Which {
                index: *index,
                only_failed: *only_failed,
            };
            sweep::run(comm, &sweep, which, &listen(comm)?)
        }
        SweepCommand::Status { config, json } => sweep::status(comm, &open(config)?, *json),
        SweepCommand::Collect(config) => sweep::collect(comm, &open(config)?),
    }
}

/// Set by the signals that ask for an end.
///
/// # Collective
fn listen(comm: &Comm) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGUSR1] {
        comm.agree(
            signal_hook::flag::register(signal, stop.clone()).context("cannot listen to signals"),
        )?;
    }
    Ok(stop)
}

/// Reads the configuration and starts what it asks for.
///
/// # Collective
fn prepare(comm: &Comm, arguments: &ConfigArguments) -> Result<Config> {
    let config = read_config(comm, &arguments.config, &arguments.set)?;
    begin(comm, &config)?;
    Ok(config)
}

/// Starts the watchdog and the threads.
///
/// # Collective
fn begin(comm: &Comm, config: &Config) -> Result<()> {
    comm.watch(config.comm.watchdog_s);
    start_threads(comm)
}

/// Root reads the file, every rank parses the same bytes.
///
/// # Collective
fn read_config(comm: &Comm, path: &Path, overrides: &[String]) -> Result<Config> {
    let read = if comm.is_root() {
        std::fs::read_to_string(path).map_err(|error| {
            Invalid(format!(
                "cannot read the configuration {}: {error}",
                path.display()
            ))
            .into()
        })
    } else {
        Ok(String::new())
    };
    let text = comm.broadcast(Some(comm.agree(read)?));
    comm.agree(Config::parse(&path.display().to_string(), &text, overrides))
}

/// Root tells, the others only warn; everyone names its rank.
fn start_log(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    let level = if comm.is_root() { "info" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format(move |out, record| {
            let target = record.target();
            writeln!(
                out,
                "[{rank}/{size}] {} {target}: {}",
                record.level(),
                record.args()
            )
        })
        .init();
}

/// As many threads on every rank: those of the Slurm task, else the cores of the node divided by its ranks.
///
/// # Collective
fn start_threads(comm: &Comm) -> Result<()> {
    let (_, local_ranks) = comm.local_rank();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let given = ["CORELOSS_THREADS", "SLURM_CPUS_PER_TASK"]
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse::<usize>().ok());
    let wanted = given.unwrap_or(cores / local_ranks).max(1);
    // The fewest over ranks.
    let threads = (u64::MAX - comm.max_u64(u64::MAX - wanted as u64)) as usize;
    comm.agree(
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot start threads"),
    )?;
    coreloss::device::one_thread_per_operator();
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
