//! Attempts at a piece of work, by processes that share nothing but a file system.
//!
//! Each attempt is a file `attempt-N.json` that is created exclusively and never removed: of all who try, one makes
//! number N. Attempt N + 1 may begin when N has ended, or when its process gives no more signs of life. A process that
//! was only slow finds the next attempt there and stops. No database, no locks, no clock but the file system's.

mod training;
mod turn;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::durable;

pub use training::train_once;
pub use turn::{Turn, claim, now, once};

/// A sign of life this often.
const BEAT: Duration = Duration::from_secs(10);
/// No sign for so long: the process is gone. Longer than network file systems keep old attributes.
const DEAD: Duration = Duration::from_secs(100);

/// Who attempts it, and how that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub host: String,
    pub pid: u32,
    /// The process identifiers that `pid` is one of: containers have their own.
    pids: String,
    /// The job of a batch system, and how often it was queued again: it runs once at a time.
    pub job: Option<String>,
    restarts: Option<String>,
    /// Seconds since 1970.
    pub began: u64,
    pub ended: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    Done,
    /// By a signal; what was done is kept.
    Stopped,
    /// With the reason.
    Failed(String),
}

/// How the last attempt stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Last {
    None,
    Running(Record),
    /// Without a word: killed, or its node is gone.
    Died(Record),
    Ended(Record, End),
}

/// Whose turn it is.
pub enum Claim {
    Mine(Attempt),
    Theirs(Record),
}

/// An attempt under way in this process. Dropped without an end, it counts as stopped.
pub struct Attempt {
    path: PathBuf,
    record: Record,
    /// The attempt before, where that has ended.
    before: Option<Record>,
    beating: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Attempt {
    /// Begins the next attempt in `folder`, unless somebody is at it. `lost` is set should another process come to
    /// believe that this one is dead.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn claim(folder: &Path, lost: &Arc<AtomicBool>) -> Result<Claim> {
        Attempt::claim_as(folder, Record::mine(), lost, [BEAT, DEAD])
    }

    fn claim_as(folder: &Path, record: Record, lost: &Arc<AtomicBool>, [beat, dead]: [Duration; 2]) -> Result<Claim> {
        let place = || format!("cannot claim work in {}", folder.display());
        fs::create_dir_all(folder).with_context(place)?;
        loop {
            let number = count(folder) + 1;
            let before = match last(folder, &record, dead).with_context(place)? {
                Last::Running(other) => return Ok(Claim::Theirs(other)),
                Last::Ended(before, _) => Some(before),
                Last::Died(_) | Last::None => None,
            };
            let path = file(folder, number);
            let mut made = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(made) => made,
                // Somebody was faster; a network file system may take a while to show it.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
                Err(error) => return Err(error).with_context(place),
            };
            let text = serde_json::to_vec(&record)?;
            made.write_all(&text).with_context(place)?;
            let (stop, stopped) = channel();
            let (next, lost) = (file(folder, number + 1), lost.clone());
            let thread = std::thread::spawn(move || {
                while stopped.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
                    if next.exists() {
                        log::error!("another process has taken over: {}", next.display());
                        lost.store(true, Ordering::Relaxed);
                        return;
                    }
                    // The server's clock, not this node's, is what a write sets.
                    if let Err(error) = made.write_all_at(&text, 0) {
                        log::warn!("no sign of life can be given: {error}");
                    }
                }
            });
            return Ok(Claim::Mine(Attempt { path, record, before, beating: Some((stop, thread)) }));
        }
    }

    /// Tells how it ended.
    ///
    /// # Errors
    /// A folder that can no longer be written.
    pub fn end(mut self, end: End) -> Result<()> {
        self.finish(end)
    }

    fn finish(&mut self, end: End) -> Result<()> {
        let Some((stop, thread)) = self.beating.take() else {
            return Ok(());
        };
        drop(stop);
        // It cannot panic; and if it did, the end is to be told all the same.
        let _ = thread.join();
        self.record.ended = Some(end);
        durable::write(&self.path, serde_json::to_vec(&self.record)?)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Err(error) = self.finish(End::Stopped) {
            log::warn!("{error:#}");
        }
    }
}

/// How the last attempt in `folder` stands; none where there is no such folder.
///
/// # Errors
/// A folder that cannot be read.
pub fn state(folder: &Path) -> Result<Last> {
    last(folder, &Record::mine(), DEAD)
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)?;
        match &self.job {
            Some(job) => write!(f, " (job {job})"),
            None => Ok(()),
        }
    }
}

impl Record {
    /// This process.
    fn mine() -> Record {
        let variable = |name: &str| std::env::var(name).ok();
        let task = || Some(format!("{}_{}", variable("SLURM_ARRAY_JOB_ID")?, variable("SLURM_ARRAY_TASK_ID")?));
        let pids = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Record {
            host: host.trim().into(),
            pid: std::process::id(),
            pids: pids.display().to_string(),
            job: task().or_else(|| variable("SLURM_JOB_ID")),
            restarts: variable("SLURM_RESTART_COUNT"),
            began: now.map_or(0, |now| now.as_secs()),
            ended: None,
        }
    }

