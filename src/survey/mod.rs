//! `coreloss survey`: a catalogue of many cubes of different shapes, energy axes and materials, and a ranking of them.
//!
//! Groups of ranks score cubes at the same time, each a cube of its own. Results are kept: a survey that was stopped goes on
//! with the next cube, a later one scores only the cubes that were added, and several jobs may work on one survey at once.

mod catalogue;
mod cost;
mod distribute;
mod kinds;
mod models;
mod ranked;
mod ranking;
mod schedule;
mod score;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};

use crate::attempt;
use crate::comm::Comm;
use crate::config::{Config, ModelScope, Stage};
use crate::ending::Ending;
use crate::results::{Start, folder};

use catalogue::{Catalogue, Entry};
use cost::Measured;
use distribute::in_groups;
use models::ModelSource;

/// Scores the cubes of the catalogue that are new, and ranks all of them.
///
/// # Collective
/// # Errors
/// A named input that cannot be used, an output that cannot be written, no cube that can be scored.
pub fn survey(comm: &Comm, config: &Config, stop: &Arc<AtomicBool>) -> Result<Ending> {
    let began = attempt::unix_time(comm);
    folder::open(comm, config, Stage::Survey, Start::Continue)?;
    // First of all: a mistyped one must not cost a night.
    let verdicts = ranking::verdicts(comm, config)?;
    let mut catalogue = Catalogue::open(comm, config)?;
    let new: Vec<&Entry> = catalogue.entries.iter().filter(|entry| !entry.done).collect();
    if comm.is_root() {
        log::info!(
            "{} cubes in {} groups, {} of them to score; {} set aside",
            catalogue.entries.len(),
            catalogue.groups().len(),
            new.len(),
            catalogue.set_aside.list().len()
        );
    }
    let models = match config.survey.models {
        ModelScope::PerGroup => match train_groups(comm, config, &catalogue, &new, began, stop)? {
            Some(failed) => ModelSource::PerGroup(failed),
            None => return Ok(Ending::Stopped),
        },
        ModelScope::Pretrained if !new.is_empty() => ModelSource::Pretrained(models::pretrained(comm, config)?),
        ModelScope::Pretrained => ModelSource::Pretrained(Vec::new()),
        ModelScope::PerCube => ModelSource::PerCube,
    };
    let costs = costs(config, &catalogue, &new);
    let stopped =
        in_groups(comm, &costs, stop, |group, i| score::score_entry(group, config, new[i], &models, began, stop))?;
    if stopped {
        return Ok(Ending::Stopped);
    }
    catalogue.set_failed_aside(comm, config);
    let found = ranking::read(comm, config, &mut catalogue, &verdicts);
    if catalogue.entries.is_empty() {
        bail!("no cube could be scored: {}", catalogue.set_aside.reasons());
    }
    ranking::write(comm, config, &catalogue, &found)?;
    Ok(catalogue.set_aside.ending())
}

/// Trains the models of all groups with a cube in `new`. Gives, by group, why a training failed; `None` after a signal.
///
/// # Collective
/// # Errors
/// As [`in_groups`].
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
        cost::training_cost(config, &shapes.collect::<Vec<_>>())
    };
    let costs: Vec<f64> = groups.iter().map(cost).collect();
    let mut failed: Vec<(String, String)> = Vec::new();
    let stopped = in_groups(comm, &costs, stop, |ranks, i| {
        let trained = models::train_group(ranks, config, catalogue, groups[i], began, stop);
        // The survey goes on: the cubes of this group are set aside, with the reason.
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

/// The cost of each of `new`, by the time that others took in earlier surveys.
fn costs(config: &Config, catalogue: &Catalogue, new: &[&Entry]) -> Vec<f64> {
    let cost = |entry: &Entry| cost::cost(config, entry.shape);
    let measured = catalogue
        .entries
        .iter()
        .filter_map(|entry| Some(Measured { group: &entry.group, cost: cost(entry), took_s: entry.took_s? }));
    let measured: Vec<Measured> = measured.collect();
    new.iter().map(|entry| cost::measured_cost(&measured, &entry.group, cost(entry))).collect()
}
