//! How ranks know of each other while they wait: root's watchdog exchanges small messages with those of the other ranks.
//!
//! A message is sent only when the one before was answered, so that at most one is on its way in each direction, however long
//! a rank is out of reach.

use mpi::point_to_point::{Destination, Source};
use mpi::topology::{Communicator, SimpleCommunicator};
use serde::{Deserialize, Serialize};

use super::{ROOT, decode, encode};

/// Bytes of a message; longer names of operations are cut.
const BYTES: usize = 96;
const MOST_OF_NAME: usize = 64;

/// What a rank says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// Seconds since it last did any work.
    pub idle_s: u32,
    /// The collective operation that it is in, if any.
    pub operation: Option<String>,
}

/// What is known of another rank.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Seconds since its last message.
    pub silent_s: u32,
    pub last: Beat,
}

/// What this rank knows of all.
pub(super) struct Ranks {
    rank: usize,
    /// The node of each rank.
    nodes: Vec<String>,
    /// Of every rank on root, of root alone on the others; by rank.
    heard: Vec<Heard>,
}

/// The watchdogs' own communicator.
pub(super) struct Line {
    comm: SimpleCommunicator,
    pub ranks: Ranks,
    /// Whether root has yet to answer.
    unanswered: bool,
    since_sent: u32,
}

// SAFETY: MPI was started with MPI_THREAD_MULTIPLE, and the thread that a line is given to is the only one to use it.
unsafe impl Send for Line {}

impl Line {
    /// # Collective
    pub fn new(comm: &SimpleCommunicator, nodes: Vec<String>) -> Line {
        let heard = vec![Heard::default(); nodes.len()];
        let ranks = Ranks { rank: comm.rank() as usize, nodes, heard };
        Line { comm: comm.duplicate(), ranks, unanswered: false, since_sent: 0 }
    }

    /// Bytes that MPI has to be given for messages on their way.
    pub fn buffer_bytes(ranks: usize) -> usize {
        // MPI_BSEND_OVERHEAD is 128 in Open MPI.
        ranks * (BYTES + 256)
    }

    /// Tells and hears, once a second: to be called each time that one has passed. Rank-local.
    pub fn exchange(&mut self, mine: &Beat) {
        let rank = self.ranks.rank;
        for heard in &mut self.ranks.heard {
            heard.silent_s += 1;
        }
        self.ranks.heard[rank] = Heard { silent_s: 0, last: mine.clone() };
        self.since_sent += 1;
        // Root hears at most 64 ranks a second.
        if rank != ROOT && !self.unanswered && self.since_sent > self.ranks.nodes.len() as u32 / 64 {
            self.send(mine, ROOT);
            (self.unanswered, self.since_sent) = (true, 0);
        }
        while let Some((message, status)) = self.comm.any_process().immediate_matched_probe() {
            let mut bytes = [0u8; BYTES];
            message.matched_receive_into(&mut bytes[..]);
            let from = status.source_rank() as usize;
            self.ranks.heard[from] = Heard { silent_s: 0, last: decode(&bytes) };
            match rank {
                ROOT => self.send(mine, from),
                _ => self.unanswered = false,
            }
        }
    }

    fn send(&self, beat: &Beat, to: usize) {
        let mut beat = beat.clone();
        if let Some(operation) = &mut beat.operation {
            operation.truncate(MOST_OF_NAME);
        }
        let mut bytes = encode(&beat);
        bytes.resize(BYTES, 0);
        // Copied by MPI, which never waits for the other side here.
        self.comm.process_at_rank(to as i32).buffered_send(&bytes[..]);
    }
}

