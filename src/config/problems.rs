//! What is wrong with a configuration, all of it told at once.

use std::fmt::Display;

use crate::invalid::Invalid;

/// The problems found so far, each beginning with its key.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    /// Notes `problem` unless `holds`.
    pub(super) fn require(&mut self, holds: bool, problem: impl Into<String>) {
        if !holds {
            self.0.push(problem.into());
        }
    }

    /// Notes the error that `found` in `key`, if any.
    pub(super) fn take<E: Display>(&mut self, key: &str, found: Result<(), E>) {
        if let Err(error) = found {
            self.0.push(format!("{key}: {error:#}"));
        }
    }

    /// # Errors
    /// All that was noted, of the configuration `name`.
    pub(super) fn end(self, name: &str) -> Result<(), Invalid> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Invalid(format!("{name}: {}", self.0.join("; ")))),
        }
    }
}

/// Whether a range `[low, high]` has low < high.
pub(super) fn increasing([low, high]: [f64; 2]) -> bool {
    low.is_finite() && high.is_finite() && low < high
}
