//! The third phase: every cube scored, and its file written.

use std::sync::atomic::Ordering;

use anyhow::{Result, bail};

use super::clock::Clock;
use super::energy_axis;
use super::first_look::FirstLook;
use super::learn::Learned;
use super::linear_fit::LinearFit;
use super::prepare::Prepared;
use super::run::Run;
use super::score_cube::score_cube;
use crate::archive::Source;
use crate::comm::Comm;
use crate::config::{Config, Stage};
use crate::results::{CubeSummary, Failure, WithoutNetwork, finished, write_cube};
use crate::stream::{Cube, CubeStatistics, electron_bound, measure_statistics};
use crate::train::Model;

/// Scores the cubes of `prepared` that no earlier run has scored; `None` after a signal.
///
/// # Collective
/// # Errors
/// No cube that can be scored, a named one that cannot, an output that cannot be written.
pub fn score_all(
    run: &mut Run,
    prepared: &mut Prepared,
    learned: &Learned,
    mut first_look: FirstLook,
) -> Result<Option<Vec<CubeSummary>>> {
    let (comm, config) = (run.comm, run.config);
    let mut found: Vec<CubeSummary> = Vec::new();
    let statistics = CubeStatistics { noise: learned.noise, bound: electron_bound(&prepared.cubes, &learned.noise) };
    for cube in &prepared.cubes {
        if comm.any(run.stop.load(Ordering::Relaxed)) {
            return Ok(None);
        }
        // A stage that was asked for by name is done again.
        if run.stage == Stage::All
            && let Some(done) = finished(comm, config, cube)?
        {
            found.push(done);
            continue;
        }
        let models = (learned.model.as_ref(), learned.baselines.as_ref());
        let earlier = first_look.take(cube, &learned.noise);
        match score_and_write(comm, config, cube, &statistics, models, earlier, &mut run.clock) {
            Ok(summary) => found.push(summary),
            Err(Failure::Source(error)) => prepared.set_aside.push(comm, cube, error)?,
            Err(Failure::Fatal(error)) => return Err(error),
        }
    }
    if found.is_empty() {
        bail!("no cube could be scored: {}", prepared.set_aside.reasons());
    }
    Ok(Some(found))
}

/// Scores one cube with that of `models` whose energies suit it, and writes its file into the output folder.
///
/// # Collective
/// # Errors
/// Unreadable data, energies that no model suits, an output that cannot be written.
pub fn score_one(comm: &Comm, config: &Config, source: &Source, models: &[Model]) -> Result<CubeSummary> {
    let mut cubes = vec![comm.agree(Cube::open(source, config))?];
    let own = measure_statistics(comm, &mut cubes, config, |_, error| Err(error))?;
    let axes: Vec<_> = models.iter().map(|model| &model.energy).collect();
    let model = &models[energy_axis::choose_model(comm, config, &mut cubes[0], &own, &axes)?];
    let statistics = CubeStatistics { noise: model.noise, bound: electron_bound(&cubes, &model.noise) };
    Ok(score_and_write(comm, config, &cubes[0], &statistics, (Some(model), None), None, &mut Clock::start())?)
}

/// # Collective
fn score_and_write(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    statistics: &CubeStatistics,
    models: (Option<&Model>, Option<&LinearFit>),
    earlier: Option<WithoutNetwork>,
    clock: &mut Clock,
) -> Result<CubeSummary, Failure> {
    let scored = score_cube(comm, config, cube, statistics, models, earlier, clock).map_err(Failure::Source)?;
    let summary = write_cube(comm, config, &scored)?;
    clock.lap("write");
    Ok(summary)
}
