//! Finds anomalous spectra in large archives of EELS spectrum images.
//!
//! The modules, in the order in which data passes through them:
//! `config -> comm -> archive -> shard -> preprocess -> (train | pca) -> score -> evaluate -> output -> report`.
//! A module imports only those above it in this list; [`run`] and the other commands tie them together.
//!
//! Cubes are `[y, x, energy]` float32 everywhere, whatever the file's order and type; energies are in eV, counts in
//! electrons once the gain is divided out. Cubes are cut into blocks of whole scan lines ([`shard`]), and what is summed over
//! blocks is summed exactly ([`comm::ExactSum`]), so that no result shows how many ranks or threads there were.
//!
//! # How to add
//!
//! * **A file format.** One that is HDF5: teach `archive/plain.rs` to find its dataset and axes and to answer a `Layout`; all
//!   else follows from that. One that is not: a module beside `archive/dm` that answers a `Layout` and where the values lie,
//!   and a branch in [`archive::Reader::open`] and [`archive::inspect`]. `tests/formats.rs` holds it against RosettaSciIO.
//! * **A score.** A field of [`score::Scores`] (a value per pixel, larger is stranger, NaN where ignored), filled in
//!   `score/scores.rs` from the features of [`score::LineFeatures`], and its name with what it means in `score_maps` of
//!   `run/write.rs`: thresholds, maps, masks, metrics and the report take it from there.
//! * **An anomaly.** A kind of [`config::AnomalyKind`] with its bounds in `config/anomaly.rs`, and what it does to the
//!   expected counts in `simulate/expected.rs`; for measured cubes `config/inject.rs` and `simulate/inject.rs`.
//! * **A material.** None of this: `simulate` takes a YAML file of edges, like those in `config/materials`.
//! * **A preset of the network.** A name in [`config::Preset`], and its widths, patch and latent size in
//!   [`model::Spec::new`].
//! * **A key of the configuration.** A documented field with its default in the file of its section, `config/train.rs` for `train`; `coreloss config
//!   --explain` reads the very text.

pub mod archive;
pub mod attempt;
pub mod bench;
pub mod comm;
pub mod commands;
pub mod config;
pub mod cube;
pub mod doctor;
pub mod durable;
pub mod ending;
pub mod evaluate;
#[cfg(test)]
mod fuzz;
pub mod gpu;
pub mod invalid;
pub mod labelled;
mod memory;
pub mod model;
pub mod output;
pub mod pca;
pub mod pipeline;
pub mod preprocess;
pub mod report;
pub mod results;
pub mod score;
pub mod shard;
pub mod simulate;
pub mod spectrum;
pub mod stream;
pub mod survey;
pub mod sweep;
pub mod train;
