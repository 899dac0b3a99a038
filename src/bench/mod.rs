//! What this machine makes of the program: each benchmark ends with one line of JSON on stdout.

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

/// Root prints `findings` as the last line of stdout, in one line for programs or several for people. Rank-local.
fn print<T: Serialize>(comm: &Comm, findings: &T, json: bool) {
    if !comm.is_root() {
        return;
    }
    let text = if json { serde_json::to_string(findings) } else { serde_json::to_string_pretty(findings) };
    println!("{}", text.expect("figures are plain JSON"));
}

/// The upper median of `values`; NaN of none.
fn median(values: Vec<f64>) -> f64 {
    crate::spectrum::median(values, crate::spectrum::Middle::Upper)
}
