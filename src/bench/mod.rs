//! Benchmarks of the program's parts on this machine; each prints its figures as JSON at the end of stdout.

mod allreduce;
mod io;
mod pca;
mod reconstruct;
mod train;

use serde::Serialize;

use crate::comm::Comm;

pub use allreduce::{AllreduceBench, allreduce};
pub use io::{IoBench, io};
pub use pca::{PcaBench, pca};
pub use reconstruct::{ReconstructBench, reconstruct};
pub use train::{TrainBench, train};

/// Prints `findings` on root as JSON: on one line if `json`, else indented. Rank-local.
fn print<T: Serialize>(comm: &Comm, findings: &T, json: bool) {
    if !comm.is_root() {
        return;
    }
    let text = if json { serde_json::to_string(findings) } else { serde_json::to_string_pretty(findings) };
    println!("{}", text.expect("figures are plain JSON"));
}

/// The middle of `values`, the upper one of two; NaN where there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
