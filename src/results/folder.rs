//! The output folder: what a run finds there, and whether it may go on with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::Access;

use super::stored::LONGEST_NAME;
use super::summary::{CubeSummary, SCORING, Summary};
use crate::comm::Comm;
use crate::config::{Config, Stage, Work};
use crate::durable;
use crate::invalid::Invalid;
use crate::output::read_text;
use crate::shared;

/// The files of a run with a fixed name.
const FIXED: [&str; 4] = ["config.yaml", "metrics.jsonl", "summary.json", "report.html"];
/// The end of the file name of a cube's results.
const RESULT: &str = ".coreloss.hspy";

/// The folder, inside that of a run, of what is seen before its network is trained.
pub const FIRST_LOOK: &str = "first_look";
/// The beginning of the names of the folders that hold what was set apart; a number follows.
pub const EARLIER: &str = "earlier-";

/// How a run treats what is in its output folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Resumes an earlier run with the same configuration, or starts.
    #[default]
    Continue,
    /// Removes the results of earlier runs, once the inputs are open.
    Fresh,
    /// Resumes, and refuses where there is no checkpoint.
    Resume,
}

/// Whether the folder holds a finished run with this configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum State {
    Open,
    Finished,
}

/// Makes or checks the output folder and writes the resolved configuration there. For [`Start::Fresh`] it only makes the
/// folder: earlier results stay until the inputs are open, when [`clear`] removes them.
///
/// # Collective
/// # Errors
/// A folder that cannot be written or that nodes do not share, or that holds a run with another configuration, or scores that `stage` would lose.
pub fn open(comm: &Comm, config: &Config, stage: Stage, start: Start) -> Result<State> {
    let state = comm.from_root(|| open_on_root(config, stage, start))?;
    shared::check_folder(comm, &config.output.dir)?;
    Ok(state)
}

/// Refuses an output folder that a run could not make or write in; makes none. Rank-local.
///
/// # Errors
/// A name that no file system takes; a file in the way; a folder without permission to write.
pub fn check(directory: &Path) -> Result<()> {
    let shown = directory.display();
    for name in directory.components().map(|part| part.as_os_str().len()) {
        ensure!(
            name <= LONGEST_NAME,
            "{shown}: a name in it has {name} bytes, and file systems take {LONGEST_NAME}: choose another `output`"
        );
    }
    let made = directory.ancestors().find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
    let made = made.unwrap_or(Path::new("."));
    ensure!(made.is_dir(), "{shown}: {} is no folder: choose another `output`", made.display());
    rustix::fs::access(made, Access::WRITE_OK | Access::EXEC_OK)
        .with_context(|| format!("cannot write in {}: mend its permissions or choose another `output`", made.display()))
}

/// Removes what earlier runs wrote into the output folder, and nothing else, and writes the resolved configuration there.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn clear(comm: &Comm, config: &Config) -> Result<()> {
    comm.on_root(|| remove_run_files(&config.output.dir).and_then(|()| write_config(config)))
}

fn open_on_root(config: &Config, stage: Stage, start: Start) -> Result<State> {
    let directory = &config.output.dir;
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the output folder {}: choose another `output`", directory.display()))?;
    if start == Start::Fresh {
        if stage == Stage::Score {
            return Err(Invalid(format!(
                "`coreloss score --fresh` would remove the model in {} that it scores with: leave --fresh out",
                directory.display()
            ))
            .into());
        }
        return Ok(State::Open);
    }
    let path = directory.join("config.yaml");
    let found = run_files(directory)?;
    // A run that failed before its first result, say by a mistyped name, left nothing that could be lost.
    let begun =
        found.iter().any(|result| *result != path) || stage == Stage::Survey && directory.join("models").exists();
    if path.exists() && begun {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let before = Config::parse(&path.display().to_string(), &text, &[])?;
        let work = match stage {
            Stage::Survey => Work::Survey,
            // Before anything is scored, the keys for scoring may still change.
            _ if found.iter().all(|result| is_of_training(result)) => Work::Training,
            _ => Work::Run,
        };
        let differences = before.with_neutral_keys_of(config, work).differences(config);
        if !differences.is_empty() {
            let anew = match stage {
                Stage::Survey => "remove it",
                _ => "--fresh",
            };
            return Err(Invalid(format!(
                "{} holds a run with another configuration ({}): choose another output, or {anew} to start anew",
                directory.display(),
                differences.join("; ")
            ))
            .into());
        }
        if stage == Stage::All && is_finished(directory) {
            return Ok(State::Finished);
        }
    }
    if stage == Stage::Pca {
        refuse_to_lose_cvae(directory, &found)?;
    }
    let checkpoints = directory.join("checkpoints");
    if start == Start::Resume && !checkpoints.exists() {
        return Err(Invalid(format!("--resume: {} holds no checkpoint to go on from", directory.display())).into());
    }
    write_config(config)?;
    Ok(State::Open)
}

/// Writes the resolved configuration. Rank-local.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_config(config: &Config) -> Result<()> {
    let directory = &config.output.dir;
    durable::write(&directory.join("config.yaml"), config.to_yaml()).with_context(|| {
        format!(
            "cannot write in the output folder {}: mend its permissions or choose another `output`",
            directory.display()
        )
    })
}

