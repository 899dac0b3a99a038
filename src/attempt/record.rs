//! What an attempt's file tells: who made it, whether it still runs, how it ended.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::comm::node_name;

/// A lease ends this long after its last heartbeat. Longer than network file systems keep old attributes.
pub const EXPIRY: Duration = Duration::from_secs(100);

/// One attempt: who makes it, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub host: String,
    pub pid: u32,
    /// The PID namespace that `pid` belongs to: containers have their own.
    pub pids: String,
    /// The Slurm job, which runs once at a time.
    pub job: Option<String>,
    /// How often that was queued again.
    pub restarts: Option<String>,
    /// Seconds since 1970.
    pub began: u64,
    pub ended: Option<End>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    Done,
    /// By a signal; what was done so far is kept.
    Stopped,
    /// With the reason.
    Failed(String),
}

/// The state of the last attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum LastAttempt {
    None,
    Running(Record),
    /// Its heartbeat stopped without an end: it was killed, or its node failed.
    Died(Record),
    Ended(Record, End),
}

/// The state of the last attempt in `folder`; none where there is no such folder. Rank-local.
///
/// # Errors
/// A folder that cannot be read.
pub fn last_attempt(folder: &Path) -> Result<LastAttempt> {
    last_attempt_seen_by(&Record::mine(), folder, EXPIRY)
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
    /// Of this process.
    pub fn mine() -> Record {
        let variable = |name: &str| std::env::var(name).ok();
        let task = || Some(format!("{}_{}", variable("SLURM_ARRAY_JOB_ID")?, variable("SLURM_ARRAY_TASK_ID")?));
        let pids = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Record {
            host: node_name(),
            pid: std::process::id(),
            pids: pids.display().to_string(),
            job: task().or_else(|| variable("SLURM_JOB_ID")),
            restarts: variable("SLURM_RESTART_COUNT"),
            began: now.map_or(0, |now| now.as_secs()),
            ended: None,
        }
    }

    /// Whether the process `me` can tell for sure that this one has ended.
    pub fn surely_gone(&self, me: &Record) -> bool {
        let my_job_before = self.job.is_some() && self.job == me.job && self.restarts != me.restarts;
        let near = self.host == me.host && self.pids == me.pids && !self.pids.is_empty();
        my_job_before || near && !is_alive(self.pid)
    }
}

/// Whether this machine runs the process `pid`. One that has ended but whose parent does not ask is listed too.
fn is_alive(pid: u32) -> bool {
    let about = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = about.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// [`last_attempt`] as the process `me` sees it; a lease ends `expiry` after its last heartbeat. Rank-local.
///
/// # Errors
/// A folder that cannot be read.
pub fn last_attempt_seen_by(me: &Record, folder: &Path, expiry: Duration) -> Result<LastAttempt> {
    let number = last_number(folder);
    if number == 0 {
        return Ok(LastAttempt::None);
    }
    // Opened, so that a network file system asks its server.
    let file = File::open(attempt_file(folder, number))?;
    let record: Option<Record> = serde_json::from_reader(&file).ok();
    if let Some(end) = record.as_ref().and_then(|record| record.ended.clone()) {
        return Ok(LastAttempt::Ended(record.unwrap_or_else(Record::mine), end));
    }
    let gone = record.as_ref().is_some_and(|record| record.surely_gone(me));
    let heartbeat = file.metadata()?.modified()?;
    let silent = time_in(folder)?.duration_since(heartbeat).unwrap_or_default();
    // An attempt that was created just now is still empty.
    let record = record.unwrap_or(Record { host: "an unknown host".into(), ..Record::mine() });
    Ok(if gone || silent > expiry { LastAttempt::Died(record) } else { LastAttempt::Running(record) })
}

/// The time by the clock that dates the files in `folder`; by this node's where the folder cannot be written.
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

/// The file of attempt `number`.
pub fn attempt_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("attempt-{number}.json"))
}

/// The number of the last attempt; 0 where there is none.
pub fn last_number(folder: &Path) -> usize {
    let missing = |&number: &usize| !attempt_file(folder, number).exists();
    (1..).find(missing).map_or(0, |number| number - 1)
}

#[cfg(test)]
impl Record {
    /// Of a job on another node.
    pub fn elsewhere() -> Record {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_known_at_once_where_they_can_be() {
        let me = Record::mine();
        let gone = Record { pid: 4_194_305, ..me.clone() };
        assert!(gone.surely_gone(&me) && !me.surely_gone(&me));
        assert!(!Record::elsewhere().surely_gone(&me));
        // The job was queued again, on another node.
        let again = Record { host: "other".into(), restarts: Some("1".into()), ..Record::elsewhere() };
        assert!(Record::elsewhere().surely_gone(&again));
    }
}
