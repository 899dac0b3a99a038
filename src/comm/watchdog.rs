//! Watches over waits: logs the operation that this rank is in when a collective call takes too long, and ends the job when it
//! cannot go on.
//!
//! A thread looks once a second whether this rank moves: ends a wait, computes outside of waits, or reads and writes. It
//! knows of the other ranks by [heartbeats](super::heartbeat) once they can talk, and of itself alone before.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::abort::end_job;
use super::heartbeat::{Beat, Line};

/// The exit code of a job that cannot go on: the job scripts queue it again, and it continues from its checkpoint.
const TRY_AGAIN: i32 = 75;
/// Until the configuration is read: the defaults of `comm.watchdog_s` and `comm.abort_s`.
const AT_START: Patience = Patience { log_s: 120, end_s: 300 };

/// Seconds that a wait may last before it is logged, and before it ends the job; 0 for any time.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub log_s: u64,
    pub end_s: u64,
}

/// The wait that this rank is in now; all groups of the process share it.
#[derive(Clone, Default)]
pub(super) struct Watchdog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Option<(&'static str, Instant)>>,
    /// Waits that have ended.
    ended: AtomicU64,
    stop: AtomicBool,
    /// What the thread is told while it runs.
    told: Mutex<Option<(Patience, Option<Line>)>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Ends the wait when dropped, and restores the wait that it was a part of.
#[must_use = "dropping it ends the wait"]
pub struct Waiting<'a> {
    watchdog: &'a Watchdog,
    before: Option<(&'static str, Instant)>,
}

impl Watchdog {
    /// Starts to watch this rank alone. Rank-local.
    pub fn start() -> Watchdog {
        let watchdog = Watchdog::default();
        let shared = watchdog.0.clone();
        let thread = std::thread::spawn(move || Watch::default().run(&shared));
        *watchdog.0.thread.lock().expect("no thread panics with it") = Some(thread);
        watchdog
    }

    /// Sets its patience, and has it watch the other ranks as well by `line`. Rank-local.
    pub fn watch(&self, patience: Patience, line: Option<Line>) {
        *self.0.told.lock().expect("no thread panics with it") = Some((patience, line));
    }

    /// Ends the watch: after that its thread makes no call to MPI. Rank-local.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
        let thread = self.0.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            thread.thread().unpark();
            // If it panicked, the job ends anyway.
            let _ = thread.join();
        }
    }

    pub fn enter(&self, operation: &'static str) -> Waiting<'_> {
        let before = self.replace(Some((operation, Instant::now())));
        Waiting { watchdog: self, before }
    }

    /// Sets the operation that is waited in, and returns the previous one.
    fn replace(&self, waiting: Option<(&'static str, Instant)>) -> Option<(&'static str, Instant)> {
        let mut current = self.0.waiting.lock().ok()?;
        std::mem::replace(&mut current, waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.watchdog.0.ended.fetch_add(1, Ordering::Relaxed);
        self.watchdog.replace(self.before);
    }
}

/// What the thread remembers.
struct Watch {
    patience: Patience,
    line: Option<Line>,
    /// Waits ended, CPU time and bytes when it last looked.
    before: (u64, Duration, u64),
    /// Seconds in which this rank did not move. They are counted, as a clock runs on while the job is suspended.
    idle_s: u32,
    logged: Instant,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { patience: AT_START, line: None, before: Default::default(), idle_s: 0, logged: Instant::now() }
    }
}

impl Watch {
    fn run(&mut self, shared: &Shared) {
        let mut next = Instant::now() + Duration::from_secs(1);
        while !shared.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < next {
                std::thread::park_timeout(next - now);
                continue;
            }
            next = now + Duration::from_secs(1);
            if let Some((patience, line)) = shared.told.lock().ok().and_then(|mut told| told.take()) {
                (self.patience, self.line) = (patience, line);
            }
            self.look(shared);
        }
    }

    fn look(&mut self, shared: &Shared) {
        let waiting = shared.waiting.lock().ok().and_then(|guard| *guard);
        self.measure(shared.ended.load(Ordering::Relaxed), waiting.is_some());
        let operation = waiting.map(|(operation, _)| operation);
        if let Some(line) = &mut self.line {
            line.exchange(&Beat { idle_s: self.idle_s, operation: operation.map(str::to_string) });
        }
        if let Some((operation, since)) = waiting {
            self.log(operation, since.elapsed());
        }
        let limit = u32::try_from(self.patience.end_s).unwrap_or(u32::MAX);
        let lost = match (&self.line, operation) {
            _ if limit == 0 => None,
            (Some(line), _) => line.ranks.lost(limit),
            (None, Some(operation)) if self.idle_s >= limit => Some(format!(
                "waited {limit} s for the other ranks in: {operation}; if no job ever gets further, nodes may not reach each \
                 other by the network that Open MPI chose: name another, as in `export OMPI_MCA_btl_tcp_if_include=eth0`"
            )),
            (None, _) => None,
        };
        if let Some(why) = lost {
            end_job(&format!("{why} (comm.abort_s)"), TRY_AGAIN);
        }
    }

    /// Counts the seconds without a move.
    fn measure(&mut self, ended: u64, waits: bool) {
        let now = (ended, cpu_time(), bytes_moved());
        let (ended, cpu, bytes) = (now.0 - self.before.0, now.1 - self.before.1, now.2.saturating_sub(self.before.2));
        self.before = now;
        // A rank that waits computes all the time, to no end. This thread itself takes less than the other limits.
        let moves = ended > 0 || !waits && cpu > Duration::from_millis(10) || bytes > 1 << 16;
        self.idle_s = if moves { 0 } else { self.idle_s + 1 };
    }

    fn log(&mut self, operation: &str, waited: Duration) {
        let patience = Duration::from_secs(self.patience.log_s);
        if patience.is_zero() || waited < patience || self.logged.elapsed() < patience {
            return;
        }
        self.logged = Instant::now();
        let others = self.line.as_ref().and_then(|line| line.ranks.elsewhere(operation));
        let others = others.unwrap_or("most likely a rank that logs no such line is the one waited for".into());
        log::warn!("waited {} s for the other ranks in: {operation}; {others}", waited.as_secs());
    }
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    // SAFETY: the call fills in a structure of plain numbers.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |value: libc::timeval| Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Bytes that this process has read and written; 0 where the kernel does not count them.
fn bytes_moved() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let counted = text.lines().filter_map(|line| line.strip_prefix("rchar: ").or(line.strip_prefix("wchar: ")));
    counted.filter_map(|bytes| bytes.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_wait_leaves_the_whole_one_in_place() {
        let watchdog = Watchdog::default();
        let now = || watchdog.0.waiting.lock().unwrap().map(|(operation, _)| operation);
        let whole = watchdog.enter("gather of a map");
        drop(watchdog.enter("gather"));
        assert_eq!(now(), Some("gather of a map"));
        drop(whole);
        assert_eq!(now(), None);
    }

    #[test]
    fn a_rank_that_waits_is_idle_however_busy() {
        let mut watch = Watch::default();
        watch.measure(0, false);
        let spin = || {
            let end = Instant::now() + Duration::from_millis(200);
            while Instant::now() < end {}
        };
        spin();
        watch.measure(0, true);
        spin();
        watch.measure(0, true);
        assert_eq!(watch.idle_s, 2);
        spin();
        watch.measure(0, false);
        assert_eq!(watch.idle_s, 0);
        watch.measure(1, true);
        assert_eq!(watch.idle_s, 0);
    }
}
