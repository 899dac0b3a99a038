//! `coreloss run`, and its single stages `train`, `pca` and `score`.

use anyhow::{Context, Result};
use clap::Args;

use super::ConfigArguments;
use super::startup::{configured, listen};
use crate::attempt::{self, GroupClaim};
use crate::comm::Comm;
use crate::config::Stage;
use crate::doctor;
use crate::ending::Ending;
use crate::invalid::Invalid;
use crate::pipeline;
use crate::results::Start;

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss run configs/real.yaml --set 'archive.inputs=[cube.dm4]'
  coreloss run run.yaml --dry-run              time and memory that it would take
  mpirun -n 4 coreloss run run.yaml --fresh    from the start, on four ranks
  srun --mpi=pmix coreloss run run.yaml        in a Slurm job")]
pub struct WholeRun {
    #[command(flatten)]
    stage: StageArguments,
    /// Says what the run would do, and the time and memory it would take, from a few measured steps; writes nothing.
    #[arg(long, conflicts_with_all = ["fresh", "resume"])]
    dry_run: bool,
}

#[derive(Args)]
pub struct StageArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// First removes the results of earlier runs from the output folder.
    #[arg(long, conflicts_with = "resume")]
    fresh: bool,
    /// Refuses to start without a checkpoint to continue from.
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

/// Runs the whole pipeline, or rehearses it.
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

/// Runs one stage of the pipeline.
///
/// # Collective
/// # Errors
/// Those of [`pipeline::run`].
pub fn stage(comm: &Comm, stage: Stage, arguments: &StageArguments) -> Result<Ending> {
    let config = configured(comm, &arguments.config)?;
    doctor::at_start(comm, &config)?;
    let stop = listen(comm)?;
    let folder = &config.output.dir;
    let claimed = attempt::claim(comm, &folder.join("attempts"), &stop).with_context(|| {
        format!(
            "cannot write in the output folder {}: mend its permissions or choose another `output`",
            folder.display()
        )
    });
    let lease = match claimed? {
        GroupClaim::Mine(lease) => lease,
        GroupClaim::Theirs(who) => {
            return Err(Invalid(format!(
                "{} is in use by {who}: wait for its end, or choose another `output`; a run that was killed elsewhere lets go \
                 after {} s",
                folder.display(),
                attempt::EXPIRY.as_secs()
            ))
            .into());
        }
    };
    let result = pipeline::run(comm, &config, stage, arguments.start(), &stop);
    lease.end(comm, &result)?;
    result
}
