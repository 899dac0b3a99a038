//! One cube of a survey scored, once among all processes that work on the survey.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::catalogue::Entry;
use super::models::{self, ModelSource};
use super::schedule::speed;
use crate::attempt::{End, GroupClaim, claim};
use crate::comm::Comm;
use crate::config::Config;
use crate::ending::Ending;
use crate::pipeline;

/// Scores one cube, unless another process is doing so or did after `began` (unix time). A failure is recorded and logged.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn score_entry(
    comm: &Comm,
    config: &Config,
    entry: &Entry,
    models: &ModelSource,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let attempts = entry.attempts(config);
    let GroupClaim::Mine(mut lease) = claim(comm, &attempts, stop)? else {
        return Ok(Ending::Done);
    };
    let tried = lease.before.take().filter(|before| before.began >= began);
    let result = match tried.and_then(|before| before.ended) {
        Some(End::Done) => Ok(Ending::Done),
        Some(End::Failed(reason)) => Err(anyhow!(reason)),
        Some(End::Stopped) | None => score(comm, config, entry, models, stop),
    };
    lease.end(comm, &result)?;
    if let Err(error) = &result
        && comm.is_root()
    {
        log::warn!("set aside: {}: {error:#}", entry.source.path.display());
    }
    Ok(result.unwrap_or(Ending::SomeSetAside))
}

/// Scores one cube with its model, and keeps how long that took.
///
/// # Collective
fn score(comm: &Comm, config: &Config, entry: &Entry, models: &ModelSource, stop: &Arc<AtomicBool>) -> Result<Ending> {
    let begun = Instant::now();
    match models {
        ModelSource::PerGroup(failed) => {
            let model = models::of_group(comm, config, &entry.group, failed)?;
            pipeline::score_one(comm, config, &entry.source, &[model])?;
        }
        ModelSource::PerCube => {
            let Some((model, folder)) = models::of_cube(comm, config, &entry.source, stop)? else {
                return Ok(Ending::Stopped);
            };
            pipeline::score_one(comm, config, &entry.source, &[model])?;
            // Thousands of models would fill a disk.
            comm.on_root(|| {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
            })?;
        }
        ModelSource::Pretrained(models) => {
            pipeline::score_one(comm, config, &entry.source, models)?;
        }
    }
    let took_s = begun.elapsed().as_secs_f64() * speed(comm.size() as f64);
    comm.on_root(|| entry.keep_time(config, took_s))?;
    Ok(Ending::Done)
}
