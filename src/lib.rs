//! Finds anomalous spectra in large archives of EELS spectrum images.
//!
//! The modules, in the order in which data passes through them:
//! `config -> comm -> archive -> shard -> preprocess -> (train | pca) -> score -> evaluate -> output -> report`.
//! A module imports only those above it in this list; [`run`] and the other commands tie them together.

pub mod config;
#[cfg(test)]
mod fuzz;

pub mod comm;

pub mod device;

pub mod edges;

pub mod cube;

pub mod archive;

pub mod shard;

pub mod preprocess;

pub mod stream;

pub mod model;

pub mod train;

pub mod pca;

pub mod score;

pub mod evaluate;

pub mod output;

pub mod simulate;

pub mod report;

pub mod run;

pub mod attempt;

pub mod doctor;

pub mod sweep;

pub mod survey;

pub mod bench;
