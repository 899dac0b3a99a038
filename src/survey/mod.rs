//! `coreloss survey`: a catalogue of many cubes of different shapes, energy axes and materials, and a ranking of them.
//!
//! Ranks work in groups on cubes of their own. What is done stays done: a survey that is stopped goes on at the next
//! cube, cubes that are added are all that is scored next time, and several jobs may work on one survey at once.

mod catalogue;
mod models;
mod ranking;
mod schedule;
mod surprise;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::attempt::{self, End, Turn};
use crate::comm::Comm;
use crate::config::Stage;
use crate::config::{Config, Models as Which};
use crate::ending::Ending;
use crate::pipeline;
use crate::results::{Start, folder};

use catalogue::{Catalogue, Entry};
use models::Models;
use schedule::Measured;

/// Scores what is new in the catalogue and ranks all of it.
///
/// # Collective
/// # Errors
/// A named input that cannot be used, an output that cannot be written, no cube that can be scored.
pub fn survey(comm: &Comm, config: &Config, stop: &Arc<AtomicBool>) -> Result<Ending> {
    let began = attempt::now(comm);
    folder::open(comm, config, Stage::Survey, Start::Continue)?;
    let mut catalogue = Catalogue::open(comm, config)?;
    let new: Vec<&Entry> = catalogue.entries.iter().filter(|entry| !entry.done).collect();
    if comm.is_root() {
        log::info!(
            "{} cubes in {} groups, {} of them to score; {} set aside",
            catalogue.entries.len(),
            catalogue.groups().len(),
            new.len(),
            catalogue.set_aside.len()
        );
    }
    let models = match config.survey.models {
        Which::PerGroup => match train_groups(comm, config, &catalogue, &new, began, stop)? {
            Some(failed) => Models::PerGroup(failed),
            None => return Ok(Ending::Stopped),
        },
        Which::Pretrained if !new.is_empty() => Models::Pretrained(models::pretrained(comm, config)?),
        Which::Pretrained => Models::Pretrained(Vec::new()),
        Which::PerCube => Models::PerCube,
    };
    let costs = costs(config, &catalogue, &new);
    let stopped = share_out(comm, &costs, stop, |ranks, i| score_entry(ranks, config, new[i], &models, began, stop))?;
    if stopped {
        return Ok(Ending::Stopped);
    }
    catalogue.look_again(comm, config);
    let found = ranking::read(comm, config, &mut catalogue);
    if catalogue.entries.is_empty() {
        bail!("no cube could be scored: {}", catalogue.reasons());
    }
    ranking::write(comm, config, &catalogue, &found)?;
    Ok(match catalogue.set_aside.is_empty() {
        true => Ending::Done,
        false => Ending::SomeSetAside,
    })
}

