//! The command line: reads arguments and configuration, starts MPI, runs one command, ends every rank alike.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};

mod arguments;

use arguments::{BenchCommand, Cli, Command, ConfigArguments, RunArguments, ShowArguments, SweepCommand};
use coreloss::bench::{self, IoBench, PcaBench, ReconstructBench, TrainBench};
use coreloss::comm::{self, Comm};
use coreloss::config::{explain, Config, Explained, Invalid};
use coreloss::doctor;
use coreloss::run::{self, Ending, Stage};
use coreloss::survey;
use coreloss::sweep::{self, Which};

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
        Command::Export(export) => {
            let forms = export.forms();
            if forms.is_empty() {
                let words = "say what to write: --csv, --npy, --png or --nexus";
                return Err(Invalid(words.into()).into());
            }
            run::export(comm, &export.results, &export.output, &forms)
        }
        Command::Status(status) => run::status(comm, &status.directory, status.json),
        Command::Init(init) => {
            let config = comm.agree(Config::parse("init", "", &init.set))?;
            begin(comm, &config)?;
            run::init(comm, &config, &init.file, init.output.as_deref())
        }
        Command::Config(show) => show_config(comm, show),
        Command::Completions { shell } => {
            if comm.is_root() {
                let mut command = Cli::command();
                clap_complete::generate(*shell, &mut command, "coreloss", &mut std::io::stdout());
            }
            Ok(Ending::Done)
        }
        Command::Inspect(inspect) => {
            let config = comm.agree(Config::parse("inspect", "", &inspect.set))?;
            begin(comm, &config)?;
            run::inspect(comm, &config, &inspect.files, inspect.quick, inspect.json)
        }
        Command::Bench(command) => measure(comm, command),
    }
}

fn measure(comm: &Comm, command: &BenchCommand) -> Result<Ending> {
    let parse = |set: &[String]| {
        let config = comm.agree(Config::parse("bench", "", set))?;
        begin(comm, &config)?;
        anyhow::Ok(config)
    };
    match command {
        BenchCommand::Train(arguments) => {
            let what = TrainBench {
                spec: arguments.spec.clone(),
                batch: arguments.batch,
                steps: arguments.steps,
                warmup: arguments.warmup,
                steps_only: arguments.steps_only,
                json: arguments.json,
            };
            bench::train(comm, &parse(&arguments.set)?, &what)?;
        }
        BenchCommand::Pca(arguments) => {
            let what =
                PcaBench { file: arguments.file.clone(), components: arguments.components, json: arguments.json };
            bench::pca(comm, &parse(&arguments.set)?, &what)?;
        }
        BenchCommand::Reconstruct(arguments) => {
            let what = ReconstructBench {
                spec: arguments.spec.clone(),
                side: arguments.side,
                rounds: arguments.rounds,
                json: arguments.json,
            };
            bench::reconstruct(comm, &parse(&arguments.set)?, &what)?;
        }
        BenchCommand::Allreduce { json } => {
            parse(&[])?;
            bench::allreduce(comm, *json)?;
        }
        BenchCommand::Io(arguments) => {
            let what = IoBench { file: arguments.file.clone(), json: arguments.json };
            bench::io(comm, &parse(&arguments.set)?, &what)?;
        }
    }
    Ok(Ending::Done)
}

/// # Collective
fn show_config(comm: &Comm, show: &ShowArguments) -> Result<Ending> {
    let text = match (&show.explain, &show.config) {
        (Some(key), _) => {
            let found = comm.agree(explain(key).map_err(anyhow::Error::from))?;
            let found: Vec<String> = found.iter().map(Explained::text).collect();
            found.concat()
        }
        (None, Some(path)) => read_config(comm, path, &show.set)?.to_yaml(),
        (None, None) => comm.agree(Config::parse("config", "", &show.set))?.to_yaml(),
    };
    if comm.is_root() {
        print!("{text}");
    }
    Ok(Ending::Done)
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
        SweepCommand::Run { config, index, only_failed } => {
            let sweep = open(config)?;
            begin(comm, &sweep.points[0].config)?;
            doctor::at_start(comm, &sweep.points[0].config)?;
            let which = Which { index: *index, only_failed: *only_failed };
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
        comm.agree(signal_hook::flag::register(signal, stop.clone()).context("cannot listen to signals"))?;
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
    let text = comm.from_root(|| {
        std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            Invalid(format!("cannot read the configuration {path}: {error}")).into()
        })
    })?;
    comm.agree(Config::parse(&path.display().to_string(), &text, overrides))
}

/// Root tells, the others only warn; everyone names its rank.
fn start_log(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    let level = if comm.is_root() { "info" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format(move |out, record| {
            let target = record.target();
            writeln!(out, "[{rank}/{size}] {} {target}: {}", record.level(), record.args())
        })
        .init();
}

/// Threads of a rank as the user or Slurm gives them; none where neither does.
///
/// # Errors
/// A value that is no number.
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

/// As many threads on every rank: those of the Slurm task, else the cores of the node divided by its ranks.
///
/// # Collective
fn start_threads(comm: &Comm) -> Result<()> {
    let (_, local_ranks) = comm.local_rank();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let wanted = comm.agree(given_threads())?;
    let wanted = wanted.unwrap_or(cores / local_ranks).max(1);
    // The fewest over ranks.
    let threads = (u64::MAX - comm.max_u64(u64::MAX - wanted as u64)) as usize;
    comm.agree(rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start threads"))?;
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
