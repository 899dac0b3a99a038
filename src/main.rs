//! Reads the command line, starts MPI, runs one command and ends all ranks in the same way.

use std::process::ExitCode;

use clap::Parser;

use coreloss::comm;
use coreloss::commands::{Cli, execute};
use coreloss::doctor;
use coreloss::ending::Ending;

fn main() -> ExitCode {
    // One thread per operator: rayon spreads whole micro-batches and tiles over threads instead, so that their number
    // never changes a sum.
    for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var(variable, "1") };
    }
    let cli = Cli::parse();
    doctor::before_mpi();
    let session = match comm::init() {
        Ok(session) => session,
        Err(error) => {
            eprintln!("coreloss: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let comm = session.comm();
    let code = match execute(&comm, &cli.command) {
        Ok(ending) => {
            if ending == Ending::Stopped && comm.is_root() {
                log::warn!("stopped by a signal; what was done is kept: start it again to go on");
            }
            comm.barrier();
            ending.exit_code()
        }
        Err(error) => session.fail(&comm, &error),
    };
    drop(comm);
    session.end(code)
}
