//! The start and end of the MPI job: a rank that fails ends it on all ranks.
//!
//! What a rank prints has a way to go, on many nodes, and an abort may overtake it. So a job in which all ranks fail together
//! ends as one that is done does, and before any other end there is a pause.

use std::io::Write;
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mpi::Threading;
use mpi::collective::CommunicatorCollectives;
use mpi::environment::Universe;
use mpi::request::{Request, StaticScope};
use mpi::topology::{Communicator, SimpleCommunicator};

use super::abort::{self, PAUSE, abort, abort_after_pause, node_name};
use super::heartbeat::Line;
use super::launch::choose_parameters;
use super::watchdog::{Patience, Watchdog};
use super::{AgreedError, Comm, ROOT, exit_code};

/// Time in which all ranks meet that return the same error.
const MEETING: Duration = Duration::from_secs(5);

/// MPI from initialisation to finalisation; dropping it finalises, so it must outlive every [`Comm`].
pub struct Session {
    /// On which ranks that fail meet.
    meeting: SimpleCommunicator,
    watchdog: Watchdog,
    /// The last to be dropped.
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
    choose_parameters();
    let watchdog = Watchdog::start();
    let starts = watchdog.enter("the start of MPI");
    let (mut universe, threading) =
        mpi::initialize_with_threading(Threading::Multiple).context("MPI was started twice in one process")?;
    abort::mpi_runs();
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
        abort_after_pause(1);
    }));
    universe.set_buffer_size(Line::buffer_bytes(universe.world().size() as usize));
    let meeting = universe.world().duplicate();
    drop(starts);
    Ok(Session { meeting, watchdog, universe })
}

/// Ends the program as command-line tools do where `println!` panics because nobody reads its output, or a disk is full.
fn end_if_output_fails(info: &PanicHookInfo) {
    let message = info.payload().downcast_ref::<String>();
    let Some(reason) = message.and_then(|text| text.strip_prefix("failed printing to stdout: ")) else { return };
    if !reason.starts_with("Broken pipe") {
        eprintln!("coreloss: error: cannot print: {reason}");
    }
    match SimpleCommunicator::world().size() {
        1 => std::process::exit(1),
        _ => abort_after_pause(1),
    }
}

impl Session {
    /// All ranks of the job, on a communicator of the program's own.
    ///
    /// # Collective
    pub fn comm(&self) -> Comm {
        let _waiting = self.watchdog.enter("the first exchange of all ranks");
        Comm::new(self.universe.world().duplicate(), self.watchdog.clone())
    }

    /// Prints the error that a command ended with, and returns its exit code if every rank ends with one; else ends the job.
    ///
    /// Root prints an agreed error; one that only this rank knows is printed here.
    pub fn fail(&self, comm: &Comm, error: &anyhow::Error) -> u8 {
        let code = exit_code(error);
        let agreed = error.is::<AgreedError>();
        let mut meeting = Meeting::of(&self.meeting);
        // All ranks may have met it at once: then root prints it.
        if comm.is_root() || !agreed && !meeting.is_complete_within(PAUSE) {
            comm.print(error);
        }
        if !meeting.is_complete_within(if agreed { MEETING } else { PAUSE }) {
            abort(code);
        }
        u8::try_from(code).unwrap_or(1)
    }

    /// Ends MPI, and returns what `main` does for the exit code on which all ranks agree. On the other ranks than root it ends
    /// the process.
    ///
    /// A launcher kills what is left of a job when a rank ends with another code than 0, and then tells of the kill. So only
    /// root has the code, and leaves last.
    ///
    /// # Collective
    pub fn end(self, code: u8) -> ExitCode {
        let world = self.universe.world();
        let (is_root, is_alone) = (world.rank() == ROOT as i32, world.size() == 1);
        drop(self);
        if !is_root {
            // What a library does when a process ends takes time, in which root could leave first.
            let _ = std::io::stdout().flush();
            // SAFETY: it ends the process; files are closed, and MPI is finalised.
            unsafe { libc::_exit(0) }
        }
        if code != 0 && !is_alone {
            std::thread::sleep(PAUSE);
        }
        ExitCode::from(code)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watchdog.stop();
    }
}

/// Waits for all ranks that can be given up.
struct Meeting(Option<Request<'static, (), StaticScope>>);

impl Meeting {
    fn of(comm: &SimpleCommunicator) -> Meeting {
        Meeting(Some(comm.immediate_barrier()))
    }

    fn is_complete_within(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while let Some(request) = self.0.take() {
            self.0 = request.test().err();
            if Instant::now() > end {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.0.is_none()
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        // A request that is dropped while it is under way would panic; the job ends without it.
        if let Some(request) = self.0.take() {
            std::mem::forget(request);
        }
    }
}

impl Comm {
    /// Prints the error and ends the job on every rank, at once: for what leaves other ranks inside a collective call.
    ///
    /// Root prints an agreed error; one that only this rank knows is printed here.
    pub fn fail(&self, error: &anyhow::Error) -> ! {
        self.fail_with(error, || ())
    }

    /// As [`Comm::fail`]; the rank that prints calls `last_words` before it ends the job.
    pub fn fail_with(&self, error: &anyhow::Error, last_words: impl FnOnce()) -> ! {
        if SimpleCommunicator::world().size() == 1 {
            // No rank waits, and MPI's words on an abort would only hide the error.
            self.print(error);
            last_words();
            std::process::exit(exit_code(error));
        }
        let agreed = error.is::<AgreedError>();
        if !self.is_root() {
            // Root may have met it too: then it prints it and ends the job during this pause.
            std::thread::sleep(if agreed { MEETING } else { PAUSE });
        }
        if self.is_root() || !agreed {
            self.print(error);
            last_words();
        }
        abort_after_pause(exit_code(error))
    }

    fn print(&self, error: &anyhow::Error) {
        if SimpleCommunicator::world().size() == 1 {
            return eprintln!("coreloss: error: {error:#}");
        }
        let rank = error.downcast_ref::<AgreedError>().map_or(self.rank(), |agreed| agreed.rank);
        eprintln!("coreloss: error on rank {rank} of {}: {error:#}", self.size());
    }

    /// Has the watchdog know the other ranks. It logs the operation that this rank waits in, every `log_s` seconds that the
    /// wait lasts, and ends the job when for `end_s` seconds a rank is out of reach or none does any work; 0 turns either off.
    ///
    /// # Collective
    /// Called once, with all ranks of the job.
    pub fn watch(&self, log_s: u64, end_s: u64) {
        let line = (self.size() > 1).then(|| Line::new(&self.inner, self.all_gather(&node_name())));
        self.watchdog.watch(Patience { log_s, end_s }, line);
    }
}
