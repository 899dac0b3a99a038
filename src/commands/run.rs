//! `coreloss run`, and its stages one by one: `train`, `pca`, `score`.

use anyhow::Result;
use clap::Args;

use super::ConfigArguments;
use super::startup::{configured, listen};
use crate::comm::Comm;
use crate::config::Stage;
use crate::doctor;
use crate::ending::Ending;
use crate::pipeline;
use crate::results::Start;

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss run configs/real.yaml --set 'archive.inputs=[cube.dm4]'
  coreloss run run.yaml --dry-run              what it would take
  mpirun -n 4 coreloss run run.yaml --fresh    anew, on four ranks
  srun --mpi=pmix coreloss run run.yaml        in a Slurm job")]
pub struct WholeRun {
    #[command(flatten)]
    stage: StageArguments,
    /// Says what it would do, take and need, from a few measured steps; writes nothing.
    #[arg(long, conflicts_with_all = ["fresh", "resume"])]
    dry_run: bool,
}

#[derive(Args)]
pub struct StageArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Removes the results of earlier runs in the output folder first.
    #[arg(long, conflicts_with = "resume")]
    fresh: bool,
    /// Refuses to start where there is no checkpoint to go on from.
    #[arg(long)]
    resume: bool,
}

impl StageArguments {
    fn start(&self) -> Start {
        match (self.fresh, self.resume) {
            (true, _) => Start::Fresh,
            (_, true) => Start::Resume,
            _ => Start::Continue,
        }
    }
}

/// The whole pipeline, or a rehearsal of it.
///
/// # Collective
/// # Errors
/// Those of [`pipeline::run`].
pub fn run(comm: &Comm, arguments: &WholeRun) -> Result<Ending> {
    if arguments.dry_run {
        return pipeline::dry_run(comm, &configured(comm, &arguments.stage.config)?);
    }
    stage(comm, Stage::All, &arguments.stage)
}

/// One stage of the pipeline.
///
/// # Collective
/// # Errors
/// Those of [`pipeline::run`].
pub fn stage(comm: &Comm, stage: Stage, arguments: &StageArguments) -> Result<Ending> {
    let config = configured(comm, &arguments.config)?;
    doctor::at_start(comm, &config)?;
    let stop = listen(comm)?;
    pipeline::run(comm, &config, stage, arguments.start(), &stop)
}
