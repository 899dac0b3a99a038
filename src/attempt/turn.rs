//! Attempts by a group of ranks: root holds the file, all ranks know whose turn it is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::{Attempt, Claim, End, Record};
use crate::comm::Comm;
use crate::run::Ending;

/// Whose turn it is, on every rank alike.
pub enum Turn {
    Mine(Box<Mine>),
    Theirs(String),
}

/// This group's turn.
pub struct Mine {
    /// Root's.
    attempt: Option<Attempt>,
    /// The attempt before, where that has ended.
    pub before: Option<Record>,
}

/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn claim(comm: &Comm, folder: &Path, stop: &Arc<AtomicBool>) -> Result<Turn> {
    let claimed = comm.agree(if comm.is_root() {
        Attempt::claim(folder, stop).map(Some)
    } else {
        Ok(None)
    })?;
    let (mine, before, theirs) = match claimed {
        Some(Claim::Mine(attempt)) => {
            let before = attempt.before.clone();
            (Some(attempt), before, None)
        }
        Some(Claim::Theirs(record)) => (None, None, Some(record.to_string())),
        None => (None, None, None),
    };
    Ok(match comm.broadcast(Some((before, theirs))) {
        (_, Some(who)) => Turn::Theirs(who),
        (before, None) => Turn::Mine(Box::new(Mine {
            attempt: mine,
            before,
        })),
    })
}

impl Mine {
    /// Tells how it ended, for those who come after.
    ///
    /// # Collective
    /// # Errors
    /// A folder that can no longer be written.
    pub fn end(self, comm: &Comm, result: &Result<Ending>) -> Result<()> {
        let end = match result {
            Ok(Ending::Stopped) => End::Stopped,
            Ok(_) => End::Done,
            Err(error) => End::Failed(format!("{error:#}")),
        };
        comm.agree(self.attempt.map_or(Ok(()), |attempt| attempt.end(end)))
    }
}

/// Does `work` unless the file `done` is there; where another process is at it, waits for that.
///
/// # Collective
/// # Errors
/// Those of `work`; a folder that cannot be written.
pub fn once(
    comm: &Comm,
    attempts: &Path,
    done: &Path,
    stop: &Arc<AtomicBool>,
    work: impl FnOnce() -> Result<Ending>,
) -> Result<Ending> {
    let is_done = || comm.broadcast(Some(done.exists()));
    let mut told = false;
    while !is_done() {
        if comm.any(stop.load(Ordering::Relaxed)) {
            return Ok(Ending::Stopped);
        }
        match claim(comm, attempts, stop)? {
            Turn::Mine(mine) => {
                // Whoever was at it may have ended since the look.
                let result = if is_done() { Ok(Ending::Done) } else { work() };
                mine.end(comm, &result)?;
                return result;
            }
            Turn::Theirs(who) => {
                if comm.is_root() && !told {
                    log::info!("waits for {}, which {who} is making", done.display());
                }
                told = true;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
    Ok(Ending::Done)
}
