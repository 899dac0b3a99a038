//! Groups of ranks and their collective operations: the only module that names MPI.
//!
//! Everything collective takes a [`Comm`], never the world, so that a survey can split its ranks into groups.
//!
//! # How no rank hangs
//!
//! 1. A rank that panics or ends with an error of its own aborts the whole job ([`init`], [`Session::fail`], [`Comm::fail`]).
//!    It never finalises MPI.
//! 2. A rank-local result on which all ranks depend goes through [`Comm::agree`]: then either all have theirs, or all return
//!    the same error.
//! 3. A function is rank-local or collective, and says which. In a collective one, `?` is only for what is the same on all
//!    ranks: agreed, broadcast or reduced. No collective call depends on the rank or follows a rank-local return.
//! 4. What no rank can know from inside, a lost node or message, the watchdog finds ([`Comm::watch`]), and ends the job.

mod abort;
mod exact;
mod gradient;
mod heartbeat;
mod launch;
mod session;
mod watchdog;

use std::fmt;
use std::ops::Range;

use anyhow::Result;
use mpi::Count;
use mpi::collective::{CommunicatorCollectives, Root, SystemOperation};
use mpi::datatype::{Equivalence, Partition, PartitionMut};
use mpi::topology::{Communicator, SimpleCommunicator};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use abort::node_name;
pub use exact::ExactSum;
pub use gradient::{GradientSum, PER_SCALE};
pub use session::{Session, init};
pub use watchdog::Waiting;
use watchdog::Watchdog;

use crate::invalid::Invalid;

/// Elements of one MPI message: far below what a C int counts, which keeps scratch memory small.
const BLOCK: usize = 1 << 22;

/// The rank that reads, writes and broadcasts for all.
pub const ROOT: usize = 0;

/// A group of ranks.
pub struct Comm {
    inner: SimpleCommunicator,
    watchdog: Watchdog,
    /// Of the whole job, even in a group: groups share the GPUs of a node.
    local_rank: usize,
    local_size: usize,
}

/// An error that every rank of a group returns, with the rank that met it.
#[derive(Debug)]
pub struct AgreedError {
    pub rank: usize,
    pub message: String,
    /// Of the program: 2 for bad configuration, 1 for everything else.
    pub exit_code: i32,
}

impl fmt::Display for AgreedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for AgreedError {}

/// The exit code that an error leads to: 2 for bad configuration or usage, 1 for everything else. Rank-local.
pub fn exit_code(error: &anyhow::Error) -> i32 {
    if let Some(agreed) = error.downcast_ref::<AgreedError>() {
        agreed.exit_code
    } else if error.downcast_ref::<Invalid>().is_some() {
        2
    } else {
        1
    }
}

impl Comm {
    /// # Collective
    fn new(inner: SimpleCommunicator, watchdog: Watchdog) -> Self {
        let node = inner.split_shared(0);
        Comm { inner, watchdog, local_rank: node.rank() as usize, local_size: node.size() as usize }
    }

    /// This process's rank in the group, from 0.
    pub fn rank(&self) -> usize {
        self.inner.rank() as usize
    }

    /// The number of ranks in the group.
    pub fn size(&self) -> usize {
        self.inner.size() as usize
    }

    pub fn is_root(&self) -> bool {
        self.rank() == ROOT
    }

