//! `coreloss survey`: a catalogue of many cubes of different shapes, energy axes and materials, and a ranking of them.
//!
//! Ranks work in groups on cubes of their own. What is done stays done: a survey that is stopped goes on at the next
//! cube, cubes that are added are all that is scored next time, and several jobs may work on one survey at once.

mod catalogue;
mod ranking;
mod schedule;
mod surprise;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{anyhow, bail, Context, Result};
use glob::Pattern;

use crate::archive::Source;
use crate::attempt::{self, End, Last, Turn};
use crate::comm::Comm;
use crate::config::{Config, Models, OneOrMany};
use crate::run::{self, Ending, Stage, Start};
use crate::train::{Checkpoint, Model};

use catalogue::{Catalogue, Entry};
use schedule::Measured;

/// Scores what is new in the catalogue and ranks all of it.
///
/// # Collective
/// # Errors
/// A named input that cannot be used, an output that cannot be written, no cube that can be scored.
pub fn survey(comm: &Comm, config: &Config, stop: &Arc<AtomicBool>) -> Result<Ending> {
    let began = attempt::now(comm);
    run::open_folder(comm, config, Stage::Survey, Start::Continue)?;
    let mut catalogue = Catalogue::open(comm, config)?;
    let new: Vec<&Entry> = catalogue
        .entries
        .iter()
        .filter(|entry| !entry.done)
        .collect();
    if comm.is_root() {
        log::info!(
            "{} cubes in {} groups, {} of them to score; {} set aside",
            catalogue.entries.len(),
            catalogue.groups().len(),
            new.len(),
            catalogue.set_aside.len()
        );
    }
    if config.survey.models == Models::PerGroup {
        let groups: Vec<&str> = catalogue
            .groups()
            .into_iter()
            .filter(|group| new.iter().any(|entry| entry.group == *group))
            .collect();
        let costs: Vec<f64> = groups
            .iter()
            .map(|group| {
                let member = new.iter().find(|entry| entry.group == *group);
                member.map_or(0.0, |entry| schedule::training_cost(config, entry.shape[2]))
            })
            .collect();
        let stopped = share_out(comm, &costs, stop, |ranks, i| {
            // Its cubes will be set aside, with the reason.
            let trained = train_group(ranks, config, &catalogue, groups[i], began, stop);
            Ok(trained.unwrap_or(Ending::SomeSetAside))
        })?;
        if stopped {
            return Ok(Ending::Stopped);
        }
    }
    let costs = costs(config, &catalogue, &new);
    let stopped = share_out(comm, &costs, stop, |ranks, i| {
        score_entry(ranks, config, new[i], began, stop)
    })?;
    if stopped {
        return Ok(Ending::Stopped);
    }
    catalogue.look_again(comm, config)?;
    if catalogue.entries.is_empty() {
        bail!("no cube could be scored: {}", catalogue.reasons());
    }
    ranking::write(comm, config, &catalogue)?;
    Ok(match catalogue.set_aside.is_empty() {
        true => Ending::Done,
        false => Ending::SomeSetAside,
    })
}

/// What each of `new` costs, by what others took in surveys before.
fn costs(config: &Config, catalogue: &Catalogue, new: &[&Entry]) -> Vec<f64> {
    let cost = |entry: &Entry| schedule::cost(config, entry.shape);
    let measured = catalogue.entries.iter().filter_map(|entry| {
        Some(Measured {
            group: &entry.group,
            cost: cost(entry),
            took_s: entry.took_s?,
        })
    });
    let measured: Vec<Measured> = measured.collect();
    new.iter()
        .map(|entry| schedule::measured_cost(&measured, &entry.group, cost(entry)))
        .collect()
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
    work: impl Fn(&Comm, usize) -> Result<Ending>,
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

/// Where a model is trained.
fn model_folder(config: &Config, name: &str) -> PathBuf {
    config.output.dir.join("models").join(name)
}

/// # Collective
fn train_group(
    comm: &Comm,
    config: &Config,
    catalogue: &Catalogue,
    group: &str,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let members: Vec<&Entry> = catalogue
        .entries
        .iter()
        .filter(|entry| entry.group == group)
        .collect();
    let stride = members.len().div_ceil(config.survey.train_cubes);
    let chosen = members.iter().step_by(stride);
    let training = training(config, group, chosen.map(|entry| &entry.source));
    attempt::train_once(comm, &training, began, stop)
}

/// What trains the model `name` on cubes.
fn training<'a>(config: &Config, name: &str, cubes: impl Iterator<Item = &'a Source>) -> Config {
    let mut config = config.clone();
    config.output.dir = model_folder(&config, name);
    let inputs = cubes.map(|source| unnamed(&source.path));
    config.archive.inputs = OneOrMany::Many(inputs.collect());
    config
}

