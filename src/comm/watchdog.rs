//! Logs the operation that this rank waits in when a collective call takes too long.
//!
//! A rank that logs nothing is most likely the one that the others wait for.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The operation that this rank waits in now; all groups of the process share it.
#[derive(Clone, Default)]
pub struct Watchdog {
    waiting: Arc<Mutex<Option<(&'static str, Instant)>>>,
}

/// Ends the wait when dropped, and restores the wait that it was a part of.
#[must_use = "dropping it ends the wait"]
pub struct Waiting<'a> {
    watchdog: &'a Watchdog,
    before: Option<(&'static str, Instant)>,
}

impl Watchdog {
    pub fn enter(&self, operation: &'static str) -> Waiting<'_> {
        let before = self.replace(Some((operation, Instant::now())));
        Waiting { watchdog: self, before }
    }

    /// Sets the operation that is waited in, and returns the previous one.
    fn replace(&self, waiting: Option<(&'static str, Instant)>) -> Option<(&'static str, Instant)> {
        let mut current = self.waiting.lock().ok()?;
        std::mem::replace(&mut current, waiting)
    }

    pub fn start(&self, rank: usize, seconds: u64) {
        if seconds == 0 {
            return;
        }
        let patience = Duration::from_secs(seconds);
        let waiting = Arc::downgrade(&self.waiting);
        std::thread::spawn(move || {
            let mut warned = Instant::now();
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let Some(waiting) = waiting.upgrade() else {
                    return;
                };
                let current = waiting.lock().ok().and_then(|guard| *guard);
                if let Some((operation, since)) = current
                    && since.elapsed() >= patience
                    && warned.elapsed() >= patience
                {
                    warned = Instant::now();
                    log::warn!(
                        "rank {rank} has waited {} s for the other ranks in: {operation}; \
                         most likely a rank that logs no such line is the one waited for",
                        since.elapsed().as_secs()
                    );
                }
            }
        });
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.watchdog.replace(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_wait_leaves_the_whole_one_in_place() {
        let watchdog = Watchdog::default();
        let now = || watchdog.waiting.lock().unwrap().map(|(operation, _)| operation);
        let whole = watchdog.enter("gather of a map");
        drop(watchdog.enter("gather"));
        assert_eq!(now(), Some("gather of a map"));
        drop(whole);
        assert_eq!(now(), None);
    }
}