    /// Tells the watchdog that this rank waits in a collective call of another library, until the guard is dropped.
    pub fn waiting(&self, operation: &'static str) -> Waiting<'_> {
        self.watchdog.enter(operation)
    }

    /// The MPI handle, for parallel HDF5.
    pub fn raw(&self) -> mpi::ffi::MPI_Comm {
        use mpi::raw::AsRaw;
        self.inner.as_raw()
    }

    /// Waits for every rank.
    ///
    /// # Collective
    pub fn barrier(&self) {
        let _waiting = self.watchdog.enter("barrier");
        self.inner.barrier();
    }

    /// The group of the ranks that give the same `color`, in their order here.
    ///
    /// # Collective
    pub fn split(&self, color: usize) -> Comm {
        let _waiting = self.watchdog.enter("split");
        let part = self
            .inner
            .split_by_color_with_key(mpi::topology::Color::with_value(color as i32), 0)
            .expect("every rank has a colour");
        let (local_rank, local_size) = (self.local_rank, self.local_size);
        Comm { inner: part, watchdog: self.watchdog.clone(), local_rank, local_size }
    }

    /// This rank among the ranks of the job on its node, from 0.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// The number of ranks of the job on this node.
    pub fn local_size(&self) -> usize {
        self.local_size
    }

    /// This rank's value if every rank has one; else, on every rank, the error of the lowest rank that failed.
    ///
    /// # Collective
    /// # Errors
    /// [`AgreedError`], with the rank and its whole chain of causes.
    pub fn agree<T>(&self, local: Result<T>) -> Result<T> {
        let _waiting = self.watchdog.enter("agreement");
        let mine = if local.is_ok() { self.size() } else { self.rank() } as i32;
        let mut first = self.size() as i32;
        self.inner.all_reduce_into(&mine, &mut first, SystemOperation::min());
        if first as usize == self.size() {
            return local;
        }
        let mut report = match &local {
            Err(error) if mine == first => encode(&(format!("{error:#}"), exit_code(error))),
            _ => Vec::new(),
        };
        self.broadcast_bytes(&mut report, first as usize);
        let (message, exit_code): (String, i32) = decode(&report);
        Err(AgreedError { rank: first as usize, message, exit_code }.into())
    }

    /// The value of `work`, done on root alone; the default value on the other ranks.
    ///
    /// # Collective
    /// # Errors
    /// Those of `work`, on every rank.
    pub fn on_root<T: Default>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.agree(if self.is_root() { work() } else { Ok(T::default()) })
    }

