//! Which tests run at a time: the jobs of all tests share the cores of the machine.
//!
//! A job waits until there is a free core for each thread of each of its ranks. So a job that fills the machine has it
//! to itself, and small jobs of several tests run side by side. No test has to say what it may run beside. The more
//! tests are under way (`--test-threads`), the more jobs there are to choose from.

use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::available_parallelism;

/// Tells [`Cores::of`] how many ranks a command starts.
pub const RANKS: &str = "CORELOSS_TEST_RANKS";

static USED: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Cores that a job occupies until this is dropped.
pub struct Cores(usize);

impl Cores {
    /// As many as `command` has ranks and threads.
    pub fn of(command: &Command) -> Cores {
        let number = |name| {
            let set = command.get_envs().find(|(key, _)| *key == name);
            set.and_then(|(_, value)| value?.to_str()?.parse().ok()).unwrap_or(1)
        };
        Cores::take(number(RANKS) * number("CORELOSS_THREADS"))
    }

    /// All cores of the machine.
    pub fn all() -> Cores {
        Cores::take(usize::MAX)
    }

    fn take(number: usize) -> Cores {
        let all = available_parallelism().map_or(1, usize::from);
        let number = number.min(all);
        let used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = FREED.wait_while(used, |used| *used + number > all).unwrap_or_else(PoisonError::into_inner);
        *used += number;
        Cores(number)
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        *USED.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}
