//! Results of inputs as they were before: set apart in folders `earlier-N` of the output folder, each of which reads as a run
//! of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::folder::{EARLIER, run_files};
use super::stored::cube_path;

const CONFIG: &str = "config.yaml";

fn folders(directory: &Path) -> impl Iterator<Item = PathBuf> {
    (1..).map(move |number| directory.join(format!("{EARLIER}{number}")))
}

/// Moves all that the run of `directory` wrote into the next folder `earlier-N`, and gives that. Rank-local.
///
/// # Errors
/// A folder that cannot be written.
pub fn set_run_apart(directory: &Path) -> Result<PathBuf> {
    let folder = folders(directory).find(|folder| !folder.exists()).expect("numbers do not end");
    for path in run_files(directory)? {
        let below = path.strip_prefix(directory).expect("a file of the folder lies below it");
        rename(&path, &folder.join(below))?;
    }
    let checkpoints = directory.join("checkpoints");
    // It may hold files of others.
    let _ = fs::remove_dir(checkpoints);
    Ok(folder)
}

/// Moves the results of the cube `id` in `directory` into a folder `earlier-N`, and gives their new path. Rank-local.
///
/// # Errors
/// A folder that cannot be written.
pub fn set_cube_apart(directory: &Path, id: &str) -> Result<PathBuf> {
    // Not beside the results of a whole run, nor over others of this cube.
    let has_room = |folder: &PathBuf| !folder.join("checkpoints").exists() && !cube_path(folder, id).exists();
    let folder = folders(directory).find(has_room).expect("numbers do not end");
    let path = cube_path(&folder, id);
    rename(&cube_path(directory, id), &path)?;
    // With it the folder reads as a run of its own.
    if !folder.join(CONFIG).exists() {
        fs::copy(directory.join(CONFIG), folder.join(CONFIG)).with_context(|| folder.display().to_string())?;
    }
    Ok(path)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let moved = || {
        fs::create_dir_all(to.parent().expect("a file lies in a folder"))?;
        fs::rename(from, to)
    };
    moved().with_context(|| format!("cannot set {} apart as {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }

    #[test]
    fn runs_and_cubes_are_set_apart_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        let own = ["config.yaml", "summary.json", "checkpoints/step-00000001.safetensors", "deep/a.coreloss.hspy"];
        own.iter().for_each(|name| write(directory, name));
        write(directory, "notes.txt");
        let first = set_run_apart(directory).unwrap();
        assert!(own.iter().all(|name| first.join(name).exists() && !directory.join(name).exists()));
        assert!(directory.join("notes.txt").exists() && !directory.join("checkpoints").exists());

        // Not into the folder of the whole run; two of a kind into two folders.
        write(directory, "config.yaml");
        let mut apart = Vec::new();
        for name in ["deep/a", "b", "b"] {
            write(directory, &format!("{name}.coreloss.hspy"));
            apart.push(set_cube_apart(directory, name).unwrap().strip_prefix(directory).unwrap().to_path_buf());
        }
        let expected = ["earlier-2/deep/a.coreloss.hspy", "earlier-2/b.coreloss.hspy", "earlier-3/b.coreloss.hspy"];
        assert_eq!(apart, expected.map(PathBuf::from));
        // They are of other runs: nothing is left of this one.
        assert_eq!(run_files(directory).unwrap(), [directory.join("config.yaml")]);
    }
}
