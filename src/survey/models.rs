//! The models of a survey: one for each group of cubes, one for each cube, or models that earlier runs trained.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::catalogue::{Catalogue, Entry};
use crate::archive::Source;
use crate::attempt::{self, End, LastAttempt};
use crate::comm::Comm;
use crate::config::{Config, OneOrMany};
use crate::durable;
use crate::ending::Ending;
use crate::pipeline;
use crate::train::{Checkpoint, Model};

/// Where the model of a cube comes from, equal on every rank.
pub enum ModelSource {
    /// Trained on its group; by group, why a training failed.
    PerGroup(BTreeMap<String, String>),
    /// Trained on the cube when it is scored.
    PerCube,
    Pretrained(Vec<Model>),
}

/// Trains the model of `group` on its cubes, unless it is trained already.
///
/// # Collective
/// # Errors
/// Those of the training; a list of cubes that cannot be written or read.
pub fn train_group(
    comm: &Comm,
    config: &Config,
    catalogue: &Catalogue,
    group: &str,
    began: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Ending> {
    let folder = folder(config, group);
    attempt::train_once(comm, &folder, began, stop, || {
        let chosen: Vec<Source> = comm.from_root(|| chosen(config, catalogue, group, &folder))?;
        train(comm, config, &folder, &chosen, stop)
    })
}

/// The cubes that the model of `group` learns from. The choice is kept, whatever is added to the catalogue later: a training
/// that was stopped goes on with the same cubes. Rank-local.
fn chosen(config: &Config, catalogue: &Catalogue, group: &str, folder: &Path) -> Result<Vec<Source>> {
    let path = folder.join("cubes.json");
    let place = || {
        let (path, folder) = (path.display(), folder.display());
        format!("{path}: mend it, or remove {folder} to train this model anew")
    };
    match fs::read(&path) {
        Ok(text) => return serde_json::from_slice(&text).with_context(place),
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(error).with_context(place),
    }
    let chosen: Vec<Source> = learned_from(config, catalogue, group).map(|entry| unnamed(&entry.source)).collect();
    durable::write(&path, serde_json::to_vec(&chosen)?)?;
    Ok(chosen)
}

/// The cubes that a new model of `group` learns from: at most `survey.train_cubes`, spread over the group.
pub fn learned_from<'a>(config: &Config, catalogue: &'a Catalogue, group: &str) -> impl Iterator<Item = &'a Entry> {
    let members: Vec<&Entry> = catalogue.entries.iter().filter(|entry| entry.group == group).collect();
    let stride = members.len().div_ceil(config.survey.train_cubes).max(1);
    members.into_iter().step_by(stride)
}

/// The model of `group`.
///
/// # Collective
/// # Errors
/// No model, with the reason.
pub fn of_group(comm: &Comm, config: &Config, group: &str, failed: &BTreeMap<String, String>) -> Result<Model> {
    let folder = folder(config, group);
    comm.on_root(|| {
        if folder.join("trained").exists() {
            return Ok(());
        }
        let why = match (failed.get(group), attempt::last_attempt(&folder.join("attempts"))) {
            (Some(reason), _) => reason.clone(),
            (None, Ok(LastAttempt::Ended(_, End::Failed(reason)))) => reason,
            _ => "its training was interrupted; start the survey again".into(),
        };
        bail!("no model of {group}: {why}")
    })?;
    newest(comm, &folder)
}

/// The model of one cube, trained on it now, and its folder; none after a signal.
///
/// # Collective
/// # Errors
/// Those of the training.
pub fn of_cube(
    comm: &Comm,
    config: &Config,
    source: &Source,
    stop: &Arc<AtomicBool>,
) -> Result<Option<(Model, PathBuf)>> {
    let folder = folder(config, &flat(&source.id));
    let ending = train(comm, config, &folder, &[unnamed(source)], stop)?;
    if ending == Ending::Stopped {
        return Ok(None);
    }
    Ok(Some((newest(comm, &folder)?, folder)))
}

/// The models in the folders of `survey.pretrained`.
///
/// # Collective
/// # Errors
/// A folder without one.
pub fn pretrained(comm: &Comm, config: &Config) -> Result<Vec<Model>> {
    let folders = config.survey.pretrained.as_ref();
    let folders = folders.iter().flat_map(|folders| folders.as_slice());
    folders.map(|folder| newest(comm, Path::new(folder)).context("survey.pretrained")).collect()
}

/// Trains on `cubes` in `folder`.
///
/// # Collective
fn train(comm: &Comm, config: &Config, folder: &Path, cubes: &[Source], stop: &Arc<AtomicBool>) -> Result<Ending> {
    let mut config = config.clone();
    config.output.dir = folder.to_path_buf();
    let inputs = cubes.iter().map(|cube| cube.path.display().to_string());
    config.archive.inputs = OneOrMany::Many(inputs.collect());
    pipeline::train_on(comm, &config, cubes, stop)
}

/// The model that was trained in `folder`.
///
/// # Collective
fn newest(comm: &Comm, folder: &Path) -> Result<Model> {
    match Checkpoint::newest(comm, folder)? {
        Some(checkpoint) => Ok(checkpoint.model),
        None => bail!("{} holds no trained model", folder.display()),
    }
}

/// The folder in which the model `name` is trained.
fn folder(config: &Config, name: &str) -> PathBuf {
    config.output.dir.join("models").join(name)
}

/// The source as if a glob had found it: if it fails it is set aside, and the training goes on with the others.
fn unnamed(source: &Source) -> Source {
    Source { named: false, ..source.clone() }
}

/// A name without a slash for each `id`. The id of one cube may be the folder of others, and a model is removed by removing
/// its folder.
fn flat(id: &str) -> String {
    const LONGEST: usize = 60;
    let last = id.rsplit('/').next().unwrap_or(id);
    let hash = format!("{:.12x}", Sha256::digest(id));
    let start: String = last.chars().take(LONGEST).collect();
    format!("{start}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            source: Source { path: format!("archive/{id}.dm4").into(), id: id.into(), named: true },
            shape: [4, 4, 8],
            energy: crate::cube::Axis::energy_loss(400.0, 1.0, 8),
            group: "one".into(),
            done: false,
            took_s: None,
        }
    }

    #[test]
    fn a_group_learns_from_the_cubes_that_were_chosen_first() {
        let folder = tempfile::tempdir().unwrap();
        let choose = |ids: &[&str]| {
            let catalogue =
                Catalogue { entries: ids.iter().map(|id| entry(id)).collect(), set_aside: Default::default() };
            let mut config = Config::default();
            config.survey.train_cubes = 2;
            chosen(&config, &catalogue, "one", folder.path())
        };
        let first = choose(&["a/x", "b/x", "c/x"]).unwrap();
        let ids: Vec<&str> = first.iter().map(|source| &source.id[..]).collect();
        assert_eq!(ids, ["a/x", "c/x"]);
        assert!(first.iter().all(|source| !source.named));
        assert_eq!(choose(&["0/x", "a/x", "b/x", "c/x"]).unwrap(), first);
        fs::write(folder.path().join("cubes.json"), "[{").unwrap();
        let message = format!("{:#}", choose(&["a/x"]).unwrap_err());
        assert!(message.contains("to train this model anew"), "{message}");
    }

    #[test]
    fn no_model_lies_in_the_folder_of_another() {
        let names = ["SI", "SI/b", "b", "SI_b"].map(flat);
        assert!(names.iter().all(|name| !name.contains('/')));
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), 4);
        assert!(flat(&"long".repeat(100)).len() < 100);
    }
}
