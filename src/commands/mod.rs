//! The command line: every command with its arguments and its help, a file each.

mod bench;
mod completions;
mod config;
mod doctor;
mod export;
mod import;
mod init;
mod inject;
mod inspect;
mod report;
mod run;
mod simulate;
mod startup;
mod status;
mod survey;
mod sweep;
mod verdict;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::comm::Comm;
use crate::config::{Overrides, Stage};
use crate::doctor::refuse_others;
use crate::ending::Ending;

/// Finds anomalous spectra in archives of EELS spectrum images.
///
/// Works alone, under `mpirun -n N` and under `srun --mpi=pmix`.
#[derive(Parser)]
#[command(
    version,
    after_help = "Begin with:
  coreloss inspect cube.dm4              what is in a file
  coreloss init cube.dm4                 a configuration for it: cube.yaml
  coreloss run cube.yaml                 train, score, report
  mpirun -n 4 coreloss run cube.yaml     the same on four ranks, with the same results
  coreloss config --explain train.steps  what a key means

Exit codes:
   0  done
   1  failed
   2  bad configuration or usage
   3  done, but some inputs were set aside
  75  stopped by a signal after a checkpoint, or a node was lost: start it again to go on"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Runs the whole pipeline: training, PCA, scores, maps and report; continues where an earlier run stopped.
    Run(run::WholeRun),
    /// Only trains the 3D-CVAE.
    Train(run::StageArguments),
    /// Only fits principal components and scores with them; needs no trained model.
    Pca(run::StageArguments),
    /// Only scores, with the model that `train` left in the output folder.
    Score(run::StageArguments),
    /// Draws report.html of a finished run again.
    Report(ConfigArguments),
    /// Writes the simulated cubes of a configuration, with their truth maps.
    Simulate(ConfigArguments),
    /// Writes copies of measured cubes with known anomalies, and their truth maps.
    Inject(ConfigArguments),
    /// Copies cubes of any readable format into chunked .hspy files, in parallel, and verifies the copies.
    Import(import::ImportArguments),
    /// Plans, runs, watches and collects many configurations from one file.
    #[command(subcommand)]
    Sweep(sweep::SweepCommand),
    /// Scores and ranks a catalogue of many cubes; continues where it stopped, and adds new cubes.
    Survey(ConfigArguments),
    /// Checks this machine or cluster for common traps and says how to fix them; alone, under mpirun or srun.
    Doctor(doctor::DoctorArguments),
    /// Lists, merges and checks what people said of regions in the pages of reports.
    Verdict(verdict::VerdictArguments),
    /// Writes results in formats that other programs read.
    Export(export::ExportArguments),
    /// Shows how far a run is: step, loss, time left, cubes scored.
    Status(status::StatusArguments),
    /// Writes a commented configuration for a cube, from what is found in the cube.
    Init(init::InitArguments),
    /// Shows a configuration with all its defaults, or what its keys mean.
    Config(config::ShowArguments),
    /// Prints shell completions: source <(coreloss completions bash).
    Completions { shell: clap_complete::Shell },
    /// Describes files: shape, axes, instrument, counts, noise, edges, drift, and problems.
    Inspect(inspect::InspectArguments),
    /// Benchmarks this machine; the last line of stdout has the figures.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// A configuration file, and values that replace some of its own.
#[derive(Args)]
pub struct ConfigArguments {
    /// YAML file; see configs/ for examples.
    pub config: PathBuf,
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Starts the log and runs one command.
///
/// # Collective
/// # Errors
/// Those of the command, the same on every rank.
pub fn execute(comm: &Comm, command: &Command) -> Result<Ending> {
    startup::start_log(comm);
    refuse_others(comm)?;
    match command {
        Command::Run(arguments) => run::run(comm, arguments),
        Command::Train(arguments) => run::stage(comm, Stage::Train, arguments),
        Command::Pca(arguments) => run::stage(comm, Stage::Pca, arguments),
        Command::Score(arguments) => run::stage(comm, Stage::Score, arguments),
        Command::Report(arguments) => report::report(comm, arguments),
        Command::Simulate(arguments) => simulate::simulate(comm, arguments),
        Command::Inject(arguments) => inject::inject(comm, arguments),
        Command::Import(arguments) => import::import(comm, arguments),
        Command::Sweep(command) => sweep::sweep(comm, command),
        Command::Survey(arguments) => survey::survey(comm, arguments),
        Command::Doctor(arguments) => doctor::doctor(comm, arguments),
        Command::Verdict(arguments) => verdict::verdict(comm, arguments),
        Command::Export(arguments) => export::export(comm, arguments),
        Command::Status(arguments) => status::status(comm, arguments),
        Command::Init(arguments) => init::init(comm, arguments),
        Command::Config(arguments) => config::show(comm, arguments),
        Command::Completions { shell } => completions::completions(comm, *shell),
        Command::Inspect(arguments) => inspect::inspect(comm, arguments),
        Command::Bench(command) => bench::bench(comm, command),
    }
}
