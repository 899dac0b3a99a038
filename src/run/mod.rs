//! The commands: what a user asks for, made of the modules above.

mod analyse;
mod arrays;
mod components;
mod folder;
mod inputs;
mod inspect;
mod methods;
mod pages;
mod regions;
mod simulate;
mod summary;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{bail, Result};

use crate::comm::Comm;
use crate::config::Config;
use crate::stream::{survey, Cube, Survey};
use crate::train::{train, Checkpoint, Model, Outcome};

pub use folder::Start;
pub use inspect::inspect;
pub use simulate::simulate;
pub(crate) use summary::peak_rss_mib;
pub use summary::Summary;

use analyse::Analysis;
use inputs::{Inputs, SetAside};
use summary::CubeSummary;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// Done, but some inputs were set aside.
    SomeSetAside,
    /// A signal asked for an end; what was done is kept.
    Stopped,
}

/// Which part of the pipeline to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    All,
    Train,
    Pca,
    Score,
}

/// Runs the pipeline, or one stage of it on what earlier ones left.
///
/// # Collective
/// # Errors
/// Everything that is wrong with a named input, the configuration, the output folder or the training; the same on
/// every rank.
pub fn run(
    comm: &Comm,
    config: &Config,
    stage: Stage,
    start: Start,
    stop: &AtomicBool,
) -> Result<Ending> {
    let mut clock = Clock::start();
    let directory = &config.output.dir;
    if folder::open(comm, config, stage, start)? == folder::State::Finished {
        if comm.is_root() {
            println!(
                "{} is finished: nothing to do (--fresh starts anew)",
                directory.display()
            );
        }
        return Ok(Ending::Done);
    }
    let Inputs {
        mut cubes,
        mut training,
        mut set_aside,
    } = inputs::open(comm, config)?;

    let mut surveyed = |cubes: &mut Vec<Cube>| {
        let found = survey(comm, cubes, config, |cube, error| {
            set_aside.push(comm, cube, error)
        })?;
        if cubes.is_empty() {
            bail!("none of the inputs can be used: {}", set_aside.reasons());
        }
        Ok(found)
    };
    let scored = surveyed(&mut cubes)?;
    let trained_on = match training.as_mut() {
        Some(training) => surveyed(training)?,
        None => scored,
    };
    clock.lap("survey");
    let model = if stage == Stage::Pca {
        None
    } else {
        let training = training.as_deref().unwrap_or(&cubes);
        match model(comm, config, stage, training, &trained_on, stop)? {
            Some(model) => Some(model),
            None => return Ok(Ending::Stopped),
        }
    };
    drop(training);
    give_memory_back();
    clock.lap("train");
    if stage == Stage::Train {
        return Ok(ending(&set_aside));
    }

    let noise = model.as_ref().map_or(trained_on.noise, |model| model.noise);
    let survey = Survey {
        noise,
        bound: scored.bound * scored.noise.gain / noise.gain,
    };
    let mut summaries: Vec<CubeSummary> = Vec::new();
    for cube in &cubes {
        if comm.any(stop.load(Ordering::Relaxed)) {
            return Ok(Ending::Stopped);
        }
        // A stage that was asked for by name is done again.
        if stage == Stage::All {
            if let Some(done) = write::finished(comm, config, cube)? {
                summaries.push(done);
                continue;
            }
        }
        match score_cube(comm, config, cube, &survey, model.as_ref(), &mut clock) {
            Ok(summary) => summaries.push(summary),
            Err(error) => set_aside.push(comm, cube, error)?,
        }
    }
    if summaries.is_empty() {
        bail!("no cube could be scored: {}", set_aside.reasons());
    }
    let summary = Summary::new(comm, summaries, &set_aside, clock.laps());
    comm.agree(if comm.is_root() {
        pages::write(config, &summary).and_then(|()| summary.write(directory))
    } else {
        Ok(())
    })?;
    if comm.is_root() {
        summary.print(config);
    }
    Ok(ending(&set_aside))
}

/// Draws the report of a finished run anew.
///
/// # Collective
/// # Errors
/// An output folder without results.
pub fn report(comm: &Comm, config: &Config) -> Result<Ending> {
    comm.agree(if comm.is_root() {
        Summary::read(&config.output.dir).and_then(|summary| pages::write(config, &summary))
    } else {
        Ok(())
    })?;
    if comm.is_root() {
        println!("{}", config.output.dir.join("report.html").display());
    }
    Ok(Ending::Done)
}

/// Returns to the system what training has freed: the allocator would keep it beside what scoring takes. Rank-local.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions and touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn ending(set_aside: &SetAside) -> Ending {
    if set_aside.is_empty() {
        Ending::Done
    } else {
        Ending::SomeSetAside
    }
}

/// The trained model: trained now, or (for [`Stage::Score`]) as the last training left it. `None` after a signal.
///
/// # Collective
fn model(
    comm: &Comm,
    config: &Config,
    stage: Stage,
    cubes: &[Cube],
    survey: &Survey,
    stop: &AtomicBool,
) -> Result<Option<Model>> {
    let directory = &config.output.dir;
    if stage == Stage::Score {
        let Some(checkpoint) = Checkpoint::newest(comm, directory)? else {
            bail!(
                "{} holds no trained model to score with: run `coreloss train` first",
                directory.display()
            );
        };
        checkpoint.check(config, &cubes[0].energy)?;
        return Ok(Some(checkpoint.model));
    }
    match train(comm, config, cubes, survey, directory, stop)? {
        Outcome::Finished(model) => Ok(Some(*model)),
        Outcome::Stopped => Ok(None),
    }
}

/// Scores one cube by every method and writes its file.
///
/// # Collective
fn score_cube(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    survey: &Survey,
    model: Option<&Model>,
    clock: &mut Clock,
) -> Result<CubeSummary> {
    let analysis = Analysis::of(comm, config, cube, survey, model, clock)?;
    let summary = write::write(comm, config, cube, &analysis)?;
    clock.lap("write");
    Ok(summary)
}

/// Wall time of the stages, as root saw it.
pub struct Clock {
    since: Instant,
    laps: Vec<(String, f64)>,
}

impl Clock {
    fn start() -> Clock {
        Clock {
            since: Instant::now(),
            laps: Vec::new(),
        }
    }

    /// Adds the time since the last lap to the stage `name`.
    fn lap(&mut self, name: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        match self.laps.iter_mut().find(|(other, _)| other == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.laps.push((name.to_string(), seconds)),
        }
    }

    fn laps(&self) -> &[(String, f64)] {
        &self.laps
    }
}
