//! The pipeline of a run: prepare the cubes, learn from them, score each, summarise.
//!
//! Each phase is a file that takes one `Run`: `prepare` opens the inputs and brings them to one energy axis, `first_look`
//! shows what can be seen without the network, `learn` trains it and fits the linear baselines, `score` scores each cube
//! by every method and writes its file, `summarise` writes report and summary.

mod averaged;
mod changes;
mod clock;
mod dry_run;
mod energy_axis;
mod energy_shifts;
mod excess;
mod first_look;
mod given;
mod inputs;
mod learn;
mod leave_out;
mod linear_fit;
mod part_edges;
mod prepare;
mod run;
mod score;
mod score_context;
mod score_cube;
mod score_linear;
mod score_reconstruction;
mod sum_cube;
mod summarise;

use std::sync::atomic::AtomicBool;

use anyhow::Result;

use crate::archive::Source;
use crate::comm::Comm;
use crate::config::{Config, Stage};
use crate::ending::Ending;
use crate::memory;
use crate::results::{Start, folder};

use first_look::FirstLook;
use learn::Learned;
use prepare::Prepared;
use run::Run;

pub use averaged::AVERAGED;
pub use dry_run::dry_run;
pub use inputs::list_inputs;
pub use part_edges::cube_edges;
pub use score::score_one;
pub use sum_cube::sum_cube;

/// Runs the pipeline, or one stage of it on what earlier ones left.
///
/// # Collective
/// # Errors
/// Everything that is wrong with a named input, the configuration, the output folder or the training; the same on
/// every rank.
pub fn run(comm: &Comm, config: &Config, stage: Stage, start: Start, stop: &AtomicBool) -> Result<Ending> {
    run_on(Run::new(comm, config, stage, stop), None, start)
}

/// Trains on `sources`, which keep their ids, in place of `archive.inputs`; resumes a training that was stopped.
///
/// # Collective
/// # Errors
/// As [`run`].
pub fn train_on(comm: &Comm, config: &Config, sources: &[Source], stop: &AtomicBool) -> Result<Ending> {
    run_on(Run::new(comm, config, Stage::Train, stop), Some(sources), Start::Continue)
}

/// [`run`] on `sources`, or on the inputs of the configuration.
///
/// # Collective
fn run_on(mut run: Run, sources: Option<&[Source]>, start: Start) -> Result<Ending> {
    let state = folder::open(run.comm, run.config, run.stage, start)?;
    if state == folder::State::Finished && changes::are_inputs_unchanged(run.comm, run.config)? {
        if run.comm.is_root() {
            println!("{} is finished: nothing to do (--fresh starts anew)", run.config.output.dir.display());
        }
        return Ok(Ending::Done);
    }
    let mut prepared = Prepared::open(&mut run, sources, start)?;
    let first_look = FirstLook::new(&mut run, &prepared)?;
    let Some(learned) = Learned::from(&mut run, &prepared)? else {
        return Ok(Ending::Stopped);
    };
    prepared.training = None;
    memory::trim();
    if run.stage == Stage::Train {
        return Ok(prepared.set_aside.ending());
    }
    match score::score_all(&mut run, &mut prepared, &learned, first_look)? {
        Some(found) => {
            let ending = summarise::summarise(&run, found, &prepared.set_aside)?;
            first_look::remove(&run)?;
            Ok(ending)
        }
        None => Ok(Ending::Stopped),
    }
}
