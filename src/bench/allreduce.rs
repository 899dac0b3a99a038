//! `coreloss bench allreduce`: the sum of gradients over ranks, next to a bare MPI_Allreduce of as many bytes.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{median, print};
use crate::comm::{Comm, GradientSum};

/// Sizes of the gradients, MiB.
const MIB: [usize; 4] = [1, 4, 16, 64];
/// Rounds; the first `WARM_UP` of them do not count.
const ROUNDS: usize = 12;
const WARM_UP: usize = 2;

/// What to measure.
#[derive(Args)]
pub struct AllreduceBench {
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Figures {
    what: &'static str,
    ranks: usize,
    threads: usize,
    sizes: Vec<Size>,
}

/// Medians for a gradient of `mib` MiB of f32, one micro-batch on each rank; the ways take turns.
#[derive(Serialize)]
struct Size {
    mib: usize,
    /// A bare MPI_Allreduce of the floats.
    bare_ms: f64,
    bare_gb_per_s: f64,
    /// `train.reduction: fast` and `exact`, rounding included.
    fast_ms: f64,
    exact_ms: f64,
    /// Bandwidth relative to the bare one: the median over rounds.
    fast_ratio: f64,
    exact_ratio: f64,
}

/// Times the sums for gradients of several sizes.
///
/// # Collective
/// # Errors
/// None.
pub fn allreduce(comm: &Comm, json: bool) -> Result<()> {
    let sizes = MIB.iter().map(|&mib| time(comm, mib)).collect();
    let figures = Figures { what: "allreduce", ranks: comm.size(), threads: rayon::current_num_threads(), sizes };
    print(comm, &figures, json);
    Ok(())
}

/// Times the sums for one size.
///
/// # Collective
fn time(comm: &Comm, mib: usize) -> Size {
    let count = mib << 18;
    let gradient = vec![1f32; count];
    let mut total = vec![0f32; count];
    let mut sum = GradientSum::new(count, comm.size());
    let mut seconds = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for (way, seconds) in seconds.iter_mut().enumerate() {
            comm.barrier();
            let begun = Instant::now();
            match way {
                0 => sum.ranks_only(comm, &gradient, &mut total),
                1 => sum.fast(comm, &[&gradient], &mut total),
                _ => sum.exact(comm, &[&gradient], &mut total),
            }
            if round >= WARM_UP {
                seconds.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    let [bare, fast, exact] = &seconds;
    let ratio = |way: &[f64]| median(bare.iter().zip(way).map(|(bare, way)| bare / way).collect());
    let (fast_ratio, exact_ratio) = (ratio(fast), ratio(exact));
    let [bare, fast, exact] = seconds.map(median);
    Size {
        mib,
        bare_ms: 1e3 * bare,
        bare_gb_per_s: (mib << 20) as f64 / bare / 1e9,
        fast_ms: 1e3 * fast,
        exact_ms: 1e3 * exact,
        fast_ratio,
        exact_ratio,
    }
}
