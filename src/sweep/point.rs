//! One point: its simulated cubes, its training, its run; each done once among all processes that share the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::attempt::{Attempt, Claim, End};
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
    stop: &Arc<AtomicBool>,
) -> Result<Outcome> {
    let turn = match claim(comm, &attempts(folder), stop)? {
        Turn::Mine(attempt) => attempt,
        Turn::Theirs(who) => return Ok(Outcome::Busy(who)),
    };
    let result = work(comm, sweep, point, folder, stop);
    end(comm, turn, &result)?;
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
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    for cube in &point.simulated {
        if simulated(comm, &sweep.output.join("archive"), cube, stop)? == Ending::Stopped {
            return Ok(Ending::Stopped);
        }
    }
    let mut config = point.config.clone();
    config.output.dir = folder.to_path_buf();
    if !sweep.train {
        return run::run(comm, &config, Stage::Pca, Start::Continue, stop);
    }
    let model = sweep.output.join("models").join(&point.training);
    if trained(comm, &model, &config, stop)? == Ending::Stopped {
        return Ok(Ending::Stopped);
    }
    comm.agree(if comm.is_root() {
        take_model(&model, folder)
    } else {
        Ok(())
    })?;
    run::run(comm, &config, Stage::All, Start::Continue, stop)
}

/// Makes a simulated cube unless it is there.
///
/// # Collective
fn simulated(
    comm: &Comm,
    folder: &Path,
    cube: &Simulated,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let name = &cube.spec.name;
    // Written after the cube.
    let truth = folder.join(format!("{name}.truth.hspy"));
    let attempts = folder.join("attempts").join(name);
    once(comm, &attempts, &truth, stop, || {
        run::write_cube(comm, folder, &cube.spec, cube.index)
            .with_context(|| format!("simulate.cubes: {name}"))?;
        Ok(Ending::Done)
    })
}

/// Trains in the folder `model` unless that was done.
///
/// # Collective
fn trained(comm: &Comm, model: &Path, config: &Config, stop: &Arc<AtomicBool>) -> Result<Ending> {
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
    once(comm, &attempts(model), &done, stop, || {
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

/// Does `work` unless the file `done` is there; where another process is at it, waits for that.
///
/// # Collective
fn once(
    comm: &Comm,
    attempts: &Path,
    done: &Path,
    stop: &Arc<AtomicBool>,
    work: impl FnOnce() -> Result<Ending>,
) -> Result<Ending> {
    let is_done = || comm.broadcast(Some(done.exists()));
    let mut told = false;
    while !is_done() {
        if comm.any(stop.load(Ordering::Relaxed)) {
            return Ok(Ending::Stopped);
        }
        match claim(comm, attempts, stop)? {
            Turn::Mine(attempt) => {
                // Whoever was at it may have ended since the look.
                let result = if is_done() { Ok(Ending::Done) } else { work() };
                end(comm, attempt, &result)?;
                return result;
            }
            Turn::Theirs(who) => {
                if comm.is_root() && !told {
                    log::info!("waits for {}, which {who} is making", done.display());
                }
                told = true;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
    Ok(Ending::Done)
}

/// Whose turn it is, on every rank alike; root alone holds the attempt.
enum Turn {
    Mine(Option<Attempt>),
    Theirs(String),
}

/// # Collective
fn claim(comm: &Comm, folder: &Path, stop: &Arc<AtomicBool>) -> Result<Turn> {
    let claimed = comm.agree(if comm.is_root() {
        Attempt::claim(folder, stop).map(Some)
    } else {
        Ok(None)
    })?;
    let (mine, who) = match claimed {
        Some(Claim::Mine(attempt)) => (Some(attempt), None),
        Some(Claim::Theirs(record)) => (None, Some(record.to_string())),
        None => (None, None),
    };
    Ok(match comm.broadcast(Some(who)) {
        Some(who) => Turn::Theirs(who),
        None => Turn::Mine(mine),
    })
}

/// # Collective
fn end(comm: &Comm, attempt: Option<Attempt>, result: &Result<Ending>) -> Result<()> {
    let end = match result {
        Ok(Ending::Stopped) => End::Stopped,
        Ok(_) => End::Done,
        Err(error) => End::Failed(format!("{error:#}")),
    };
    comm.agree(attempt.map_or(Ok(()), |attempt| attempt.end(end)))
}
