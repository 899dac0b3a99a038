//! Maps and a report of the methods that need no network, before it is trained.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use super::prepare::Prepared;
use super::run::Run;
use super::score_cube::score_cube;
use crate::config::{Config, PcaFit, Reconstruction, Stage};
use crate::preprocess::noise::NoiseModel;
use crate::report;
use crate::results::{Failure, SetAside, Summary, WithoutNetwork, finished, folder, write_cube};
use crate::stream::{Cube, CubeStatistics, electron_bound};

/// Pixels of all cubes together: what is found in them is kept until the network is trained.
const MOST_PIXELS: usize = 256 * 256 * 4;

/// What was found before the network was trained.
pub struct FirstLook {
    noise: NoiseModel,
    /// By cube id.
    found: BTreeMap<String, WithoutNetwork>,
}

impl FirstLook {
    /// Scores the first cubes without the network, and writes a run of its own into a folder inside the output folder.
    ///
    /// # Collective
    /// # Errors
    /// An output folder that cannot be written.
    pub fn new(run: &mut Run, prepared: &Prepared) -> Result<FirstLook> {
        let (comm, noise) = (run.comm, prepared.statistics.noise);
        let mut first = FirstLook { noise, found: BTreeMap::new() };
        if run.stage != Stage::All || run.config.pca.fit != PcaFit::Cube {
            return Ok(first);
        }
        let config = config_of(run.config);
        // A training that goes on has shown it; and a run of the user's may have that folder.
        let is_shown = || is_there(&config) && has_checkpoints(run.config);
        if comm.from_root(|| Ok(is_shown() || !is_free(&config.output.dir)))? {
            return Ok(first);
        }
        let statistics = CubeStatistics { noise, bound: electron_bound(&prepared.cubes, &noise) };
        let mut summaries = Vec::new();
        let mut pixels = 0;
        for cube in &prepared.cubes {
            let [y, x] = cube.size();
            pixels += y * x;
            if pixels > MOST_PIXELS || comm.any(run.stop.load(Ordering::Relaxed)) {
                break;
            }
            if finished(comm, run.config, cube)?.is_some() {
                continue;
            }
            // What is wrong with a cube is told when it is scored.
            let Ok(scored) = score_cube(comm, &config, cube, &statistics, (None, None), None, &mut run.clock) else {
                continue;
            };
            if summaries.is_empty() {
                comm.on_root(|| {
                    let directory = &config.output.dir;
                    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
                })?;
                folder::clear(comm, &config)?;
            }
            match write_cube(comm, &config, &scored) {
                Ok(summary) => summaries.push(summary),
                Err(Failure::Source(_)) => continue,
                Err(Failure::Fatal(error)) => return Err(error),
            }
            first.found.insert(cube.info().id.clone(), scored.without_network());
        }
        if !summaries.is_empty() {
            let summary = Summary::new(comm, summaries, &SetAside::default(), run.clock.laps());
            comm.on_root(|| report::write_first_look(&config, &summary))?;
            if comm.is_root() {
                log::info!("first maps, without the network: {}", config.output.dir.join("report.html").display());
            }
        }
        run.clock.lap("first look");
        Ok(first)
    }

    /// What was found in `cube` with the same `noise`, once.
    pub fn take(&mut self, cube: &Cube, noise: &NoiseModel) -> Option<WithoutNetwork> {
        self.found.remove(&cube.info().id).filter(|_| *noise == self.noise)
    }
}

/// The configuration of the first look of a run with `config`.
fn config_of(config: &Config) -> Config {
    let mut own = config.clone();
    own.output.dir = folder_of(config);
    own.output.reconstruction = Reconstruction::None;
    own
}

/// Whether an earlier run with the same `config` has had its first look. Rank-local.
fn is_there(config: &Config) -> bool {
    let directory = &config.output.dir;
    let before = fs::read_to_string(directory.join("config.yaml"));
    directory.join("report.html").exists() && before.is_ok_and(|before| before == config.to_yaml())
}

/// Whether a first look may write into `directory`, and remove it: a run of its own would have trained or finished there.
/// Rank-local.
fn is_free(directory: &Path) -> bool {
    let is_run = directory.join("summary.json").exists() || directory.join("checkpoints").exists();
    !directory.exists() || directory.join("config.yaml").exists() && !is_run
}

fn has_checkpoints(config: &Config) -> bool {
    fs::read_dir(config.output.dir.join("checkpoints")).is_ok_and(|mut found| found.next().is_some())
}

fn folder_of(config: &Config) -> PathBuf {
    config.output.dir.join(folder::FIRST_LOOK)
}

/// Removes the first look of a run that is finished: its own report has all of it.
///
/// # Collective
/// # Errors
/// An output folder that cannot be written.
pub fn remove(run: &Run) -> Result<()> {
    run.comm.on_root(|| {
        let directory = folder_of(run.config);
        if directory.exists() && is_free(&directory) {
            fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_keep_in_the_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let look = folder.path().join(folder::FIRST_LOOK);
        assert!(is_free(&look));
        fs::create_dir(&look).unwrap();
        assert!(!is_free(&look), "a folder of the user's");
        fs::write(look.join("config.yaml"), "").unwrap();
        assert!(is_free(&look));
        fs::write(look.join("summary.json"), "").unwrap();
        assert!(!is_free(&look), "a run of the user's");
    }
}