    /// The value of `work`, done on root alone, on every rank.
    ///
    /// # Collective
    /// # Errors
    /// Those of `work`, on every rank.
    pub fn from_root<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        let found = self.is_root().then(work).transpose();
        Ok(self.broadcast(self.agree(found)?))
    }

    /// Root's value on every rank: root gives `Some`; what the others give is ignored.
    ///
    /// # Collective
    pub fn broadcast<T: Serialize + DeserializeOwned>(&self, value: Option<T>) -> T {
        let _waiting = self.watchdog.enter("broadcast");
        let mut bytes = match value {
            Some(value) if self.is_root() => encode(&value),
            _ => Vec::new(),
        };
        self.broadcast_bytes(&mut bytes, ROOT);
        decode(&bytes)
    }

    /// Root's `values` on every rank, of equal length everywhere.
    ///
    /// # Collective
    pub fn broadcast_into<T: Equivalence>(&self, values: &mut [T]) {
        let _waiting = self.watchdog.enter("broadcast");
        for block in values.chunks_mut(BLOCK) {
            self.inner.process_at_rank(ROOT as i32).broadcast_into(block);
        }
    }

    fn broadcast_bytes(&self, bytes: &mut Vec<u8>, from: usize) {
        let mut length = bytes.len() as u64;
        self.inner.process_at_rank(from as i32).broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        for block in bytes.chunks_mut(BLOCK) {
            self.inner.process_at_rank(from as i32).broadcast_into(block);
        }
    }

    /// One value of every rank, in rank order, on every rank.
    ///
    /// # Collective
    pub fn all_gather<T: Serialize + DeserializeOwned>(&self, value: &T) -> Vec<T> {
        (0..self.size())
            .map(|rank| {
                let mut bytes = if rank == self.rank() { encode(value) } else { Vec::new() };
                let _waiting = self.watchdog.enter("gather");
                self.broadcast_bytes(&mut bytes, rank);
                decode(&bytes)
            })
            .collect()
    }

    /// All ranks' values in rank order, on root; `None` on the others. A rank may have none.
    ///
    /// # Collective
    pub fn gather_bands<T: Equivalence + Default + Clone>(&self, local: &[T]) -> Option<Vec<T>> {
        let _waiting = self.watchdog.enter("gather of a map");
        let root = self.inner.process_at_rank(ROOT as i32);
        let lengths = self.all_gather(&(local.len() as u64));
        let total: u64 = lengths.iter().sum();
        // Rounds keep every count and displacement within a C int.
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        let per_round = BLOCK.min(i32::MAX as usize / self.size());
        let mut gathered = self.is_root().then(|| vec![T::default(); total as usize]);
        for from in (0..longest).step_by(per_round) {
            let piece = |length: u64| from.min(length as usize)..(from + per_round).min(length as usize);
            let mine = &local[piece(local.len() as u64)];
            let Some(gathered) = gathered.as_mut() else {
                root.gather_varcount_into(mine);
                continue;
            };
            let counts: Vec<Count> = lengths.iter().map(|&n| piece(n).len() as Count).collect();
            let starts: Vec<Count> = counts.iter().scan(0, |sum, &n| Some(std::mem::replace(sum, *sum + n))).collect();
            let mut round = vec![T::default(); counts.iter().sum::<Count>() as usize];
            root.gather_varcount_into_root(mine, &mut PartitionMut::new(&mut round[..], counts, starts));
            let (mut taken, mut start) = (&round[..], 0);
            for &length in &lengths {
                let here = piece(length);
                let (own, rest) = taken.split_at(here.len());
                gathered[start + here.start..start + here.end].clone_from_slice(own);
                taken = rest;
                start += length as usize;
            }
        }
        gathered
    }

    /// Sends the range `sent[rank]` of `values` to each rank, and returns what arrived, in rank order: `received[rank]`
    /// values from each.
    ///
    /// # Collective
    pub fn exchange<T: Equivalence + Default + Clone>(
        &self,
        values: &[T],
        sent: &[Range<usize>],
        received: &[usize],
    ) -> Vec<T> {
        let _waiting = self.watchdog.enter("exchange of lines");
        let count = |n: usize| Count::try_from(n).expect("a band has fewer than 2^31 pixels");
        let counts: Vec<Count> = sent.iter().map(|range| count(range.len())).collect();
        let starts: Vec<Count> = sent.iter().map(|range| count(range.start)).collect();
        let sent = Partition::new(values, counts, starts);
        let mut next = 0;
        let starts = received.iter().map(|&n| {
            next += n;
            count(next - n)
        });
        let starts: Vec<Count> = starts.collect();
        let counts: Vec<Count> = received.iter().map(|&n| count(n)).collect();
        let mut arrived = vec![T::default(); next];
        let mut parts = PartitionMut::new(&mut arrived[..], counts, starts);
        self.inner.all_to_all_varcount_into(&sent, &mut parts);
        arrived
    }

    /// Sums integers over ranks, in place: exact, so the same for any order and grouping.
    ///
    /// # Collective
    pub fn sum_i64(&self, values: &mut [i64]) {
        self.all_reduce("sum", values, SystemOperation::sum());
    }

    /// The sum over ranks of one count.
    ///
    /// # Collective
    pub fn sum_u64(&self, value: u64) -> u64 {
        let mut values = [value as i64];
        self.sum_i64(&mut values);
        values[0] as u64
    }

    /// The largest over ranks, NaN ignored.
    ///
    /// # Collective
    pub fn max_f64(&self, value: f64) -> f64 {
        let mut values = [if value.is_nan() { f64::NEG_INFINITY } else { value }];
        self.all_reduce("maximum", &mut values, SystemOperation::max());
        values[0]
    }

    /// Replaces each value by the largest over ranks; none may be NaN.
    ///
    /// # Collective
    pub fn max_each_f64(&self, values: &mut [f64]) {
        self.all_reduce("maximum", values, SystemOperation::max());
    }

    /// The largest over ranks.
    ///
    /// # Collective
    pub fn max_u64(&self, value: u64) -> u64 {
        let mut values = [value];
        self.all_reduce("maximum", &mut values, SystemOperation::max());
        values[0]
    }

    /// True on every rank if it is true on any.
    ///
    /// # Collective
    pub fn any(&self, flag: bool) -> bool {
        self.max_u64(flag as u64) == 1
    }

    fn all_reduce<T>(&self, operation: &'static str, values: &mut [T], op: SystemOperation)
    where
        T: Equivalence + Clone,
    {
        let _waiting = self.watchdog.enter(operation);
        let mut scratch = values[..values.len().min(BLOCK)].to_vec();
        for block in values.chunks_mut(BLOCK) {
            let out = &mut scratch[..block.len()];
            self.inner.all_reduce_into(&*block, out, op);
            block.clone_from_slice(out);
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("messages between ranks have plain types")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> T {
    postcard::from_bytes(bytes).expect("every rank runs the same program")
}
