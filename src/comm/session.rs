//! The start and end of the MPI job: a rank that fails ends it on all ranks.

use std::panic::{self, PanicHookInfo};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::Communicator;

use super::watchdog::Watchdog;
use super::{AgreedError, Comm, exit_code};

/// MPI from initialisation to finalisation; dropping it finalises, so it must outlive every [`Comm`].
pub struct Session {
    universe: Universe,
}

/// Starts MPI with full thread support and makes any panic end the whole job.
///
/// # Collective
/// # Errors
/// MPI grants less than `MPI_THREAD_MULTIPLE`, or was started before.
/// # Source
/// MPI 3.1 sec. 12.4.3
pub fn init() -> Result<Session> {
    let given = |name: &str| std::env::var(name).ok();
    if given("OMPI_MCA_pml").is_none() && is_on_one_node(given) {
        // Ranks of one node communicate through its memory. For `cm` Open MPI would load libraries for clusters' fabrics, of
        // which libpsm and libpsm2 spend 0.1 s each on timing the processor's clock.
        // SAFETY: MPI is not started, and no other thread runs yet.
        unsafe { std::env::set_var("OMPI_MCA_pml", "^cm") };
    }
    if given("OMPI_MCA_sharedfp").is_none() {
        // Open MPI's files of shared pointers end the job where a path is long, and nothing here uses them.
        // SAFETY: as above.
        unsafe { std::env::set_var("OMPI_MCA_sharedfp", "^lockedfile") };
    }
    // SAFETY: a query that takes a plain number.
    let cores = usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(usize::MAX);
    if given("OMPI_MCA_mpi_yield_when_idle").is_none() && local_ranks(given).is_some_and(|ranks| ranks > cores) {
        // A rank that waits would keep its core from the one that it waits for. mpirun sees to that itself, srun does not.
        // SAFETY: as above.
        unsafe { std::env::set_var("OMPI_MCA_mpi_yield_when_idle", "1") };
    }
    let (universe, threading) =
        mpi::initialize_with_threading(Threading::Multiple).context("MPI was started twice in one process")?;
    if threading != Threading::Multiple {
        bail!(
            "MPI grants {threading:?} but THREAD_MULTIPLE is needed: load an MPI built with thread support \
             (Open MPI: `ompi_info | grep THREAD_MULTIPLE`)"
        );
    }
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        end_if_output_fails(info);
        print(info);
        abort(1);
    }));
    Ok(Session { universe })
}

/// Ends the program as command-line tools do where `println!` panics because nobody reads its output, or a disk is full.
fn end_if_output_fails(info: &PanicHookInfo) {
    let message = info.payload().downcast_ref::<String>();
    let Some(reason) = message.and_then(|text| text.strip_prefix("failed printing to stdout: ")) else { return };
    if !reason.starts_with("Broken pipe") {
        eprintln!("coreloss: error: cannot print: {reason}");
    }
    match mpi::topology::SimpleCommunicator::world().size() {
        1 => std::process::exit(1),
        _ => abort(1),
    }
}

/// The ranks of this node, by the launcher's environment variables, which `given` looks up; of Slurm's first node.
fn local_ranks(given: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let text = given("OMPI_COMM_WORLD_LOCAL_SIZE").or(given("SLURM_STEP_TASKS_PER_NODE"))?;
    // As `2(x3),1`: two on each of three nodes, then one.
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether all ranks of the job share a node, by the launcher's environment variables, which `given` looks up.
fn is_on_one_node(given: impl Fn(&str) -> Option<String>) -> bool {
    if let Some(ranks) = given("OMPI_COMM_WORLD_SIZE") {
        return given("OMPI_COMM_WORLD_LOCAL_SIZE") == Some(ranks);
    }
    match given("SLURM_STEP_NUM_NODES") {
        Some(nodes) => nodes == "1",
        // Without a launcher there is one process.
        None => given("PMIX_RANK").or(given("PMI_RANK")).is_none(),
    }
}

impl Session {
    /// All ranks of the job, on a communicator of the program's own.
    ///
    /// # Collective
    pub fn comm(&self) -> Comm {
        Comm::new(self.universe.world().duplicate(), Watchdog::default())
    }
}

impl Comm {
    /// Prints the error and ends the job on every rank.
    ///
    /// Root prints an agreed error; one that only this rank knows is printed here.
    pub fn fail(&self, error: &anyhow::Error) -> ! {
        if mpi::topology::SimpleCommunicator::world().size() == 1 {
            // No rank waits, and MPI's words on an abort would only hide the error.
            eprintln!("coreloss: error: {error:#}");
            std::process::exit(exit_code(error));
        }
        let agreed = error.downcast_ref::<AgreedError>();
        if agreed.is_none() && !self.is_root() {
            // All ranks may have met it at once: then root prints it, and the job ends during this pause.
            std::thread::sleep(Duration::from_millis(300));
        }
        if agreed.is_none() || self.is_root() {
            let rank = agreed.map_or(self.rank(), |agreed| agreed.rank);
            eprintln!("coreloss: error on rank {rank} of {}: {error:#}", self.size());
        } else {
            // Root prints it and ends the job; this rank only makes sure of the end.
            std::thread::sleep(Duration::from_secs(5));
        }
        abort(exit_code(error))
    }

    /// Logs the operation that this rank waits in, every `seconds` that the wait lasts; 0 turns it off.
    pub fn watch(&self, seconds: u64) {
        self.watchdog.start(self.rank(), seconds);
    }
}

fn abort(code: i32) -> ! {
    mpi::topology::SimpleCommunicator::world().abort(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> bool {
        is_on_one_node(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn the_ranks_of_a_node_are_counted() {
        let of = |name: &'static str, value: &'static str| local_ranks(|asked| (asked == name).then(|| value.into()));
        assert_eq!(of("OMPI_COMM_WORLD_LOCAL_SIZE", "4"), Some(4));
        assert_eq!(of("SLURM_STEP_TASKS_PER_NODE", "12(x2),3"), Some(12));
        assert_eq!(of("PMIX_RANK", "0"), None);
    }

    #[test]
    fn one_node_is_distinguished_from_many() {
        assert!(with(&[]));
        let mpirun = |local| [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_LOCAL_SIZE", local)];
        assert!(with(&mpirun("4")));
        assert!(!with(&mpirun("2")));
        assert!(with(&[("SLURM_STEP_NUM_NODES", "1"), ("PMIX_RANK", "0")]));
        assert!(!with(&[("SLURM_STEP_NUM_NODES", "2"), ("PMIX_RANK", "0")]));
        assert!(!with(&[("PMI_RANK", "3")]));
    }
}
