//! `coreloss completions`: completions for a shell.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::comm::Comm;
use crate::ending::Ending;

/// Prints the completions for `shell` on root. Rank-local.
pub fn completions(comm: &Comm, shell: Shell) -> Result<Ending> {
    if comm.is_root() {
        clap_complete::generate(shell, &mut Cli::command(), "coreloss", &mut std::io::stdout());
    }
    Ok(Ending::Done)
}
