//! The commands: what a user asks for, made of the modules above.

mod align;
mod analyse;
mod arrays;
mod components;
mod energy;
mod export;
mod folder;
mod import;
mod init;
mod inject;
mod inputs;
mod inspect;
mod labelled;
mod leave_out;
mod methods;
mod pages;
mod pixels;
mod regions;
mod rehearsal;
mod set_aside;
mod simulate;
mod status;
mod summary;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{bail, Result};

use crate::archive::Source;
use crate::comm::Comm;
use crate::config::{Config, PcaFit};
use crate::cube::Axis;
use crate::stream::{bound, survey, Cube, Survey};
use crate::train::{train, Checkpoint, Model, Outcome};

pub use export::{export, Form};
pub use folder::{open as open_folder, Start};
pub use import::import;
pub use init::init;
pub use inject::{inject, write_copy};
pub use inspect::inspect;
pub use pages::{read_thumbnail, Thumbnail};
pub use pixels::ScoredPixels;
pub use rehearsal::{dry_run, BASE_MIB};
pub use simulate::{simulate, write_cube};
pub use status::status;
pub(crate) use summary::peak_rss_mib;
pub use summary::{region_columns, CubeSummary, RegionSummary, Summary};

use analyse::Analysis;
use components::Fitted;
use inputs::Inputs;
use set_aside::{Failure, SetAside};

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
    /// Many cubes of many kinds, by [`crate::survey`].
    Survey,
}

impl Stage {
    /// Whether it fits anything to the cubes that are trained on.
    fn learns(self, config: &Config) -> bool {
        !matches!(self, Stage::Score | Stage::Pca) || config.pca.fit != PcaFit::Cube
    }
}

/// Runs the pipeline, or one stage of it on what earlier ones left.
///
/// # Collective
/// # Errors
/// Everything that is wrong with a named input, the configuration, the output folder or the training; the same on
/// every rank.
pub fn run(comm: &Comm, config: &Config, stage: Stage, start: Start, stop: &AtomicBool) -> Result<Ending> {
    run_on(comm, config, None, stage, start, stop)
}

/// Trains on `sources`, which keep their ids, in place of `archive.inputs`; goes on where that was stopped.
///
/// # Collective
/// # Errors
/// As [`run`].
pub fn train_on(comm: &Comm, config: &Config, sources: &[Source], stop: &AtomicBool) -> Result<Ending> {
    run_on(comm, config, Some(sources), Stage::Train, Start::Continue, stop)
}

