//! Work distributed over ranks: item by item, or task by task over groups of ranks.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use super::schedule::num_groups;
use crate::comm::Comm;
use crate::ending::Ending;

/// The results of `work` on each of `items`, in order and on every rank; each rank works on its share.
///
/// # Collective
pub fn map_over_ranks<T, R: Serialize + for<'a> Deserialize<'a>>(
    comm: &Comm,
    items: &[T],
    work: impl Fn(&T) -> R,
) -> Vec<R> {
    let (rank, size) = (comm.rank(), comm.size());
    let mine: Vec<R> = items.iter().skip(rank).step_by(size).map(work).collect();
    let mut all: Vec<_> = comm.all_gather(&mine).into_iter().map(Vec::into_iter).collect();
    let next = |i: usize| all[i % size].next().expect("each rank did its share");
    (0..items.len()).map(next).collect()
}

/// Has groups of ranks go through the tasks `0..costs.len()`, the dearest first. `work` is collective over a group, and called
/// for every task by every group: claims keep two groups from the same one. True where a signal ended it.
///
/// # Collective
/// # Errors
/// Those of `work`, which end the job.
pub fn in_groups(
    comm: &Comm,
    costs: &[f64],
    stop: &AtomicBool,
    mut work: impl FnMut(&Comm, usize) -> Result<Ending>,
) -> Result<bool> {
    let groups = num_groups(costs, comm.size());
    if comm.is_root() && !costs.is_empty() {
        log::info!("{} tasks for {groups} groups of ranks", costs.len());
    }
    let group = comm.split(comm.rank() * groups / comm.size());
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| costs[b].total_cmp(&costs[a]));
    let mut stopped = false;
    for i in order {
        if group.any(stop.load(Ordering::Relaxed)) {
            stopped = true;
            break;
        }
        // The group agrees on it, the others do not: the error must end the job.
        match work(&group, i).map_err(|error| anyhow!("{error:#}"))? {
            Ending::Stopped => {
                stopped = true;
                break;
            }
            Ending::Done | Ending::SomeSetAside => (),
        }
    }
    Ok(comm.any(stopped))
}
