//! Groups of ranks and what they say to each other: the only module that names MPI.
//!
//! Everything collective takes a [`Comm`], never the world, so that a survey can split its ranks into groups.
//! No rank may hang: a rank that fails ends the job ([`Session`]), and a decision that all must share is
//! [agreed](Comm::agree) before anyone acts on it.

mod exact;
mod gradient;
mod nccl;
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

pub use exact::ExactSum;
pub use gradient::GradientSum;
pub use nccl::{Nccl, Operation, Values};
pub use session::{Session, init};
use watchdog::{Waiting, Watchdog};

use crate::invalid::Invalid;

/// Elements of one MPI message: counts are C ints, and smaller blocks keep the scratch memory small.
const BLOCK: usize = 1 << 22;

/// The rank whose word is broadcast.
pub const ROOT: usize = 0;

/// A group of ranks.
pub struct Comm {
    inner: SimpleCommunicator,
    watchdog: Watchdog,
    /// Place on, and ranks of, the node: of the whole job, so that groups of ranks share its GPUs out.
    node: (usize, usize),
}

/// An error that every rank of a group returns alike, with the rank that met it.
#[derive(Debug)]
pub struct AgreedError {
    pub rank: usize,
    pub message: String,
    /// The exit code of the program: 2 for bad configuration, 1 for all else.
    pub exit_code: i32,
}

impl fmt::Display for AgreedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for AgreedError {}

/// The exit code that an error leads to: 2 for bad configuration or usage, 1 for all else. Rank-local.
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
        let node = (node.rank() as usize, node.size() as usize);
        Comm { inner, watchdog, node }
    }

    /// This process's place in the group, from 0.
    pub fn rank(&self) -> usize {
        self.inner.rank() as usize
    }

    /// Ranks in the group.
    pub fn size(&self) -> usize {
        self.inner.size() as usize
    }

    pub fn is_root(&self) -> bool {
        self.rank() == ROOT
    }

    /// Tells the watchdog that this rank is in a collective call of another library, until the result is dropped.
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

    /// The group's ranks of one `color`, in the same order.
    ///
    /// # Collective
    pub fn split(&self, color: usize) -> Comm {
        let _waiting = self.watchdog.enter("split");
        let part = self
            .inner
            .split_by_color_with_key(mpi::topology::Color::with_value(color as i32), 0)
            .expect("every rank has a colour");
        Comm { inner: part, watchdog: self.watchdog.clone(), node: self.node }
    }

    /// This rank's place among, and the number of, the ranks of the job that share its node.
    pub fn local_rank(&self) -> (usize, usize) {
        self.node
    }

    /// Every rank's success, or on every rank the error of the lowest rank that failed.
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

    /// What `work` comes to on root alone, the default value on the other ranks; every rank knows whether it failed.
    ///
    /// # Collective
    /// # Errors
    /// Those of `work`, as [`agree`](Self::agree) has them.
    pub fn on_root<T: Default>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.agree(if self.is_root() { work() } else { Ok(T::default()) })
    }

    /// What `work` comes to on root alone, on every rank.
    ///
    /// # Collective
    /// # Errors
    /// Those of `work`, as [`agree`](Self::agree) has them.
    pub fn from_root<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        let found = self.is_root().then(work).transpose();
        Ok(self.broadcast(self.agree(found)?))
    }

    /// Root's value on every rank; root gives `Some`, the value of the others is not looked at.
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

    /// Root's `values` on every rank; equal lengths everywhere.
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

    /// The ranks' pieces one after the other, on root; `None` on the others. A rank may have nothing.
    ///
    /// # Collective
    pub fn gather_bands<T: Equivalence + Default + Clone>(&self, local: &[T]) -> Option<Vec<T>> {
        let _waiting = self.watchdog.enter("gather of a map");
        let root = self.inner.process_at_rank(ROOT as i32);
        let lengths = self.all_gather(&(local.len() as u64));
        let total: u64 = lengths.iter().sum();
        // Rounds keep every count and displacement below what a C int can say.
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

    /// Sends the range `sent[rank]` of `values` to each rank, and gives what came, in rank order: `received[rank]` values of
    /// each.
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
        let mut came = vec![T::default(); next];
        let mut parts = PartitionMut::new(&mut came[..], counts, starts);
        self.inner.all_to_all_varcount_into(&sent, &mut parts);
        came
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

    /// The largest over ranks; NaN counts as nothing.
    ///
    /// # Collective
    pub fn max_f64(&self, value: f64) -> f64 {
        let mut values = [if value.is_nan() { f64::NEG_INFINITY } else { value }];
        self.all_reduce("maximum", &mut values, SystemOperation::max());
        values[0]
    }

    /// The largest over ranks.
    ///
    /// # Collective
    pub fn max_u64(&self, value: u64) -> u64 {
        let mut values = [value];
        self.all_reduce("maximum", &mut values, SystemOperation::max());
        values[0]
    }

    /// True on every rank if it is on any.
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
