//! Attempts at a piece of work, by processes that share nothing but a file system.
//!
//! Each attempt is a file `attempt-N.json` that is created exclusively and never removed: of all processes that try, one
//! makes number N. It holds the work by a lease that a heartbeat renews. Attempt N + 1 may begin when N has ended, or when
//! its heartbeat has stopped. A process that was only slow finds the next attempt there and stops. No database, no locks,
//! no clock but the file system's.

mod group;
mod lease;
mod once;
mod record;

pub use group::{GroupClaim, GroupLease, claim, unix_time};
pub use once::{run_once, train_once};
pub use record::{EXPIRY, End, LastAttempt, Record, last_attempt};
