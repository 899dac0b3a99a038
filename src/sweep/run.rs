//! Runs the points of a sweep.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use super::folders::folders;
use super::point::{Outcome, run_point};
use super::status::{State, state};
use crate::attempt;
use crate::comm::Comm;
use crate::config::Sweep;
use crate::ending::Ending;
use crate::invalid::Invalid;

/// Which points to run. By default those that are neither done, nor failed, nor being run by other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// This one only, whatever its state.
    pub index: Option<usize>,
    /// Only points that failed.
    pub only_failed: bool,
}

impl Selection {
    fn includes(self, index: usize, state: &State) -> bool {
        let failed = matches!(state, State::Failed(_) | State::Died(_));
        self.index.is_none_or(|one| one == index)
            && match (self.only_failed, self.index) {
                (true, _) => failed,
                (false, Some(_)) => true,
                (false, None) => matches!(state, State::Missing(_) | State::Died(_)),
            }
    }
}

/// Runs points one after the other; those that other processes are running are left to them.
///
/// # Collective
/// # Errors
/// An index beyond the points; points that failed, after all others were run.
pub fn run(comm: &Comm, sweep: &Sweep, selection: Selection, stop: &Arc<AtomicBool>) -> Result<Ending> {
    let count = sweep.points.len();
    if let Some(index) = selection.index.filter(|&index| index >= count) {
        return Err(
            Invalid(format!("there is no point {index}: the sweep has {count}, from 0 to {}", count - 1)).into()
        );
    }
    let began = attempt::unix_time(comm);
    let folders: Vec<PathBuf> = comm.broadcast(Some(folders(sweep)));
    let mut failed = Vec::new();
    let mut ending = Ending::Done;
    for (index, (point, folder)) in sweep.points.iter().zip(&folders).enumerate() {
        if !comm.from_root(|| Ok(selection.includes(index, &state(folder)?)))? {
            continue;
        }
        if comm.any(stop.load(Ordering::Relaxed)) {
            return Ok(Ending::Stopped);
        }
        let name = format!("point {index} of {count} ({})", folder.display());
        if comm.is_root() {
            log::info!("{name}");
        }
        match run_point(comm, sweep, point, folder, began, stop)? {
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
