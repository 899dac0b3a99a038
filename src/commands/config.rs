//! `coreloss config`: a configuration with all its defaults, or what its keys mean.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::startup::read_config;
use crate::comm::Comm;
use crate::config::{Config, Explained, Overrides, explain};
use crate::ending::Ending;

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss config                          every key at its default
  coreloss config --explain                what every key means
  coreloss config --explain train.steps    one key; train: all of that section
  coreloss config --explain sweep          the keys of a sweep file
  coreloss config run.yaml --set seed=2    what a run would take")]
pub struct ShowArguments {
    /// YAML file; by default, the defaults.
    config: Option<PathBuf>,
    /// Explains a key, all keys of a section, or all keys.
    #[arg(long, value_name = "KEY", num_args = 0..=1, default_missing_value = "", conflicts_with = "config")]
    explain: Option<String>,
    #[command(flatten)]
    overrides: Overrides,
}

/// Prints a configuration, or what its keys mean.
///
/// # Collective
/// # Errors
/// A key that does not exist, a configuration that is refused.
pub fn show(comm: &Comm, arguments: &ShowArguments) -> Result<Ending> {
    let text = match (&arguments.explain, &arguments.config) {
        (Some(key), _) => {
            let found = comm.agree(explain(key).map_err(anyhow::Error::from))?;
            found.iter().map(Explained::text).collect()
        }
        (None, Some(path)) => read_config(comm, path, &arguments.overrides)?.to_yaml(),
        (None, None) => comm.agree(Config::parse("config", "", &arguments.overrides.set))?.to_yaml(),
    };
    if comm.is_root() {
        print!("{text}");
    }
    Ok(Ending::Done)
}
