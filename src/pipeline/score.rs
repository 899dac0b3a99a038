//! The third phase: every cube scored, and its file written.

use std::sync::atomic::Ordering;

use anyhow::{Result, bail};

use super::Run;
use super::analyse::analyse;
use super::baselines::Fitted;
use super::clock::Clock;
use super::learn::Learned;
use super::prepare::Prepared;
use crate::comm::Comm;
use crate::config::{Config, Stage};
use crate::preprocess::noise::NoiseModel;
use crate::results::{self, CubeSummary, Failure};
use crate::stream::{Cube, CubeStatistics, electron_bound};
use crate::train::Model;

/// Scores the cubes of `prepared` that no earlier run has scored; `None` after a signal.
///
/// # Collective
/// # Errors
/// No cube that can be scored, a named one that cannot, an output that cannot be written.
pub fn score_all(run: &mut Run, prepared: &mut Prepared, learned: &Learned) -> Result<Option<Vec<CubeSummary>>> {
    let (comm, config) = (run.comm, run.config);
    let mut found: Vec<CubeSummary> = Vec::new();
    let bound = electron_bound(&prepared.cubes, &learned.noise);
    let statistics = CubeStatistics { noise: learned.noise, bound };
    for cube in &prepared.cubes {
        if comm.any(run.stop.load(Ordering::Relaxed)) {
            return Ok(None);
        }
        // A stage that was asked for by name is done again.
        if run.stage == Stage::All {
            if let Some(done) = results::finished(comm, config, cube)? {
                found.push(done);
                continue;
            }
        }
        let models = (learned.model.as_ref(), learned.baselines.as_ref());
        match score_and_write(comm, config, cube, &statistics, models, &mut run.clock) {
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

/// Scores one cube by every method, with the network and the baselines given, and writes its file.
///
/// # Collective
/// # Errors
/// Unreadable data, an output that cannot be written; whether the failure is the cube's own.
pub fn score(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    models: (Option<&Model>, Option<&Fitted>),
    noise: NoiseModel,
    clock: &mut Clock,
) -> Result<CubeSummary, Failure> {
    let statistics = CubeStatistics { noise, bound: electron_bound(std::slice::from_ref(cube), &noise) };
    score_and_write(comm, config, cube, &statistics, models, clock)
}

/// # Collective
fn score_and_write(
    comm: &Comm,
    config: &Config,
    cube: &Cube,
    statistics: &CubeStatistics,
    (model, baselines): (Option<&Model>, Option<&Fitted>),
    clock: &mut Clock,
) -> Result<CubeSummary, Failure> {
    let scored = analyse(comm, config, cube, statistics, model, baselines, clock).map_err(Failure::Source)?;
    let summary = results::write(comm, config, cube, &scored)?;
    clock.lap("write");
    Ok(summary)
}
