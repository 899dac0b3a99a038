//! `coreloss sweep`: many configurations from one file.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::ConfigArguments;
use super::startup::{begin, listen};
use crate::comm::Comm;
use crate::doctor;
use crate::ending::Ending;
use crate::sweep::{self, Selection};

#[derive(Subcommand)]
pub enum SweepCommand {
    /// Prints the table of points.
    Plan(ConfigArguments),
    /// Runs one point, or all that are missing, one after the other. Several may run at once on one folder.
    Run(SweepRun),
    /// Shows the state of every point: done, running, failed (and why) or missing.
    Status(SweepStatus),
    /// Collects what is done into table.csv, table.h5 and figures.
    Collect(ConfigArguments),
}

#[derive(Args)]
pub struct SweepRun {
    #[command(flatten)]
    config: ConfigArguments,
    /// Runs this point only; by default the one of the Slurm array task.
    #[arg(long, env = "SLURM_ARRAY_TASK_ID", value_name = "K")]
    index: Option<usize>,
    /// Only runs failed points again.
    #[arg(long)]
    only_failed: bool,
}

#[derive(Args)]
pub struct SweepStatus {
    #[command(flatten)]
    config: ConfigArguments,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

/// Does one thing with the sweep of a file.
///
/// # Collective
/// # Errors
/// Those of [`crate::sweep`].
pub fn sweep(comm: &Comm, command: &SweepCommand) -> Result<Ending> {
    let open = |arguments: &ConfigArguments| sweep::open(comm, &arguments.config, &arguments.overrides.set);
    match command {
        SweepCommand::Plan(config) => sweep::plan(comm, &open(config)?),
        SweepCommand::Run(arguments) => {
            let sweep = open(&arguments.config)?;
            begin(comm, &sweep.points[0].config)?;
            doctor::at_start(comm, &sweep.points[0].config)?;
            let selection = Selection { index: arguments.index, only_failed: arguments.only_failed };
            sweep::run(comm, &sweep, selection, &listen(comm)?)
        }
        SweepCommand::Status(arguments) => sweep::status(comm, &open(&arguments.config)?, arguments.json),
        SweepCommand::Collect(config) => sweep::collect(comm, &open(config)?),
    }
}
