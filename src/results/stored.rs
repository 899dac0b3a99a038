//! The files of cubes that earlier runs wrote: where they are, and what they tell.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, Ix2};
use serde::de::DeserializeOwned;

use super::summary::{CubeSummary, SCORING};
use crate::comm::Comm;
use crate::config::Config;
use crate::output::{read_signal_f32, read_text};
use crate::stream::{Cube, Identity, Use};

/// The name of the [`Identity`] among the texts of a cube's results.
pub(super) const IDENTITY: &str = "identity";

/// Bytes of the longest name of a file.
pub(super) const LONGEST_NAME: usize = 255;

/// The file with the results of the cube `id`, in the run of `directory`.
pub fn cube_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.coreloss.hspy"))
}

/// Refuses a cube whose results could not be written, before anything is learned. Rank-local.
///
/// # Errors
/// A name that no file system takes.
pub fn check_name(id: &str) -> Result<()> {
    let name = Path::new(id).file_name().unwrap_or_default().len() + ".coreloss.hspy.partial".len();
    ensure!(
        name <= LONGEST_NAME,
        "{id}: the name of its results would have {name} bytes, and file systems take {LONGEST_NAME}: rename it or link to it"
    );
    Ok(())
}

/// What an earlier run found in this very file, if it was finished and the CVAE scored it too; root looks.
///
/// # Collective
pub fn finished(comm: &Comm, config: &Config, cube: &Cube) -> Result<Option<CubeSummary>> {
    // As text: the summary's maps have no fixed layout.
    let text: Option<String> = comm.from_root(|| Ok(stored_summary(config, cube)))?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// As [`finished`], by one rank on its own. Rank-local.
pub fn scored_before(config: &Config, cube: &Cube) -> Option<CubeSummary> {
    serde_json::from_str(&stored_summary(config, cube)?).ok()
}

/// Whether the results at `path` are of `cube` as it is now. Rank-local.
///
/// # Errors
/// A cube that cannot be read any more.
pub fn is_of(path: &Path, cube: &Cube, config: &Config) -> Result<bool> {
    let identity = read_text(path, IDENTITY).ok().and_then(|text| serde_json::from_str::<Identity>(&text).ok());
    match identity {
        Some(identity) => identity.is_of(cube, config, Use::Scoring),
        // Of an older version.
        None => Ok(read_text(path, "fingerprint").ok() == Some(cube.fingerprint(config)?)),
    }
}

/// The summary as text, if it is of this very input, scored as this version scores, and has the CVAE's scores.
fn stored_summary(config: &Config, cube: &Cube) -> Option<String> {
    let path = cube_path(&config.output.dir, &cube.info().id);
    if !path.exists() || !is_of(&path, cube, config).ok()? {
        return None;
    }
    if read_text(&path, "scoring").ok().as_deref() != Some(SCORING) {
        log::warn!(
            "{}: scored by an older version, whose scores are not comparable: it is scored anew",
            path.display()
        );
        return None;
    }
    let text = read_text(&path, "summary").ok()?;
    let summary: CubeSummary = serde_json::from_str(&text).ok()?;
    summary.has_cvae().then_some(text)
}

/// The map `title` of a result file, `[y, x]`. Rank-local.
///
/// # Errors
/// No such map; a file that is gone or damaged.
pub fn read_map(path: &Path, title: &str) -> Result<Array2<f32>> {
    let (_, values) = read_signal_f32(path, title)?;
    Ok(values.into_dimensionality::<Ix2>()?)
}

/// The text `name` of a result file, parsed from JSON. Rank-local.
///
/// # Errors
/// A file that is gone or damaged; a text that another version wrote.
pub fn read_json<T: DeserializeOwned>(path: &Path, name: &str) -> Result<T> {
    serde_json::from_str(&read_text(path, name)?).with_context(|| {
        format!(
            "{}: what it says of the {name} is not understood: another version wrote it; score the cube again",
            path.display()
        )
    })
}
