//! Whether a path leads to the same place on all nodes. Where it does not, ranks would wait for files that never come, or read
//! others than they should.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::comm::{Comm, node_name};
use crate::invalid::Invalid;

/// Time that a network file system may take to show a file of another node.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most inputs that are compared: those of a folder lie on one file system.
const INPUTS: usize = 16;

/// A text that is in no other file: where it is found, it was written just now by this process.
pub fn mark() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("coreloss {} {} {}", node_name(), std::process::id(), now.as_nanos())
}

/// Refuses a folder that ranks do not share: root writes a file there for a moment, and all read it.
///
/// # Collective
/// # Errors
/// The rank and the node that do not see the file; a folder that cannot be written.
pub fn check_folder(comm: &Comm, folder: &Path) -> Result<()> {
    if comm.size() == 1 {
        return Ok(());
    }
    let mark = comm.broadcast(Some(mark()));
    let path = folder.join(format!(".{}.partial", mark.replace(' ', "-")));
    let shown = || format!("cannot write in {}", folder.display());
    comm.on_root(|| fs::write(&path, &mark).with_context(shown))?;
    let seen = check_file(comm, &path, &mark);
    comm.on_root(|| fs::remove_file(&path).with_context(shown))?;
    seen
}

/// Refuses a file, which root has just written with this `mark`, that other ranks do not see.
///
/// # Collective
/// # Errors
/// The rank and the node that do not see it.
pub fn check_file(comm: &Comm, path: &Path, mark: &str) -> Result<()> {
    let since = Instant::now();
    let is_seen = || fs::read_to_string(path).is_ok_and(|text| text == mark);
    while !is_seen() && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
    }
    let seen = is_seen().then_some(()).ok_or_else(|| {
        let folder = path.parent().unwrap_or(path).display();
        Invalid(format!(
            "{folder} is not the same folder on all nodes: rank {} on {} does not see what rank 0 wrote there; choose an \
             `output` on a file system that all nodes share",
            comm.rank(),
            node_name()
        ))
        .into()
    });
    comm.agree(seen)
}

/// Refuses files that are not the same on all nodes: a few of them are compared by size and time.
///
/// # Collective
/// # Errors
/// The file, and the rank and the node that do not have it as root does.
pub fn check_inputs(comm: &Comm, paths: &[PathBuf]) -> Result<()> {
    let step = paths.len().div_ceil(INPUTS).max(1);
    let chosen: Vec<&PathBuf> = paths.iter().step_by(step).collect();
    let mine: Vec<_> = chosen.iter().map(|path| size_and_time(path)).collect();
    let roots = comm.broadcast(Some(mine.clone()));
    let differs = chosen.iter().zip(mine.iter().zip(&roots)).find(|(_, (mine, roots))| mine != roots);
    comm.agree(match differs {
        None => Ok(()),
        Some((path, (mine, _))) => {
            let what = if mine.is_some() { "another file there than rank 0" } else { "no such file" };
            Err(Invalid(format!(
                "{} is not the same on all nodes: rank {} on {} has {what}; put the inputs on a file system that all nodes \
                 share",
                path.display(),
                comm.rank(),
                node_name()
            ))
            .into())
        }
    })
}

fn size_and_time(path: &Path) -> Option<(u64, u64)> {
    let about = fs::metadata(path).ok()?;
    let time = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((about.len(), time.as_secs()))
}
