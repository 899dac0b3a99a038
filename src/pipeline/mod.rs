//! The pipeline of a run: prepare the cubes, learn from them, score each, summarise.
//!
//! Each phase is a file: [`prepare`] opens the inputs and brings them to one energy axis, [`learn`] trains the network and
//! fits the baselines, [`analyse`] scores one cube by every method, [`summarise`] writes what was found.

mod align;
mod analyse;
mod averaged;
mod baselines;
mod clock;
mod energy;
mod inputs;
mod learn;
mod leave_out;
mod lines;
mod prepare;
mod reconstructions;
mod rehearsal;
mod score;
mod summarise;

use std::sync::atomic::AtomicBool;

use anyhow::Result;

use crate::archive::Source;
use crate::comm::Comm;
use crate::config::{Config, Stage};
use crate::ending::Ending;
use crate::memory;
use crate::results::{CubeSummary, Start, folder};
use crate::stream::{Cube, measure_statistics};
use crate::train::Model;

use clock::Clock;
use learn::Learned;
use prepare::Prepared;

pub use averaged::AVERAGED;
pub use inputs::list;
pub use lines::sum_lines;
pub use rehearsal::{BASE_MIB, dry_run};

/// What every phase of a run needs.
struct Run<'a> {
    comm: &'a Comm,
    config: &'a Config,
    stage: Stage,
    /// Set by the signals that ask for an end.
    stop: &'a AtomicBool,
    clock: Clock,
}

/// Runs the pipeline, or one stage of it on what earlier ones left.
///
/// # Collective
/// # Errors
/// Everything that is wrong with a named input, the configuration, the output folder or the training; the same on
/// every rank.
pub fn run(comm: &Comm, config: &Config, stage: Stage, start: Start, stop: &AtomicBool) -> Result<Ending> {
    run_on(Run { comm, config, stage, stop, clock: Clock::start() }, None, start)
}

/// Trains on `sources`, which keep their ids, in place of `archive.inputs`; goes on where that was stopped.
///
/// # Collective
/// # Errors
/// As [`run`].
pub fn train_on(comm: &Comm, config: &Config, sources: &[Source], stop: &AtomicBool) -> Result<Ending> {
    run_on(Run { comm, config, stage: Stage::Train, stop, clock: Clock::start() }, Some(sources), Start::Continue)
}

/// [`run`] on `sources`, or on those of the configuration.
///
/// # Collective
fn run_on(mut run: Run, sources: Option<&[Source]>, start: Start) -> Result<Ending> {
    if folder::open(run.comm, run.config, run.stage, start)? == folder::State::Finished {
        if run.comm.is_root() {
            println!("{} is finished: nothing to do (--fresh starts anew)", run.config.output.dir.display());
        }
        return Ok(Ending::Done);
    }
    let mut prepared = Prepared::open(&mut run, sources, start)?;
    let Some(learned) = Learned::from(&mut run, &prepared)? else {
        return Ok(Ending::Stopped);
    };
    prepared.training = None;
    memory::trim();
    if run.stage == Stage::Train {
        return Ok(prepared.set_aside.ending());
    }
    match score::score_all(&mut run, &mut prepared, &learned)? {
        Some(found) => summarise::summarise(&run, found, &prepared.set_aside),
        None => Ok(Ending::Stopped),
    }
}

/// Scores one cube with that of `models` whose energies suit it, and writes its file into the output folder.
///
/// # Collective
/// # Errors
/// Unreadable data, energies that no model suits, an output that cannot be written.
pub fn score_one(comm: &Comm, config: &Config, source: &Source, models: &[Model]) -> Result<CubeSummary> {
    let mut cubes = vec![comm.agree(Cube::open(source, config))?];
    let found = measure_statistics(comm, &mut cubes, config, |_, error| Err(error))?;
    let axes: Vec<_> = models.iter().map(|model| &model.energy).collect();
    let model = &models[energy::choose_model(comm, config, &mut cubes[0], &found, &axes)?];
    Ok(score::score(comm, config, &cubes[0], (Some(model), None), model.noise, &mut Clock::start())?)
}