    /// Whether `me` can tell for sure that this process is no more.
    fn surely_gone(&self, me: &Record) -> bool {
        let my_job_before = self.job.is_some() && self.job == me.job && self.restarts != me.restarts;
        let near = self.host == me.host && self.pids == me.pids && !self.pids.is_empty();
        my_job_before || near && !Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}

fn last(folder: &Path, me: &Record, dead: Duration) -> Result<Last> {
    let number = count(folder);
    if number == 0 {
        return Ok(Last::None);
    }
    // Opened, so that a network file system asks its server.
    let file = File::open(file(folder, number))?;
    let record: Option<Record> = serde_json::from_reader(&file).ok();
    if let Some(end) = record.as_ref().and_then(|record| record.ended.clone()) {
        return Ok(Last::Ended(record.unwrap_or_else(Record::mine), end));
    }
    let gone = record.as_ref().is_some_and(|record| record.surely_gone(me));
    let silent = file.metadata()?.modified()?;
    let silent = time_in(folder)?.duration_since(silent).unwrap_or_default();
    // One that is being written just now has nothing in it yet.
    let record = record.unwrap_or(Record { host: "an unknown host".into(), ..Record::mine() });
    Ok(if gone || silent > dead { Last::Died(record) } else { Last::Running(record) })
}

/// The time by the clock that dates the files in `folder`; this node's where one may not write there.
fn time_in(folder: &Path) -> Result<SystemTime> {
    let probe = folder.join(format!(".now-{}", std::process::id()));
    match File::create(&probe) {
        Ok(file) => {
            let now = file.metadata()?.modified();
            // Another thread of this process may have removed it.
            let _ = fs::remove_file(&probe);
            Ok(now?)
        }
        Err(_) => Ok(SystemTime::now()),
    }
}

fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("attempt-{number}.json"))
}

/// The number of the last attempt.
fn count(folder: &Path) -> usize {
    let missing = |&number: &usize| !file(folder, number).exists();
    (1..).find(missing).map_or(0, |number| number - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Arc<AtomicBool> {
        Arc::default()
    }

    fn elsewhere() -> Record {
        Record {
            host: "elsewhere".into(),
            pid: 1,
            pids: "pid:[1]".into(),
            job: Some("17".into()),
            restarts: None,
            began: 0,
            ended: None,
        }
    }

    #[test]
    fn one_of_many_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let claims: Vec<Claim> = std::thread::scope(|scope| {
            let claim = || Attempt::claim(folder.path(), &lost()).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mine = claims.iter().filter(|claim| matches!(claim, Claim::Mine(_)));
        assert_eq!(mine.count(), 1);
        assert!(matches!(state(folder.path()).unwrap(), Last::Running(_)));
        drop(claims);
        let Last::Ended(_, end) = state(folder.path()).unwrap() else { panic!("it has ended") };
        assert_eq!(end, End::Stopped);
    }

    #[test]
    fn ends_are_remembered_and_the_next_may_begin() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(state(folder.path()).unwrap(), Last::None);
        for end in [End::Failed("no room".into()), End::Done] {
            let Claim::Mine(attempt) = Attempt::claim(folder.path(), &lost()).unwrap() else {
                panic!("nobody else is there")
            };
            attempt.end(end.clone()).unwrap();
            let Last::Ended(_, told) = state(folder.path()).unwrap() else { panic!("it has ended") };
            assert_eq!(told, end);
        }
        assert_eq!(count(folder.path()), 2);
    }

    #[test]
    fn a_silent_process_is_taken_over_and_stops_when_it_wakes() {
        let folder = tempfile::tempdir().unwrap();
        let times = [Duration::from_millis(300), Duration::from_millis(100)];
        let flag = lost();
        let slow = Attempt::claim_as(folder.path(), elsewhere(), &flag, times).unwrap();
        let Claim::Mine(slow) = slow else { panic!("nobody else is there") };
        let me = || Attempt::claim_as(folder.path(), Record::mine(), &lost(), times).unwrap();
        assert!(matches!(me(), Claim::Theirs(record) if record == elsewhere()));
        std::thread::sleep(Duration::from_millis(200));
        let Claim::Mine(taken) = me() else { panic!("it gave no sign of life") };
        std::thread::sleep(Duration::from_millis(300));
        assert!(flag.load(Ordering::Relaxed));
        drop((slow, taken));
    }

    #[test]
    fn the_dead_are_known_at_once_where_they_can_be() {
        let me = Record::mine();
        let gone = Record { pid: 4_194_305, ..me.clone() };
        assert!(gone.surely_gone(&me) && !me.surely_gone(&me));
        assert!(!elsewhere().surely_gone(&me));
        // The job was queued again, on another node.
        let again = Record { host: "other".into(), restarts: Some("1".into()), ..elsewhere() };
        assert!(elsewhere().surely_gone(&again));
    }
}
