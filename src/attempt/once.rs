//! Work that several processes may want: done once, by one of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::group::{GroupClaim, claim};
use crate::comm::Comm;
use crate::durable;
use crate::ending::Ending;

/// Does `work` once among all processes: the file `done` says that it is done, and while another process is at it this one
/// waits. Work that failed at or after `since` (unix time) is not repeated.
///
/// # Collective
/// # Errors
/// Those of `work`; a folder that cannot be written.
pub fn run_once(
    comm: &Comm,
    attempts: &Path,
    done: &Path,
    since: u64,
    stop: &Arc<AtomicBool>,
    work: impl FnOnce() -> Result<Ending>,
) -> Result<Ending> {
    let is_done = || comm.broadcast(Some(done.exists()));
    let mut logged = false;
    while !is_done() {
        if comm.any(stop.load(Ordering::Relaxed)) {
            return Ok(Ending::Stopped);
        }
        match claim(comm, attempts, stop)? {
            GroupClaim::Mine(mut lease) => {
                let result = match lease.failed_since(since) {
                    Some(reason) => Err(anyhow!(reason)),
                    // Another process may have ended since `done` was looked for.
                    None if is_done() => Ok(Ending::Done),
                    None => work(),
                };
                lease.end(comm, &result)?;
                return result;
            }
            GroupClaim::Theirs(who) => {
                if comm.is_root() && !logged {
                    log::info!("waits for {}, which {who} is making", done.display());
                }
                logged = true;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
    Ok(Ending::Done)
}

/// Has `train` train in `folder`, once among all processes; the file `trained` there says that it is done.
///
/// # Collective
/// # Errors
/// Those of the training, which is not repeated if it failed at or after `since`.
pub fn train_once(
    comm: &Comm,
    folder: &Path,
    since: u64,
    stop: &Arc<AtomicBool>,
    train: impl FnOnce() -> Result<Ending>,
) -> Result<Ending> {
    let done = folder.join("trained");
    run_once(comm, &folder.join("attempts"), &done, since, stop, || {
        let ending = train()?;
        if ending != Ending::Stopped {
            comm.on_root(|| durable::write(&done, ""))?;
        }
        Ok(ending)
    })
}