/// Whether a whole run is finished, scored as this version scores. `coreloss pca` leaves a summary too, without the CVAE.
fn is_finished(directory: &Path) -> bool {
    let is_whole = |summary: Summary| summary.scoring == SCORING && summary.cubes.iter().all(CubeSummary::has_cvae);
    Summary::read(directory).is_ok_and(is_whole)
}

/// Refuses `coreloss pca` where it would replace scores of the CVAE: it writes the files of the cubes anew.
fn refuse_to_lose_cvae(directory: &Path, found: &[PathBuf]) -> Result<()> {
    let has_cvae = |path: &&PathBuf| {
        let text = is_result(path).then(|| read_text(path, "summary").ok());
        let summary = text.flatten().and_then(|text| serde_json::from_str(&text).ok());
        summary.is_some_and(|summary: CubeSummary| summary.has_cvae())
    };
    match found.iter().find(has_cvae) {
        Some(path) => Err(Invalid(format!(
            "{} holds scores of the CVAE, which `coreloss pca` would lose: `coreloss score` does the linear methods anew \
             beside it; or choose another output than {}",
            path.display(),
            directory.display()
        ))
        .into()),
        None => Ok(()),
    }
}

/// Whether a run has this file before it has scored anything.
fn is_of_training(result: &Path) -> bool {
    let name = result.file_name().unwrap_or_default().to_string_lossy();
    let whole = name.strip_suffix(".partial").unwrap_or(&name);
    ["config.yaml", "metrics.jsonl"].contains(&whole) || whole.ends_with(".safetensors")
}

/// The files that the run of `directory` wrote there; not those of other runs in folders below. Rank-local.
///
/// # Errors
/// A folder that cannot be read.
pub fn run_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files(directory, |folder| !folder.join("config.yaml").exists())?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let whole = name.strip_suffix(".partial").unwrap_or(&name);
        let folder = path.parent();
        whole.ends_with(RESULT)
            || folder == Some(directory) && FIXED.contains(&whole)
            || folder == Some(&directory.join("checkpoints")) && whole.ends_with(".safetensors")
    });
    Ok(found)
}

/// The results of cubes in `directory` and all folders below, of any run; not first looks and those set apart. Rank-local.
///
/// # Errors
/// A folder that cannot be read.
pub fn result_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files(directory, |folder| !folder.ends_with(FIRST_LOOK) && !is_earlier(folder))?;
    found.retain(|path| is_result(path));
    Ok(found)
}

fn is_earlier(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(EARLIER).is_some_and(|number| number.parse::<usize>().is_ok())
}

fn is_result(path: &Path) -> bool {
    path.to_string_lossy().ends_with(RESULT)
}

/// The files in `directory` and, recursively, in the folders for which `is_entered`.
fn files(directory: &Path, is_entered: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if !path.is_dir() {
                found.push(path);
            } else if !path.is_symlink() && is_entered(&path) {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

/// Removes what the run of `directory` wrote, and nothing else.
fn remove_run_files(directory: &Path) -> Result<()> {
    let own = run_files(directory)?;
    let checkpoints = directory.join("checkpoints");
    if checkpoints.exists() {
        // Folders too, which may be empty.
        for entry in fs::read_dir(&checkpoints).with_context(|| checkpoints.display().to_string())? {
            let other = entry?.path();
            ensure!(
                own.contains(&other),
                "{} is of no run, and --fresh removes the folder: move it away or choose another `output`. Nothing was removed",
                other.display()
            );
        }
    }
    for path in own {
        fs::remove_file(&path).with_context(|| {
            format!("cannot remove {}: mend the permissions of its folder, or choose another `output`", path.display())
        })?;
    }
    if checkpoints.exists() {
        fs::remove_dir(&checkpoints).with_context(|| format!("{} holds files of others", checkpoints.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_this_run_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let own = [
            "config.yaml",
            "metrics.jsonl",
            "summary.json.partial",
            "checkpoints/step-00000001.safetensors",
            "checkpoints/step-00000002.safetensors.partial",
            "cube.coreloss.hspy",
            "monday/cube.coreloss.hspy",
            "monday/late/cube.coreloss.hspy.partial",
        ];
        let others = [
            "notes.txt",
            "cube.hspy",
            "monday/metrics.jsonl",
            "monday/checkpoints/step-00000001.safetensors",
            "first/config.yaml",
            "first/summary.json",
            "first/cube.coreloss.hspy",
            "first/deep/cube.coreloss.hspy",
            "foreign/deeper/config.yaml",
        ];
        for name in own.iter().chain(&others) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut found = run_files(folder.path()).unwrap();
        found.sort();
        let mut expected = own.map(|name| folder.path().join(name));
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(result_files(folder.path()).unwrap().len(), 4);
        remove_run_files(folder.path()).unwrap();
        assert!(own.iter().all(|name| !folder.path().join(name).exists()));
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
    }

    #[test]
    fn an_output_that_cannot_be_made_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("new/deep")).unwrap();
        check(Path::new("new")).unwrap();
        let refusal = |path: PathBuf| format!("{:#}", check(&path).unwrap_err());
        assert!(refusal(folder.path().join("o".repeat(256))).contains("a name in it has 256 bytes"));
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(refusal(folder.path().join("file/out")).contains("is no folder"));
    }
}
