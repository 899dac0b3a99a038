//! One point: its simulated cubes, its training, its run; each done once among all processes that share the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::attempt::{claim, once, Turn};
use crate::comm::Comm;
use crate::config::{Config, Point, Simulated, Sweep};
use crate::run::{self, Ending, Stage, Start};

/// How a point ended, on every rank alike.
pub enum Outcome {
    Ended(Ending),
    /// Somebody else is at it.
    Busy(String),
    Failed(String),
}

/// The folder of attempts at what lies in `folder`.
pub fn attempts(folder: &Path) -> PathBuf {
    folder.join("attempts")
}

/// # Collective
/// # Errors
/// A folder that cannot be written: what is wrong with the point itself is an [`Outcome`].
pub fn run(
    comm: &Comm,
    sweep: &Sweep,
    point: &Point,
    folder: &Path,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Outcome> {
    let mine = match claim(comm, &attempts(folder), stop)? {
        Turn::Mine(mine) => mine,
        Turn::Theirs(who) => return Ok(Outcome::Busy(who)),
    };
    let result = work(comm, sweep, point, folder, began, stop);
    mine.end(comm, &result)?;
    Ok(match result {
        Ok(ending) => Outcome::Ended(ending),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    })
}

/// # Collective
fn work(
    comm: &Comm,
    sweep: &Sweep,
    point: &Point,
    folder: &Path,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let mut config = point.config.clone();
    config.output.dir = folder.to_path_buf();
    config.simulate.dir = sweep.output.join("archive");
    for cube in &point.simulated {
        if simulated(comm, &config, cube, began, stop)? == Ending::Stopped {
            return Ok(Ending::Stopped);
        }
    }
    if !sweep.train {
        return run::run(comm, &config, Stage::Pca, Start::Continue, stop);
    }
    let model = sweep.output.join("models").join(&point.training);
    if trained(comm, &model, &config, began, stop)? == Ending::Stopped {
        return Ok(Ending::Stopped);
    }
    comm.agree(if comm.is_root() {
        take_model(&model, folder)
    } else {
        Ok(())
    })?;
    run::run(comm, &config, Stage::All, Start::Continue, stop)
}

/// Makes a simulated cube in `simulate.dir` unless it is there.
///
/// # Collective
fn simulated(
    comm: &Comm,
    config: &Config,
    cube: &Simulated,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let (folder, name) = (&config.simulate.dir, &cube.spec.name);
    // Written after the cube.
    let truth = folder.join(format!("{name}.truth.hspy"));
    let attempts = folder.join("attempts").join(name);
    once(comm, &attempts, &truth, began, stop, || {
        run::write_cube(comm, config, &cube.spec, cube.index)
            .with_context(|| format!("simulate.cubes: {name}"))?;
        Ok(Ending::Done)
    })
}

/// Trains in the folder `model` unless that was done.
///
/// # Collective
fn trained(
    comm: &Comm,
    model: &Path,
    config: &Config,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let mut config = config.clone();
    let default = Config::default();
    config.output.dir = model.to_path_buf();
    config.pca = default.pca;
    config.score = default.score;
    config.simulate = default.simulate;
    if let Some(inputs) = &config.archive.train_inputs {
        config.archive.inputs = inputs.clone();
    }
    let done = model.join("trained");
    once(comm, &attempts(model), &done, began, stop, || {
        let ending = run::run(comm, &config, Stage::Train, Start::Continue, stop)?;
        if ending != Ending::Stopped {
            comm.agree(if comm.is_root() {
                fs::write(&done, "").with_context(|| format!("cannot write {}", done.display()))
            } else {
                Ok(())
            })?;
        }
        Ok(ending)
    })
}

/// Gives the run in `folder` the checkpoint and the losses of the training in `model`. Rank-local.
fn take_model(model: &Path, folder: &Path) -> Result<()> {
    let (from, to) = (model.join("checkpoints"), folder.join("checkpoints"));
    let place = || format!("cannot take the model of {}", model.display());
    fs::create_dir_all(&to).with_context(place)?;
    for entry in fs::read_dir(&from).with_context(place)? {
        let name = entry.with_context(place)?.file_name();
        let (from, to) = (from.join(&name), to.join(&name));
        // Checkpoints are replaced, never changed: a second name of the file takes no room.
        if !to.exists() && fs::hard_link(&from, &to).is_err() {
            copy(&from, &to).with_context(place)?;
        }
    }
    let losses = "metrics.jsonl";
    copy(&model.join(losses), &folder.join(losses)).with_context(place)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let partial = to.with_extension("partial");
    fs::copy(from, &partial)?;
    fs::rename(&partial, to)
}
