//! The output folder: what a run finds there and what it makes of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Stage;
use crate::comm::Comm;
use crate::config::{Config, Invalid, Work};

/// How a run treats what is in its output folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Goes on where an earlier run with the same configuration stopped.
    #[default]
    Continue,
    /// Removes the results of earlier runs first.
    Fresh,
    /// Goes on, and refuses where there is nothing to go on from.
    Resume,
}

/// What the folder holds for this configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum State {
    Open,
    Finished,
}

/// Makes or checks the output folder and writes the resolved configuration there.
///
/// # Collective
/// # Errors
/// A folder that cannot be written, or that holds a run with another configuration.
pub fn open(comm: &Comm, config: &Config, stage: Stage, start: Start) -> Result<State> {
    let opened = if comm.is_root() {
        open_on_root(config, stage, start)
    } else {
        Ok(State::Open)
    };
    Ok(comm.broadcast(Some(comm.agree(opened)?)))
}

fn open_on_root(config: &Config, stage: Stage, start: Start) -> Result<State> {
    let directory = &config.output.dir;
    fs::create_dir_all(directory).with_context(|| {
        format!(
            "cannot make the output folder {}: choose another `output`",
            directory.display()
        )
    })?;
    if start == Start::Fresh {
        remove_results(directory)?;
    }
    let path = directory.join("config.yaml");
    // A run that failed before its first result, by a mistyped name perhaps, left nothing that another could spoil.
    let found = results(directory)?;
    if path.exists() && found.iter().any(|result| *result != path) {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let before = Config::parse(&path.display().to_string(), &text, &[])?;
        let work = match stage {
            Stage::Survey => Work::Survey,
            // What is done with a model later may still be chosen.
            _ if found.iter().all(|result| is_of_training(result)) => Work::Training,
            _ => Work::Run,
        };
        let differences = before
            .with_neutral_keys_of(config, work)
            .differences(config);
        if !differences.is_empty() {
            return Err(Invalid(format!(
                "{} holds a run with another configuration ({}): choose another output, or --fresh to start anew",
                directory.display(),
                differences.join("; ")
            ))
            .into());
        }
        if stage == Stage::All && directory.join("summary.json").exists() {
            return Ok(State::Finished);
        }
    }
    let checkpoints = directory.join("checkpoints");
    if start == Start::Resume && !checkpoints.exists() {
        return Err(Invalid(format!(
            "--resume: {} holds no checkpoint to go on from",
            directory.display()
        ))
        .into());
    }
    let partial = directory.join("config.yaml.partial");
    fs::write(&partial, config.to_yaml())
        .and_then(|()| fs::rename(&partial, &path))
        .with_context(|| {
            format!(
                "cannot write in the output folder {}: mend its permissions or choose another `output`",
                directory.display()
            )
        })?;
    Ok(State::Open)
}

/// Whether this result of a run is there before anything is scored.
fn is_of_training(result: &Path) -> bool {
    let name = result.file_name().unwrap_or_default().to_string_lossy();
    name == "config.yaml" || name == "metrics.jsonl" || name.contains(".safetensors")
}

/// The files below `directory` that runs write.
pub fn results(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            let ours = name.ends_with(".coreloss.hspy")
                || name.ends_with(".coreloss.hspy.partial")
                || [
                    "config.yaml",
                    "metrics.jsonl",
                    "summary.json",
                    "report.html",
                ]
                .contains(&&name[..])
                || folder.ends_with("checkpoints") && name.contains(".safetensors");
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if ours {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Removes what runs write, and nothing else.
fn remove_results(directory: &Path) -> Result<()> {
    for path in results(directory)? {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let checkpoints = directory.join("checkpoints");
    if checkpoints.exists() {
        fs::remove_dir(&checkpoints)
            .with_context(|| format!("{} holds files of others", checkpoints.display()))?;
    }
    Ok(())
}
