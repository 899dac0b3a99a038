//! `coreloss survey`: a catalogue of many cubes, scored and ranked.

use anyhow::Result;

use super::ConfigArguments;
use super::startup::{configured, listen};
use crate::comm::Comm;
use crate::doctor;
use crate::ending::Ending;

/// Scores and ranks the catalogue of a configuration.
///
/// # Collective
/// # Errors
/// Those of [`crate::survey::survey`].
pub fn survey(comm: &Comm, arguments: &ConfigArguments) -> Result<Ending> {
    let config = configured(comm, arguments)?;
    doctor::at_start(comm, &config)?;
    crate::survey::survey(comm, &config, &listen(comm)?)
}
