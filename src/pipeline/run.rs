//! What every phase of a run needs.

use std::sync::atomic::AtomicBool;

use super::clock::Clock;
use crate::comm::Comm;
use crate::config::{Config, Stage};

/// What every phase of a run needs.
pub struct Run<'a> {
    pub comm: &'a Comm,
    pub config: &'a Config,
    pub stage: Stage,
    /// Set by the signals that ask for an end.
    pub stop: &'a AtomicBool,
    pub clock: Clock,
}

impl<'a> Run<'a> {
    /// Starts the clock.
    pub fn new(comm: &'a Comm, config: &'a Config, stage: Stage, stop: &'a AtomicBool) -> Run<'a> {
        Run { comm, config, stage, stop, clock: Clock::start() }
    }
}
