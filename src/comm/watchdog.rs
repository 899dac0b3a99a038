//! Says which operation this rank waits in when a collective call takes too long.
//!
//! The ranks that say nothing are the ones that the others wait for.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What this rank waits in now, shared by all groups of the process.
#[derive(Clone, Default)]
pub struct Watchdog {
    waiting: Arc<Mutex<Option<(&'static str, Instant)>>>,
}

/// Ends the wait when dropped.
pub struct Waiting<'a>(&'a Watchdog);

impl Watchdog {
    pub fn enter(&self, operation: &'static str) -> Waiting<'_> {
        self.set(Some((operation, Instant::now())));
        Waiting(self)
    }

    fn set(&self, waiting: Option<(&'static str, Instant)>) {
        if let Ok(mut current) = self.waiting.lock() {
            *current = waiting;
        }
    }

    pub fn start(&self, rank: usize, seconds: u64) {
        if seconds == 0 {
            return;
        }
        let patience = Duration::from_secs(seconds);
        let waiting = Arc::downgrade(&self.waiting);
        std::thread::spawn(move || {
            let mut told = Instant::now();
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let Some(waiting) = waiting.upgrade() else {
                    return;
                };
                let current = waiting.lock().ok().and_then(|guard| *guard);
                if let Some((operation, since)) = current {
                    if since.elapsed() >= patience && told.elapsed() >= patience {
                        told = Instant::now();
                        log::warn!(
                            "rank {rank} has waited {} s for the other ranks in: {operation}; \
                             a rank that logs no such line is the one waited for",
                            since.elapsed().as_secs()
                        );
                    }
                }
            }
        });
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}
