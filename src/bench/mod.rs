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

/// Prints `figures` on root as JSON: on one line if `json`, else indented. Rank-local.
fn print<T: Serialize>(comm: &Comm, figures: &T, json: bool) {
    if !comm.is_root() {
        return;
    }
    let text = if json { serde_json::to_string(figures) } else { serde_json::to_string_pretty(figures) };
    println!("{}", text.expect("figures are plain JSON"));
}

/// The upper median of `values`; NaN of none.
fn median(values: Vec<f64>) -> f64 {
    crate::spectrum::median(values, crate::spectrum::Middle::Upper)
}
