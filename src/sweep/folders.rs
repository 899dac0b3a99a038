//! Where the points of a sweep lie.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Point, Sweep};

/// The folder of each point: the one with its hash, whose label may be older than the file. Rank-local.
pub fn folders(sweep: &Sweep) -> Vec<PathBuf> {
    let entries = fs::read_dir(&sweep.output).into_iter().flatten().flatten();
    let there: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let folder = |point: &Point| {
        let ending = format!("-{}", point.hash);
        let found = there.iter().find(|name| name.ends_with(&ending));
        let name = found.cloned().unwrap_or(format!("{}{ending}", point.label));
        sweep.output.join(name)
    };
    sweep.points.iter().map(folder).collect()
}

/// The folder of attempts at what lies in `folder`.
pub fn attempts(folder: &Path) -> PathBuf {
    folder.join("attempts")
}
