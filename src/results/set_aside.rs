//! Inputs that are passed over: a bad file among those of a glob must not cost the results of the others.

use std::path::Path;

use anyhow::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::archive::stamp;
use crate::comm::Comm;
use crate::ending::Ending;
use crate::stream::Cube;

/// Why an input has no results.
pub enum Failure {
    /// The input itself is at fault: the run goes on with the others.
    Source(Error),
    /// The output folder or the program is at fault: the other inputs would fail too.
    Fatal(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Source(error) | Failure::Fatal(error) => error,
        }
    }
}

/// An input that was passed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailedInput {
    pub path: String,
    pub reason: String,
    /// Its size and time: when it has changed it is tried again.
    #[serde(default)]
    pub stamp: String,
}

/// The inputs that were passed over.
#[derive(Default)]
pub struct SetAside {
    failed: Vec<FailedInput>,
    /// Paths that the user named one by one.
    named: Vec<String>,
}

impl SetAside {
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    pub fn list(&self) -> &[FailedInput] {
        &self.failed
    }

    /// How a command ends that did everything else.
    pub fn ending(&self) -> Ending {
        match self.is_empty() {
            true => Ending::Done,
            false => Ending::SomeSetAside,
        }
    }

    /// Why each was set aside, in one line.
    pub fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.failed.iter().map(|failed| &failed.reason[..]).collect();
        reasons.join("; ")
    }

    /// Notes that the user named the input at `path`: it is never set aside.
    pub fn name(&mut self, path: String) {
        self.named.push(path);
    }

    /// Sets `cube` aside after `error`, which all ranks met. Rank-local.
    ///
    /// # Errors
    /// `error`, where the input was named.
    pub fn push(&mut self, comm: &Comm, cube: &Cube, error: Error) -> Result<()> {
        let path = cube.info().path.display().to_string();
        if self.named.contains(&path) {
            return Err(error);
        }
        self.record(comm, path, format!("{error:#}"));
        Ok(())
    }

    /// Sets the input at `path` aside; root says so. Rank-local.
    pub fn record(&mut self, comm: &Comm, path: String, reason: String) {
        if self.add(path, &reason) && comm.is_root() {
            log::warn!("set aside: {reason}");
        }
    }

    /// Sets the input at `path` aside without logging it; false if it was already, as one both scored and trained on may be.
    pub fn add(&mut self, path: String, reason: &str) -> bool {
        let is_new = self.failed.iter().all(|failed| failed.path != path);
        if is_new {
            self.failed.push(FailedInput { stamp: stamp(Path::new(&path)), path, reason: reason.into() });
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_set_aside_once_with_its_first_reason() {
        let mut set_aside = SetAside::default();
        assert!(set_aside.is_empty());
        assert!(set_aside.add("a".into(), "a: cut short"));
        assert!(!set_aside.add("a".into(), "a: dark"));
        assert!(set_aside.add("b".into(), "b: empty"));
        assert_eq!(set_aside.list().len(), 2);
        assert_eq!(set_aside.reasons(), "a: cut short; b: empty");
    }
}
