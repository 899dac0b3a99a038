//! How one rank ends the job on all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mpi::topology::{Communicator, SimpleCommunicator};

/// Time in which what was printed here arrives at the launcher; an abort may overtake it.
pub(super) const PAUSE: Duration = Duration::from_millis(300);

static MPI_RUNS: AtomicBool = AtomicBool::new(false);

/// The name of this node.
pub fn node_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or("?".into(), |name| name.trim().to_string())
}

/// From now on a job is ended by MPI.
pub(super) fn mpi_runs() {
    MPI_RUNS.store(true, Ordering::Relaxed);
}

/// Ends the job on every rank, from any thread, also while MPI starts.
pub(super) fn end_job(why: &str, code: i32) -> ! {
    let node = node_name();
    if !MPI_RUNS.load(Ordering::Relaxed) {
        eprintln!("coreloss: error on {node}: {why}");
        std::process::exit(code);
    }
    let world = SimpleCommunicator::world();
    eprintln!("coreloss: error on rank {} of {}, {node}: {why}", world.rank(), world.size());
    abort_after_pause(code)
}

/// Ends the job once what was printed has had time to arrive.
pub(super) fn abort_after_pause(code: i32) -> ! {
    std::thread::sleep(PAUSE);
    abort(code)
}

/// Ends the job on every rank.
pub(super) fn abort(code: i32) -> ! {
    SimpleCommunicator::world().abort(code)
}
