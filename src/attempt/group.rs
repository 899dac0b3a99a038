//! Leases of a group of ranks: root holds the file, all ranks know who holds the lease.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use anyhow::Result;

use super::lease::{Claim, Lease};
use super::record::{End, Record};
use crate::comm::Comm;
use crate::ending::Ending;

/// Who holds the lease, equal on every rank.
pub enum GroupClaim {
    Mine(Box<GroupLease>),
    /// The process that holds it.
    Theirs(String),
}

/// The lease of this group of ranks.
pub struct GroupLease {
    /// Root's.
    lease: Option<Lease>,
    /// The attempt before, if that has ended.
    pub before: Option<Record>,
}

/// Begins the next attempt in `folder` for this group of ranks, unless another process holds the lease; `stop` is set if
/// another takes it over.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn claim(comm: &Comm, folder: &Path, stop: &Arc<AtomicBool>) -> Result<GroupClaim> {
    let claimed = comm.on_root(|| Lease::claim(folder, stop).map(Some))?;
    let (mine, before, theirs) = match claimed {
        Some(Claim::Mine(lease)) => {
            let before = lease.before.clone();
            (Some(lease), before, None)
        }
        Some(Claim::Theirs(record)) => (None, None, Some(record.to_string())),
        None => (None, None, None),
    };
    Ok(match comm.broadcast(Some((before, theirs))) {
        (_, Some(who)) => GroupClaim::Theirs(who),
        (before, None) => GroupClaim::Mine(Box::new(GroupLease { lease: mine, before })),
    })
}

impl GroupLease {
    /// Why the attempt before failed, if that began at `since` or later.
    pub fn failed_since(&mut self, since: u64) -> Option<String> {
        match self.before.take() {
            Some(Record { began, ended: Some(End::Failed(reason)), .. }) if began >= since => Some(reason),
            _ => None,
        }
    }

    /// Records how the attempt ended, for those who come after.
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
        comm.agree(self.lease.map_or(Ok(()), |lease| lease.end(end)))
    }
}

/// Seconds since 1970, by root's clock: what began later is no attempt of an earlier command.
///
/// # Collective
pub fn unix_time(comm: &Comm) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    comm.broadcast(Some(now.map_or(0, |now| now.as_secs())))
}