/// `path` as a glob that matches it alone: such inputs are set aside where they fail.
fn unnamed(path: &Path) -> String {
    let text = path.display().to_string();
    let (start, last) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    format!("{}[{last}]", Pattern::escape(start))
}

/// Scores one cube unless another process is at it or was since `began`; what is wrong with it is remembered.
///
/// # Collective
fn score_entry(
    comm: &Comm,
    config: &Config,
    entry: &Entry,
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
        Some(End::Stopped) | None => score(comm, config, entry, stop),
    };
    mine.end(comm, &result)?;
    if let Err(error) = &result {
        if comm.is_root() {
            log::warn!("set aside: {}: {error:#}", entry.source.path.display());
        }
    }
    Ok(result.unwrap_or(Ending::SomeSetAside))
}

/// # Collective
fn score(comm: &Comm, config: &Config, entry: &Entry, stop: &Arc<AtomicBool>) -> Result<Ending> {
    let begun = Instant::now();
    let own = model_folder(config, &entry.source.id);
    let model = match config.survey.models {
        Models::PerGroup => group_model(comm, config, &entry.group)?,
        Models::PerCube => {
            let cube = std::iter::once(&entry.source);
            let training = training(config, &entry.source.id, cube);
            let ending = run::run(comm, &training, Stage::Train, Start::Continue, stop)?;
            if ending == Ending::Stopped {
                return Ok(Ending::Stopped);
            }
            newest(comm, &own)?
        }
        Models::Pretrained => pretrained(comm, config, entry)?,
    };
    run::score_one(comm, config, &entry.source, &model)?;
    let took_s = begun.elapsed().as_secs_f64() * schedule::speed(comm.size() as f64);
    comm.agree(if comm.is_root() {
        entry.keep_time(config, took_s)
    } else {
        Ok(())
    })?;
    if config.survey.models == Models::PerCube {
        // Thousands of them would fill a disk.
        comm.agree(if comm.is_root() {
            fs::remove_dir_all(&own).with_context(|| format!("cannot remove {}", own.display()))
        } else {
            Ok(())
        })?;
    }
    Ok(Ending::Done)
}

/// # Collective
/// # Errors
/// Why there is none.
fn group_model(comm: &Comm, config: &Config, group: &str) -> Result<Model> {
    let folder = model_folder(config, group);
    comm.agree(if comm.is_root() && !folder.join("trained").exists() {
        let why = match attempt::state(&folder.join("attempts")) {
            Ok(Last::Ended(_, End::Failed(reason))) => reason,
            _ => "its training was interrupted; start the survey again".into(),
        };
        Err(anyhow!("no model of {group}: {why}"))
    } else {
        Ok(())
    })?;
    newest(comm, &folder)
}

/// # Collective
fn newest(comm: &Comm, folder: &Path) -> Result<Model> {
    match Checkpoint::newest(comm, folder)? {
        Some(checkpoint) => Ok(checkpoint.model),
        None => bail!("{} holds no trained model", folder.display()),
    }
}

/// The model of `survey.pretrained` that has the cube's energy axis.
///
/// # Collective
fn pretrained(comm: &Comm, config: &Config, entry: &Entry) -> Result<Model> {
    let folders = config.survey.pretrained.as_ref();
    for folder in folders.iter().flat_map(|folders| folders.as_slice()) {
        let model = newest(comm, Path::new(folder))?;
        if model.energy == entry.energy {
            return Ok(model);
        }
    }
    bail!(
        "no model of survey.pretrained has its energy axis, {} channels of {} eV from {:.2} eV",
        entry.energy.size,
        entry.energy.scale,
        entry.energy.offset
    )
}