impl Ranks {
    /// Why the job cannot go on, if that has been so for `limit` seconds: a rank is out of reach, or none does any work.
    pub fn lost(&self, limit: u32) -> Option<String> {
        let known = || self.heard.iter().enumerate().filter(|&(rank, _)| self.rank == ROOT || rank == ROOT);
        let mine = self.heard[self.rank].last.operation.as_deref().unwrap_or("no operation");
        let silent: Vec<String> =
            known().filter(|(_, heard)| heard.silent_s >= limit).map(|(rank, heard)| self.name(rank, heard)).collect();
        if !silent.is_empty() {
            return Some(format!(
                "no sign for {limit} s of {}; rank {} waits in: {mine}; is that node, or its network, down?",
                silent.join("; "),
                self.rank
            ));
        }
        // Only root hears of all.
        if self.rank != ROOT || !known().all(|(_, heard)| heard.last.idle_s >= limit) {
            return None;
        }
        let others = known().filter(|(_, heard)| heard.last.operation.as_deref() != Some(mine));
        let others: Vec<String> = others.map(|(rank, heard)| self.name(rank, heard)).collect();
        Some(match others.is_empty() {
            true => format!("no rank has done any work for {limit} s: all wait in: {mine}; was a message lost?"),
            false => {
                format!("no rank has done any work for {limit} s: rank 0 waits in: {mine}, and {}", others.join("; "))
            }
        })
    }

    /// Which other ranks are not in `operation`, where this is root, which alone hears of all.
    pub fn elsewhere(&self, operation: &str) -> Option<String> {
        let heard = self.heard.iter().enumerate().skip(1).filter(|_| self.rank == ROOT);
        let others = heard.filter(|(_, heard)| heard.last.operation.as_deref() != Some(operation));
        let others: Vec<String> = others.map(|(rank, heard)| self.name(rank, heard)).collect();
        (!others.is_empty()).then(|| format!("elsewhere are: {}", others.join("; ")))
    }

    fn name(&self, rank: usize, heard: &Heard) -> String {
        let at = match &heard.last.operation {
            Some(operation) => format!("last in: {operation}"),
            None => "in no collective operation".into(),
        };
        format!("rank {rank} on {} ({at})", self.nodes[rank])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of silence and of idleness of each rank, and the operation that it is in.
    fn lost(rank: usize, ranks: &[(u32, u32, &str)]) -> Option<String> {
        let heard = ranks.iter().map(|&(silent_s, idle_s, operation)| {
            let operation = Some(operation.to_string()).filter(|name| !name.is_empty());
            Heard { silent_s, last: Beat { idle_s, operation } }
        });
        let nodes = (0..ranks.len()).map(|rank| format!("node{rank}")).collect();
        Ranks { rank, nodes, heard: heard.collect() }.lost(300)
    }

    #[test]
    fn a_silent_rank_is_lost_and_one_that_computes_is_not() {
        assert_eq!(lost(0, &[(0, 900, "sum"), (1, 0, ""), (1, 900, "sum")]), None);
        let said = lost(0, &[(0, 900, "sum"), (300, 2, ""), (1, 900, "sum")]).unwrap();
        assert!(
            said.starts_with(
                "no sign for 300 s of rank 1 on node1 (in no collective operation); rank 0 waits in: sum;"
            )
        );
        // The other ranks hear of root alone.
        assert_eq!(lost(2, &[(1, 900, "sum"), (900, 0, ""), (0, 900, "sum")]), None);
        assert!(lost(2, &[(300, 0, "sum"), (900, 0, ""), (0, 900, "sum")]).unwrap().contains("of rank 0 on node0"));
    }

    #[test]
    fn ranks_of_which_none_works_have_lost_a_message() {
        let said = lost(0, &[(0, 300, "sum"), (1, 300, "sum")]).unwrap();
        assert!(said.contains("all wait in: sum"), "{said}");
        let said = lost(0, &[(0, 300, "sum"), (1, 300, "broadcast")]).unwrap();
        assert!(said.contains("rank 0 waits in: sum, and rank 1 on node1 (last in: broadcast)"), "{said}");
        assert_eq!(lost(0, &[(0, 300, "sum"), (1, 299, "sum")]), None);
    }

    #[test]
    fn a_message_holds_the_longest_name() {
        let beat = Beat { idle_s: u32::MAX, operation: Some("x".repeat(MOST_OF_NAME)) };
        let mut bytes = encode(&beat);
        assert!(bytes.len() <= BYTES);
        bytes.resize(BYTES, 0);
        assert_eq!(decode::<Beat>(&bytes), beat);
    }
}
