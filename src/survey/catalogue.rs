//! The cubes of a survey: opened by all ranks between them, grouped by what can share a model.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};
use glob::Pattern;
use serde::{Deserialize, Serialize};

use crate::archive::{Source, catalogue};
use crate::attempt::{self, End, Last};
use crate::comm::Comm;
use crate::config::Config;
use crate::cube::Axis;
use crate::durable;
use crate::invalid::Invalid;
use crate::results;
use crate::stream::Cube;

/// A cube that can be opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its file and id.
    pub source: Source,
    /// `[y, x, energy]` in use.
    pub shape: [usize; 3],
    /// The energies that the configuration asks for.
    pub energy: Axis,
    /// Cubes of one group may share a model.
    pub group: String,
    /// It was scored before, and has not changed since.
    pub done: bool,
    /// Seconds that its scoring took then, of one rank.
    pub took_s: Option<f64>,
}

impl Entry {
    /// The folder of attempts at scoring it.
    pub fn attempts(&self, config: &Config) -> PathBuf {
        attempts(config, &self.source)
    }

    /// Keeps what scoring it took, for surveys to come. Rank-local.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn keep_time(&self, config: &Config, took_s: f64) -> Result<()> {
        durable::write(&self.attempts(config).join(TOOK), took_s.to_string())
    }
}

/// The cubes of a survey, and what is no cube or could not be scored.
pub struct Catalogue {
    /// In the order of their paths.
    pub entries: Vec<Entry>,
    /// Path and reason.
    pub set_aside: Vec<(String, String)>,
}

impl Catalogue {
    /// Lists `archive.inputs` and opens each; every rank opens its share.
    ///
    /// # Collective
    /// # Errors
    /// An empty list, a named input that does not open.
    pub fn open(comm: &Comm, config: &Config) -> Result<Catalogue> {
        let sources: Vec<Source> = comm.from_root(|| {
            catalogue(config.archive.inputs.as_slice()).map_err(|error| Invalid(format!("{error:#}")).into())
        })?;
        let opened = share(comm, &sources, |source| entry(source, config).map_err(|error| format!("{error:#}")));
        let mut found = Catalogue { entries: Vec::new(), set_aside: Vec::new() };
        for (source, opened) in sources.iter().zip(opened) {
            match opened {
                Ok(entry) => found.entries.push(entry),
                Err(reason) if source.named => bail!(reason),
                Err(reason) => {
                    if comm.is_root() {
                        log::warn!("set aside: {reason}");
                    }
                    found.set_aside.push((source.path.display().to_string(), reason));
                }
            }
        }
        Ok(found)
    }

    /// The groups, each once.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = self.entries.iter().map(|entry| &entry.group[..]).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Sets aside what could not be scored, with the reason that was remembered.
    ///
    /// # Collective
    pub fn look_again(&mut self, comm: &Comm, config: &Config) {
        let stand = share(comm, &self.entries, |entry| match attempt::state(&entry.attempts(config)) {
            _ if entry.done => Ok(()),
            Ok(Last::Ended(_, End::Done)) => Ok(()),
            Ok(Last::Ended(_, End::Failed(reason))) => Err(reason),
            Ok(Last::Running(who)) => Err(format!("{who} is at it")),
            Ok(_) => Err("its scoring ended without a word".into()),
            Err(error) => Err(format!("{error:#}")),
        });
        self.keep(stand);
    }

    /// Sets aside the entries that came to nothing, with the reason; gives what the others came to.
    pub fn keep<T>(&mut self, results: Vec<Result<T, String>>) -> Vec<T> {
        let mut kept = Vec::new();
        let entries = std::mem::take(&mut self.entries);
        for (entry, result) in entries.into_iter().zip(results) {
            match result {
                Ok(value) => {
                    self.entries.push(entry);
                    kept.push(value);
                }
                Err(reason) => {
                    let path = entry.source.path.display().to_string();
                    self.set_aside.push((path, reason));
                }
            }
        }
        kept
    }

    /// Why what was set aside was, in one line.
    pub fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.set_aside.iter().map(|(_, reason)| &reason[..]).collect();
        reasons.join("; ")
    }
}

/// `work` on each of `things`, done by all ranks between them; every rank has all results, in order.
///
/// # Collective
pub fn share<T, R: Serialize + for<'a> Deserialize<'a>>(comm: &Comm, things: &[T], work: impl Fn(&T) -> R) -> Vec<R> {
    let (rank, size) = (comm.rank(), comm.size());
    let mine: Vec<R> = things.iter().skip(rank).step_by(size).map(work).collect();
    let mut all: Vec<_> = comm.all_gather(&mine).into_iter().map(Vec::into_iter).collect();
    let next = |i: usize| all[i % size].next().expect("each rank did its share");
    (0..things.len()).map(next).collect()
}

/// Of a channel: a fifth of what a run takes for rounding.
const APART: f64 = 0.002;

/// Holds seconds, beside the attempts at a cube.
const TOOK: &str = "took_s";

fn attempts(config: &Config, source: &Source) -> PathBuf {
    config.output.dir.join("attempts").join(&source.id)
}

/// Opens a cube for what the survey needs to know of it. Rank-local.
fn entry(source: &Source, config: &Config) -> Result<Entry> {
    let cube = Cube::open(source, config)?;
    let took = fs::read_to_string(attempts(config, source).join(TOOK)).ok();
    Ok(Entry {
        shape: cube.shape(),
        energy: cube.energy.clone(),
        group: group(config, &source.id, &cube.energy),
        done: results::scored_before(config, &cube).is_some(),
        took_s: took.and_then(|text| text.parse().ok()),
        source: source.clone(),
    })
}

/// What a cube's tag and energy axis call for, fit for a folder's name.
fn group(config: &Config, id: &str, energy: &Axis) -> String {
    let tag = config.survey.tags.iter().find(|(_, globs)| {
        let mut globs = globs.as_slice().iter();
        globs.any(|glob| Pattern::new(glob).is_ok_and(|glob| glob.matches(id)))
    });
    let axis = axis_name(energy);
    match tag {
        Some((tag, _)) => format!("{}-{axis}", tag.replace(['/', '\\'], "_")),
        None => axis,
    }
}

/// Axes of one name are one axis to a model: nowhere further apart than [`APART`] of a channel at either calibration.
fn axis_name(energy: &Axis) -> String {
    let decimals = |least: f64| (-least.log10()).ceil().max(0.0) as usize;
    let offset_ev = APART * energy.scale;
    let scale_ev = offset_ev / energy.size as f64;
    format!(
        "{}x{:.*}eV_from_{:.*}eV",
        energy.size,
        decimals(scale_ev),
        energy.scale,
        decimals(offset_ev),
        energy.offset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_one_group_agree() {
        let name = |offset, scale| axis_name(&Axis::energy_loss(offset, scale, 2048));
        // Single precision.
        assert_eq!(name(450.0, 0.3), name(450.0, f64::from(0.3_f32)));
        // A third of a channel at the last energy.
        assert_ne!(name(450.0, 0.3), name(450.0, 0.30005));
        assert_ne!(name(450.0, 0.01), name(450.0004, 0.01));
        assert_eq!(axis_name(&Axis::energy_loss(420.0, 5.0, 80)), "80x5.0000eV_from_420.00eV");
    }
}
