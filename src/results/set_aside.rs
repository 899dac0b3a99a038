//! Inputs that are passed over: a bad file of a glob costs its own results, not those of all others.

use anyhow::{Error, Result};

use crate::comm::Comm;
use crate::ending::Ending;
use crate::stream::Cube;

/// Why nothing came of an input.
pub enum Failure {
    /// Its own fault: the others go on.
    Source(Error),
    /// The output folder's, or the program's: no other would fare better.
    Fatal(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Source(error) | Failure::Fatal(error) => error,
        }
    }
}

/// Inputs that were passed over, with the reason.
#[derive(Default)]
pub struct SetAside {
    failed: Vec<(String, String)>,
    named: Vec<String>,
}

impl SetAside {
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    /// `(path, reason)` of each.
    pub fn list(&self) -> &[(String, String)] {
        &self.failed
    }

    /// How a command ends that has done all else.
    pub fn ending(&self) -> Ending {
        match self.is_empty() {
            true => Ending::Done,
            false => Ending::SomeSetAside,
        }
    }

    pub fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.failed.iter().map(|(_, reason)| &reason[..]).collect();
        reasons.join("; ")
    }

    /// Remembers that the user named the input at `path`: it is never set aside.
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

    /// Whether it is new: an input that is both scored and trained on is met twice.
    fn add(&mut self, path: String, reason: &str) -> bool {
        let is_new = self.failed.iter().all(|(failed, _)| *failed != path);
        if is_new {
            self.failed.push((path, reason.into()));
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
