//! `coreloss bench`: how fast the parts of the program are on this machine.

use anyhow::Result;
use clap::Subcommand;

use super::startup::by_default;
use crate::bench::{self, AllreduceBench, IoBench, PcaBench, ReconstructBench, TrainBench};
use crate::comm::Comm;
use crate::config::Overrides;
use crate::ending::Ending;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Training steps on made-up patches: speed, and where the time goes.
    Train(TrainBench),
    /// Principal components of one file, from opening the file to the result.
    Pca(PcaBench),
    /// Reconstruction of made-up counts in tiles, as in scoring: spectra per second.
    Reconstruct(ReconstructBench),
    /// Sum of gradients over ranks, next to a bare MPI_Allreduce, by size.
    Allreduce(AllreduceBench),
    /// One pass of reading through the cube of a file.
    Io(IoBench),
}

/// Runs one benchmark.
///
/// # Collective
/// # Errors
/// Those of [`crate::bench`].
pub fn bench(comm: &Comm, command: &BenchCommand) -> Result<Ending> {
    let configured = |overrides: &Overrides| by_default(comm, "bench", overrides);
    match command {
        BenchCommand::Train(bench) => bench::train(comm, &configured(&bench.overrides)?, bench)?,
        BenchCommand::Pca(bench) => bench::pca(comm, &configured(&bench.overrides)?, bench)?,
        BenchCommand::Reconstruct(bench) => bench::reconstruct(comm, &configured(&bench.overrides)?, bench)?,
        BenchCommand::Allreduce(bench) => {
            configured(&Overrides::default())?;
            bench::allreduce(comm, bench.json)?;
        }
        BenchCommand::Io(bench) => bench::io(comm, &configured(&bench.overrides)?, bench)?,
    }
    Ok(Ending::Done)
}
