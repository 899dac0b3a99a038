//! `coreloss doctor`: common traps of machines and clusters, and how to fix them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::startup::{begin, read_config};
use crate::comm::Comm;
use crate::config::{Config, Overrides};
use crate::ending::Ending;

#[derive(Args)]
pub struct DoctorArguments {
    /// Also checks what this configuration asks for.
    config: Option<PathBuf>,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// Checks this machine and, where one is given, a configuration.
///
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