/// [`run`] on `sources`, or on those of the configuration.
///
/// # Collective
fn run_on(
    comm: &Comm,
    config: &Config,
    sources: Option<&[Source]>,
    stage: Stage,
    start: Start,
    stop: &AtomicBool,
) -> Result<Ending> {
    let mut clock = Clock::start();
    let directory = &config.output.dir;
    if folder::open(comm, config, stage, start)? == folder::State::Finished {
        if comm.is_root() {
            println!("{} is finished: nothing to do (--fresh starts anew)", directory.display());
        }
        return Ok(Ending::Done);
    }
    let Inputs { mut cubes, mut training, mut set_aside } = match sources {
        Some(sources) => inputs::open_listed(comm, config, sources, stage.learns(config))?,
        None => inputs::open(comm, config, stage.learns(config))?,
    };
    let all = cubes.iter().chain(training.iter().flatten());
    labelled::check_averaged(comm, all, config)?;
    if start == Start::Fresh {
        // Not before: a mistyped name costs no results.
        folder::clear(comm, config)?;
    }

    let mut surveyed = |cubes: &mut Vec<Cube>| {
        let found = survey(comm, cubes, config, |cube, error| set_aside.push(comm, cube, error))?;
        if cubes.is_empty() {
            bail!("none of the inputs can be used: {}", set_aside.reasons());
        }
        Ok(found)
    };
    let mut scored = surveyed(&mut cubes)?;
    let mut trained_on = match training.as_mut() {
        Some(training) => Some(surveyed(training)?),
        None => None,
    };
    energy::settle(
        comm,
        config,
        training.as_mut().zip(trained_on.as_mut()),
        (&mut cubes, &mut scored),
        &mut set_aside,
    )?;
    let trained_on = trained_on.unwrap_or(scored);
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
    let noise = model.as_ref().map_or(trained_on.noise, |model| model.noise);
    clock.lap("train");
    let trained = if stage != Stage::Train && config.pca.fit != PcaFit::Cube {
        let training = training.as_deref().unwrap_or(&cubes);
        let survey = Survey { noise, bound: bound(training, &noise) };
        Some(Fitted::to_training(comm, config, training, &survey)?)
    } else {
        None
    };
    drop(training);
    give_memory_back();
    clock.lap("pca");
    if stage == Stage::Train {
        return Ok(ending(&set_aside));
    }

    let survey = Survey { noise, bound: bound(&cubes, &noise) };
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
        let learned = (model.as_ref(), trained.as_ref());
        match analyse_and_write(comm, config, cube, &survey, learned, &mut clock) {
            Ok(summary) => summaries.push(summary),
            Err(Failure::Source(error)) => set_aside.push(comm, cube, error)?,
            Err(Failure::Fatal(error)) => return Err(error),
        }
    }
    if summaries.is_empty() {
        bail!("no cube could be scored: {}", set_aside.reasons());
    }
    let summary = Summary::new(comm, summaries, &set_aside, clock.laps());
    comm.on_root(|| pages::write(config, &summary).and_then(|()| summary.write(directory)))?;
    if comm.is_root() {
        summary.print(config);
    }
    Ok(ending(&set_aside))
}

/// Scores one cube with that of `models` whose energies suit it, and writes its file into the output folder.
///
/// # Collective
/// # Errors
/// Unreadable data, energies that no model suits, an output that cannot be written.
pub fn score_one(comm: &Comm, config: &Config, source: &Source, models: &[Model]) -> Result<CubeSummary> {
    let mut cubes = vec![comm.agree(Cube::open(source, config))?];
    let found = survey(comm, &mut cubes, config, |_, error| Err(error))?;
    let axes: Vec<&Axis> = models.iter().map(|model| &model.energy).collect();
    let model = &models[energy::settle_on(comm, config, &mut cubes[0], &found, &axes)?];
    let survey = Survey { noise: model.noise, bound: bound(&cubes, &model.noise) };
    score_cube(comm, config, &cubes[0], &survey, (Some(model), None), &mut Clock::start())
}

/// What is in the file of a cube, if that is from this very input and has all scores: its findings. Rank-local.
pub fn scored_before(config: &Config, cube: &Cube) -> Option<CubeSummary> {
    let text = write::found_earlier(config, cube).ok()??;
    serde_json::from_str(&text).ok()
}

/// Draws the report of a finished run anew.
///
/// # Collective
/// # Errors
/// An output folder without results.
pub fn report(comm: &Comm, config: &Config) -> Result<Ending> {
    comm.on_root(|| Summary::read(&config.output.dir).and_then(|summary| pages::write(config, &summary)))?;
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
            bail!("{} holds no trained model to score with: run `coreloss train` first", directory.display());
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
    learned: (Option<&Model>, Option<&Fitted>),
    clock: &mut Clock,
) -> Result<CubeSummary> {
    Ok(analyse_and_write(comm, config, cube, survey, learned, clock)?)
}

/// As [`score_cube`], and says whether a failure is the cube's own.
///
/// # Collective
fn analyse_and_write(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    survey: &Survey,
    (model, trained): (Option<&Model>, Option<&Fitted>),
    clock: &mut Clock,
) -> Result<CubeSummary, Failure> {
    let analysis = Analysis::of(comm, config, cube, survey, model, trained, clock).map_err(Failure::Source)?;
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
        Clock { since: Instant::now(), laps: Vec::new() }
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
