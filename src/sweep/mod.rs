//! `coreloss sweep`: many configurations from one file, run one by one or as the tasks of an array.
//!
//! A folder holds all: `LABEL-HASH/` for each point, a run like any other; `archive/` the cubes that it makes and
//! `models/` the trainings, which points share. Processes that work on one sweep at once know of each other by
//! [`crate::attempt`].

mod collect;
mod point;
mod repeats;
mod status;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::attempt;
use crate::comm::Comm;
use crate::config::{Made, Point, Sweep, SweepFile};
use crate::ending::Ending;
use crate::invalid::Invalid;

pub use collect::collect;
pub use status::status;

use point::Outcome;
use status::State;

/// Which points to run: those that are neither done, nor failed, nor being run by others, or as follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// This one only, however it stands.
    pub index: Option<usize>,
    /// What failed, and nothing else.
    pub only_failed: bool,
}

impl Which {
    fn wants(self, index: usize, state: &State) -> bool {
        let failed = matches!(state, State::Failed(_) | State::Died(_));
        self.index.is_none_or(|one| one == index)
            && match (self.only_failed, self.index) {
                (true, _) => failed,
                (false, Some(_)) => true,
                (false, None) => matches!(state, State::Missing(_) | State::Died(_)),
            }
    }
}

/// Reads a sweep file and the base that it names; root reads, all ranks parse the same bytes.
///
/// # Collective
/// # Errors
/// [`Invalid`]: files that cannot be read, and what [`SweepFile::expand`] refuses.
pub fn open(comm: &Comm, path: &Path, overrides: &[String]) -> Result<Sweep> {
    let read = |path: &Path| {
        comm.from_root(|| {
            fs::read_to_string(path).map_err(|error| {
                let path = path.display();
                Invalid(format!("cannot read the sweep's {path}: {error}")).into()
            })
        })
    };
    let name = path.display().to_string();
    let file = comm.agree(SweepFile::parse(&name, &read(path)?))?;
    let base = file.base_path().map(read).transpose()?;
    comm.agree(file.expand(&name, base.as_deref(), overrides))
}

/// Prints the table of points.
///
/// # Collective
pub fn plan(comm: &Comm, sweep: &Sweep) -> Result<Ending> {
    if comm.is_root() {
        let mut table = vec![vec!["index".to_string()]];
        table[0].extend(sweep.columns.iter().cloned());
        table[0].push("folder".into());
        for (index, (point, folder)) in sweep.points.iter().zip(folders(sweep)).enumerate() {
            let mut row = vec![index.to_string()];
            row.extend(point.values.iter().cloned());
            row.push(folder.display().to_string());
            table.push(row);
        }
        print!("{}", status::aligned(&table));
        let count = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.dedup();
            names.len()
        };
        let points = &sweep.points;
        let cubes = points.iter().flat_map(|point| &point.made);
        println!(
            "{} points, {} trainings, {} cubes to make; sbatch --array=0-{} jobs/sweep.sbatch runs them",
            points.len(),
            if sweep.train { count(points.iter().map(|point| &point.training[..]).collect()) } else { 0 },
            count(cubes.map(Made::name).collect()),
            points.len() - 1
        );
    }
    Ok(Ending::Done)
}

/// Runs points, one after the other; those that other processes are at are left to them.
///
/// # Collective
/// # Errors
/// An index beyond the points; after all others were run, those that failed.
pub fn run(comm: &Comm, sweep: &Sweep, which: Which, stop: &Arc<AtomicBool>) -> Result<Ending> {
    let count = sweep.points.len();
    if let Some(index) = which.index.filter(|&index| index >= count) {
        return Err(
            Invalid(format!("there is no point {index}: the sweep has {count}, from 0 to {}", count - 1)).into()
        );
    }
    let began = attempt::now(comm);
    let folders: Vec<PathBuf> = comm.broadcast(Some(folders(sweep)));
    let mut failed = Vec::new();
    let mut ending = Ending::Done;
    for (index, (point, folder)) in sweep.points.iter().zip(&folders).enumerate() {
        let wants = || status::state(folder).map(|state| which.wants(index, &state));
        if !comm.from_root(wants)? {
            continue;
        }
        if comm.any(stop.load(Ordering::Relaxed)) {
            return Ok(Ending::Stopped);
        }
        let name = format!("point {index} of {count} ({})", folder.display());
        if comm.is_root() {
            log::info!("{name}");
        }
        match point::run(comm, sweep, point, folder, began, stop)? {
            Outcome::Ended(Ending::Stopped) => return Ok(Ending::Stopped),
            Outcome::Ended(Ending::Done) => (),
            Outcome::Ended(Ending::SomeSetAside) => ending = Ending::SomeSetAside,
            Outcome::Busy(who) => {
                if comm.is_root() {
                    println!("{name} is being run by {who}");
                }
            }
            Outcome::Failed(reason) => {
                if comm.is_root() {
                    log::error!("{name} failed: {reason}");
                }
                failed.push(format!("{name}: {reason}"));
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    Ok(ending)
}

/// The folder of each point: the one that has its hash, whatever it was labelled then. Rank-local.
fn folders(sweep: &Sweep) -> Vec<PathBuf> {
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
