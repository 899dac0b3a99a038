//! `coreloss report`: draws the report of a finished run again.

use anyhow::Result;

use super::ConfigArguments;
use super::startup::configured;
use crate::comm::Comm;
use crate::ending::Ending;
use crate::report::write_run;
use crate::results::Summary;

/// Draws the report of a finished run again.
///
/// # Collective
/// # Errors
/// An output folder without results.
pub fn report(comm: &Comm, arguments: &ConfigArguments) -> Result<Ending> {
    let config = configured(comm, arguments)?;
    comm.on_root(|| Summary::read(&config.output.dir).and_then(|summary| write_run(&config, &summary)))?;
    if comm.is_root() {
        println!("{}", config.output.dir.join("report.html").display());
    }
    Ok(Ending::Done)
}
