//! `coreloss doctor`: the traps of clusters, each with its mend.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::startup::{begin, read_config};
use crate::comm::Comm;
use crate::config::{Config, Overrides};
use crate::ending::Ending;

#[derive(Args)]
pub struct DoctorArguments {
    /// Checks what this configuration asks for, too.
    config: Option<PathBuf>,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// # Collective
/// # Errors
/// Those of [`crate::doctor::doctor`].
pub fn doctor(comm: &Comm, arguments: &DoctorArguments) -> Result<Ending> {
    let config = match &arguments.config {
        Some(path) => read_config(comm, path, &arguments.overrides)?,
        None => comm.agree(Config::parse("doctor", "", &arguments.overrides.set))?,
    };
    begin(comm, &config)?;
    crate::doctor::doctor(comm, &config, arguments.json)
}
