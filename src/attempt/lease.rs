//! A lease on a piece of work: one process holds it, and a heartbeat renews it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::record::{EXPIRY, End, LastAttempt, Record, attempt_file, last_attempt_seen_by, last_number};
use crate::durable;

/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Who holds the lease.
pub enum Claim {
    Mine(Lease),
    Theirs(Record),
}

/// An attempt under way in this process. Dropped without an end, it counts as stopped.
pub struct Lease {
    path: PathBuf,
    record: Record,
    /// The attempt before, if that has ended.
    pub before: Option<Record>,
    /// Stops the heartbeat when dropped, and its thread.
    heartbeat: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    /// Begins the next attempt in `folder`, unless another process holds the lease. `lost` is set if another takes it over,
    /// having seen no heartbeat.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn claim(folder: &Path, lost: &Arc<AtomicBool>) -> Result<Claim> {
        Lease::claim_as(folder, Record::mine(), lost, [HEARTBEAT, EXPIRY])
    }

    fn claim_as(
        folder: &Path,
        record: Record,
        lost: &Arc<AtomicBool>,
        [heartbeat, expiry]: [Duration; 2],
    ) -> Result<Claim> {
        let place = || format!("cannot claim work in {}", folder.display());
        fs::create_dir_all(folder).with_context(place)?;
        loop {
            let number = last_number(folder) + 1;
            let before = match last_attempt_seen_by(&record, folder, expiry).with_context(place)? {
                LastAttempt::Running(other) => return Ok(Claim::Theirs(other)),
                LastAttempt::Ended(before, _) => Some(before),
                LastAttempt::Died(_) | LastAttempt::None => None,
            };
            let path = attempt_file(folder, number);
            let mut made = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(made) => made,
                // Another process was faster; a network file system may take a while to show its file.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
                Err(error) => return Err(error).with_context(place),
            };
            let text = serde_json::to_vec(&record)?;
            made.write_all(&text).with_context(place)?;
            let (stop, stopped) = channel();
            let (next, lost) = (attempt_file(folder, number + 1), lost.clone());
            let thread = std::thread::spawn(move || {
                while stopped.recv_timeout(heartbeat) == Err(RecvTimeoutError::Timeout) {
                    if next.exists() {
                        log::error!("another process has taken over: {}", next.display());
                        lost.store(true, Ordering::Relaxed);
                        return;
                    }
                    // A write sets the modification time by the server's clock, not this node's.
                    if let Err(error) = made.write_all_at(&text, 0) {
                        log::warn!("no heartbeat can be given: {error}");
                    }
                }
            });
            return Ok(Claim::Mine(Lease { path, record, before, heartbeat: Some((stop, thread)) }));
        }
    }

    /// Records how the attempt ended.
    ///
    /// # Errors
    /// A folder that can no longer be written.
    pub fn end(mut self, end: End) -> Result<()> {
        self.finish(end)
    }

    fn finish(&mut self, end: End) -> Result<()> {
        let Some((stop, thread)) = self.heartbeat.take() else {
            return Ok(());
        };
        drop(stop);
        // The thread cannot panic; if it did, the end must be recorded all the same.
        let _ = thread.join();
        self.record.ended = Some(end);
        durable::write(&self.path, serde_json::to_vec(&self.record)?)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.finish(End::Stopped) {
            log::warn!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::last_attempt;
    use super::*;

    fn lost() -> Arc<AtomicBool> {
        Arc::default()
    }

    #[test]
    fn one_of_many_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let claims: Vec<Claim> = std::thread::scope(|scope| {
            let claim = || Lease::claim(folder.path(), &lost()).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mine = claims.iter().filter(|claim| matches!(claim, Claim::Mine(_)));
        assert_eq!(mine.count(), 1);
        assert!(matches!(last_attempt(folder.path()).unwrap(), LastAttempt::Running(_)));
        drop(claims);
        let LastAttempt::Ended(_, end) = last_attempt(folder.path()).unwrap() else { panic!("it has ended") };
        assert_eq!(end, End::Stopped);
    }

    #[test]
    fn ends_are_remembered_and_the_next_may_begin() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last_attempt(folder.path()).unwrap(), LastAttempt::None);
        for end in [End::Failed("no room".into()), End::Done] {
            let Claim::Mine(attempt) = Lease::claim(folder.path(), &lost()).unwrap() else {
                panic!("no other process is there")
            };
            attempt.end(end.clone()).unwrap();
            let LastAttempt::Ended(_, told) = last_attempt(folder.path()).unwrap() else { panic!("it has ended") };
            assert_eq!(told, end);
        }
        assert_eq!(last_number(folder.path()), 2);
    }

    #[test]
    fn a_silent_process_is_taken_over_and_stops_when_it_wakes() {
        let folder = tempfile::tempdir().unwrap();
        let times = [Duration::from_millis(300), Duration::from_millis(100)];
        let flag = lost();
        let slow = Lease::claim_as(folder.path(), Record::elsewhere(), &flag, times).unwrap();
        let Claim::Mine(slow) = slow else { panic!("no other process is there") };
        let me = || Lease::claim_as(folder.path(), Record::mine(), &lost(), times).unwrap();
        assert!(matches!(me(), Claim::Theirs(record) if record == Record::elsewhere()));
        std::thread::sleep(Duration::from_millis(200));
        let Claim::Mine(taken) = me() else { panic!("it gave no heartbeat") };
        std::thread::sleep(Duration::from_millis(300));
        assert!(flag.load(Ordering::Relaxed));
        drop((slow, taken));
    }
}
