//! One point: its cubes made, its model trained, its run; each done once among all processes that share the folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use super::folders::attempts;
use crate::attempt::{GroupClaim, claim, run_once, train_once};
use crate::comm::Comm;
use crate::config::{Config, Made, Point, Stage, Sweep};
use crate::durable::Partial;
use crate::ending::Ending;
use crate::labelled;
use crate::pipeline;
use crate::results::Start;

/// How a point ended, equal on every rank.
pub enum Outcome {
    Ended(Ending),
    /// The process that is running it.
    Busy(String),
    /// With the reason.
    Failed(String),
}

/// Makes what `point` reads and runs it in `folder`, unless another process is running it.
///
/// # Collective
/// # Errors
/// A folder that cannot be written; what is wrong with the point itself is an [`Outcome`].
pub fn run_point(
    comm: &Comm,
    sweep: &Sweep,
    point: &Point,
    folder: &Path,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Outcome> {
    let lease = match claim(comm, &attempts(folder), stop)? {
        GroupClaim::Mine(lease) => lease,
        GroupClaim::Theirs(who) => return Ok(Outcome::Busy(who)),
    };
    let result = make_train_score(comm, sweep, point, folder, began, stop);
    lease.end(comm, &result)?;
    Ok(match result {
        Ok(ending) => Outcome::Ended(ending),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    })
}

/// Makes the point's cubes, trains its model, scores.
///
/// # Collective
fn make_train_score(
    comm: &Comm,
    sweep: &Sweep,
    point: &Point,
    folder: &Path,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let mut config = point.config.clone();
    config.output.dir = folder.to_path_buf();
    let archive = sweep.store.join("archive");
    for cube in &point.made {
        // The truth is written after the cube: where it is, both are whole.
        let truth = archive.join(format!("{}.truth.hspy", cube.name()));
        let attempts = attempts(&archive).join(cube.name());
        let ending = run_once(comm, &attempts, &truth, began, stop, || make(comm, &config, cube, &archive))?;
        if ending == Ending::Stopped {
            return Ok(Ending::Stopped);
        }
    }
    if !sweep.train {
        return pipeline::run(comm, &config, Stage::Pca, Start::Continue, stop);
    }
    let mut training = config.clone();
    training.output.dir = sweep.store.join("models").join(&point.training);
    if let Some(inputs) = &config.archive.train_inputs {
        training.archive.inputs = inputs.clone();
    }
    let model = &training.output.dir;
    let trained =
        train_once(comm, model, began, stop, || pipeline::run(comm, &training, Stage::Train, Start::Continue, stop))?;
    if trained == Ending::Stopped {
        return Ok(Ending::Stopped);
    }
    comm.on_root(|| take_model(model, folder))?;
    pipeline::run(comm, &config, Stage::All, Start::Continue, stop)
}

/// Makes one of the sweep's own cubes in `archive`.
///
/// # Collective
fn make(comm: &Comm, config: &Config, cube: &Made, archive: &Path) -> Result<Ending> {
    let mut config = config.clone();
    config.simulate.dir = archive.to_path_buf();
    config.inject.dir = archive.to_path_buf();
    match cube {
        Made::Simulated(spec, index) => labelled::write_cube(comm, &config, spec, *index),
        Made::Injected(copy) => labelled::write_copy(comm, &config, copy),
    }
    .with_context(|| format!("cannot make the cube {}", cube.name()))?;
    Ok(Ending::Done)
}

/// Gives the run in `folder` the checkpoints and the losses of the training in `model`. Rank-local.
fn take_model(model: &Path, folder: &Path) -> Result<()> {
    let (from, to) = (model.join("checkpoints"), folder.join("checkpoints"));
    let place = || format!("cannot take the model of {}", model.display());
    fs::create_dir_all(&to).with_context(place)?;
    for entry in fs::read_dir(&from).with_context(place)? {
        let name = entry.with_context(place)?.file_name();
        let (from, to) = (from.join(&name), to.join(&name));
        // Checkpoints are replaced, never changed: a hard link takes no room.
        if !to.exists() && fs::hard_link(&from, &to).is_err() {
            copy(&from, &to).with_context(place)?;
        }
    }
    let losses = "metrics.jsonl";
    copy(&model.join(losses), &folder.join(losses)).with_context(place)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let partial = Partial::of(to);
    fs::copy(from, partial.path())?;
    partial.commit()
}
