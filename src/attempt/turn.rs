//! Attempts by a group of ranks: root holds the file, all ranks know whose turn it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow};

use super::{Attempt, Claim, End, Record};
use crate::comm::Comm;
use crate::ending::Ending;

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

/// Begins the next attempt in `folder` for this group of ranks, unless somebody is at it; `stop` is set where another
/// process takes over.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn claim(comm: &Comm, folder: &Path, stop: &Arc<AtomicBool>) -> Result<Turn> {
    let claimed = comm.on_root(|| Attempt::claim(folder, stop).map(Some))?;
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
        (before, None) => Turn::Mine(Box::new(Mine { attempt: mine, before })),
    })
}

impl Mine {
    /// Why the attempt before failed, if that began at `since` or later.
    pub fn failed_since(&mut self, since: u64) -> Option<String> {
        match self.before.take() {
            Some(Record { began, ended: Some(End::Failed(reason)), .. }) if began >= since => Some(reason),
            _ => None,
        }
    }

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

/// Seconds since 1970, by root's clock: attempts that began later are not of an earlier command.
///
/// # Collective
pub fn now(comm: &Comm) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    comm.broadcast(Some(now.map_or(0, |now| now.as_secs())))
}

/// Does `work` unless the file `done` is there; where another process is at it, waits for that. What failed since
/// `since` is not tried again.
///
/// # Collective
/// # Errors
/// Those of `work`; a folder that cannot be written.
pub fn once(
    comm: &Comm,
    attempts: &Path,
    done: &Path,
    since: u64,
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
            Turn::Mine(mut mine) => {
                let result = match mine.failed_since(since) {
                    Some(reason) => Err(anyhow!(reason)),
                    // Whoever was at it may have ended since the look.
                    None if is_done() => Ok(Ending::Done),
                    None => work(),
                };
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
