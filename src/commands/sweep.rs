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
    /// Runs one point, or one after the other those that are missing. Several may run at once on one folder.
    Run(SweepRun),
    /// Shows how every point stands: done, running, failed (and why) or missing.
    Status(SweepStatus),
    /// Gathers table.csv, table.h5 and figures of what is done.
    Collect(ConfigArguments),
}

#[derive(Args)]
pub struct SweepRun {
    #[command(flatten)]
    config: ConfigArguments,
    /// Runs this point only; by default that of the Slurm array's task.
    #[arg(long, env = "SLURM_ARRAY_TASK_ID", value_name = "K")]
    index: Option<usize>,
    /// Runs what failed again, and nothing else.
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