/// Trains the models of the groups that `new` are of; gives, by group, why a training failed, and none after a signal.
///
/// # Collective
/// # Errors
/// Those of [`share_out`].
fn train_groups(
    comm: &Comm,
    config: &Config,
    catalogue: &Catalogue,
    new: &[&Entry],
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Option<BTreeMap<String, String>>> {
    let mut groups: Vec<&str> = new.iter().map(|entry| &entry.group[..]).collect();
    groups.sort_unstable();
    groups.dedup();
    let cost = |group: &&str| {
        let shapes = models::learned_from(config, catalogue, group).map(|entry| entry.shape);
        schedule::training_cost(config, &shapes.collect::<Vec<_>>())
    };
    let costs: Vec<f64> = groups.iter().map(cost).collect();
    let mut failed: Vec<(String, String)> = Vec::new();
    let stopped = share_out(comm, &costs, stop, |ranks, i| {
        let trained = models::train_group(ranks, config, catalogue, groups[i], began, stop);
        // Its cubes will be set aside, with the reason.
        Ok(trained.unwrap_or_else(|error| {
            if ranks.is_root() {
                log::warn!("no model of {}: {error:#}", groups[i]);
                failed.push((groups[i].into(), format!("{error:#}")));
            }
            Ending::SomeSetAside
        }))
    })?;
    let failed = comm.all_gather(&failed).into_iter().flatten().collect();
    Ok((!stopped).then_some(failed))
}

/// What each of `new` costs, by what others took in surveys before.
fn costs(config: &Config, catalogue: &Catalogue, new: &[&Entry]) -> Vec<f64> {
    let cost = |entry: &Entry| schedule::cost(config, entry.shape);
    let measured = catalogue
        .entries
        .iter()
        .filter_map(|entry| Some(Measured { group: &entry.group, cost: cost(entry), took_s: entry.took_s? }));
    let measured: Vec<Measured> = measured.collect();
    new.iter().map(|entry| schedule::measured_cost(&measured, &entry.group, cost(entry))).collect()
}

/// Has groups of ranks work through things of known cost, the dearest first; a group takes the next when it is done with
/// the one before. True where a signal ended it.
///
/// # Collective
/// # Errors
/// Those of `work`, which is collective over a group; they end the job.
fn share_out(
    comm: &Comm,
    costs: &[f64],
    stop: &AtomicBool,
    mut work: impl FnMut(&Comm, usize) -> Result<Ending>,
) -> Result<bool> {
    let groups = schedule::groups(costs, comm.size());
    if comm.is_root() && !costs.is_empty() {
        log::info!("{} things to do by {groups} groups of ranks", costs.len());
    }
    let ranks = comm.split(comm.rank() * groups / comm.size());
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| costs[b].total_cmp(&costs[a]));
    let mut stopped = false;
    for i in order {
        if ranks.any(stop.load(Ordering::Relaxed)) {
            stopped = true;
            break;
        }
        // Agreed upon by the group only: the others learn of it by the job's end.
        match work(&ranks, i).map_err(|error| anyhow!("{error:#}"))? {
            Ending::Stopped => {
                stopped = true;
                break;
            }
            Ending::Done | Ending::SomeSetAside => (),
        }
    }
    Ok(comm.any(stopped))
}

/// Scores one cube unless another process is at it or was since `began`; what is wrong with it is remembered.
///
/// # Collective
fn score_entry(
    comm: &Comm,
    config: &Config,
    entry: &Entry,
    models: &Models,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let attempts = entry.attempts(config);
    let Turn::Mine(mut mine) = attempt::claim(comm, &attempts, stop)? else {
        return Ok(Ending::Done);
    };
    let tried = mine.before.take().filter(|before| before.began >= began);
    let result = match tried.and_then(|before| before.ended) {
        Some(End::Done) => Ok(Ending::Done),
        Some(End::Failed(reason)) => Err(anyhow!(reason)),
        Some(End::Stopped) | None => score(comm, config, entry, models, stop),
    };
    mine.end(comm, &result)?;
    if let Err(error) = &result {
        if comm.is_root() {
            log::warn!("set aside: {}: {error:#}", entry.source.path.display());
        }
    }
    Ok(result.unwrap_or(Ending::SomeSetAside))
}

/// Scores one cube with its model, and keeps how long that took.
///
/// # Collective
fn score(comm: &Comm, config: &Config, entry: &Entry, models: &Models, stop: &Arc<AtomicBool>) -> Result<Ending> {
    let begun = Instant::now();
    match models {
        Models::PerGroup(failed) => {
            let model = models::of_group(comm, config, &entry.group, failed)?;
            pipeline::score_one(comm, config, &entry.source, &[model])?;
        }
        Models::PerCube => {
            let Some((model, folder)) = models::of_cube(comm, config, &entry.source, stop)? else {
                return Ok(Ending::Stopped);
            };
            pipeline::score_one(comm, config, &entry.source, &[model])?;
            // Thousands of them would fill a disk.
            comm.on_root(|| {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
            })?;
        }
        Models::Pretrained(models) => {
            pipeline::score_one(comm, config, &entry.source, models)?;
        }
    }
    let took_s = begun.elapsed().as_secs_f64() * schedule::speed(comm.size() as f64);
    comm.on_root(|| entry.keep_time(config, took_s))?;
    Ok(Ending::Done)
}
