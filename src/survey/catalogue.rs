//! The cubes of a survey, grouped by which can share a model; each rank opens its share of them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};
use glob::Pattern;
use serde::{Deserialize, Serialize};

use super::distribute::map_over_ranks;
use crate::archive::Source;
use crate::attempt::{End, LastAttempt, last_attempt};
use crate::comm::Comm;
use crate::config::Config;
use crate::cube::Axis;
use crate::durable;
use crate::pipeline::list_inputs;
use crate::results::{self, SetAside};
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
    /// Whether it was scored before and has not changed since.
    pub done: bool,
    /// Seconds that its scoring took then, on one rank.
    pub took_s: Option<f64>,
}

impl Entry {
    /// The folder of the attempts to score it.
    pub fn attempts(&self, config: &Config) -> PathBuf {
        attempts(config, &self.source)
    }

    /// Keeps how long its scoring took, for later surveys. Rank-local.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn keep_time(&self, config: &Config, took_s: f64) -> Result<()> {
        durable::write(&self.attempts(config).join(TOOK), took_s.to_string())
    }
}

/// The cubes of a survey, and the inputs that are no cube or could not be scored.
pub struct Catalogue {
    /// In the order of their paths.
    pub entries: Vec<Entry>,
    pub set_aside: SetAside,
}

impl Catalogue {
    /// Lists `archive.inputs` and opens each; every rank opens its share.
    ///
    /// # Collective
    /// # Errors
    /// An empty list, a named input that does not open.
    pub fn open(comm: &Comm, config: &Config) -> Result<Catalogue> {
        let sources = list_inputs(comm, config.archive.inputs.as_slice())?;
        let opened =
            map_over_ranks(comm, &sources, |source| entry(source, config).map_err(|error| format!("{error:#}")));
        let mut found = Catalogue { entries: Vec::new(), set_aside: SetAside::default() };
        for (source, opened) in sources.iter().zip(opened) {
            match opened {
                Ok(entry) => found.entries.push(entry),
                Err(reason) if source.named => bail!(reason),
                Err(reason) => found.set_aside.record(comm, source.path.display().to_string(), reason),
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

    /// Sets aside the cubes whose last attempt was no success, with the reason that it left.
    ///
    /// # Collective
    pub fn set_failed_aside(&mut self, comm: &Comm, config: &Config) {
        let results = map_over_ranks(comm, &self.entries, |entry| match last_attempt(&entry.attempts(config)) {
            _ if entry.done => Ok(()),
            Ok(LastAttempt::Ended(_, End::Done)) => Ok(()),
            Ok(LastAttempt::Ended(_, End::Failed(reason))) => Err(reason),
            Ok(LastAttempt::Running(who)) => Err(format!("{who} is scoring it")),
            Ok(_) => Err("its scoring ended without a word".into()),
            Err(error) => Err(format!("{error:#}")),
        });
        self.keep(results);
    }

    /// Sets aside the entries whose result is an error, with that as the reason; gives the results of the others.
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
                    self.set_aside.add(entry.source.path.display().to_string(), &reason);
                }
            }
        }
        kept
    }
}

/// Axes of one group differ by less than this share of a channel: a fifth of what a run takes for rounding.
const APART: f64 = 0.002;

/// The file of the seconds that scoring took, beside the attempts at a cube.
const TOOK: &str = "took_s";

fn attempts(config: &Config, source: &Source) -> PathBuf {
    config.output.dir.join("attempts").join(&source.id)
}

/// Opens a cube and keeps what the survey needs to know of it. Rank-local.
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

/// The name of a cube's group, of its tag and energy axis; fit for a folder's name.
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

/// A name that two axes share only if they agree to [`APART`] of a channel everywhere: one model can serve both.
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
