//! Finds anomalous spectra in large archives of EELS spectrum images.
//!
//! Data flows in this order:
//! `config -> comm -> archive -> shard -> preprocess -> stream -> (train | pca | context) -> score -> output -> results ->
//! report`.
//! The modules below are listed from the ground up, and a module imports only those above it in the list; the tests hold
//! that. [`pipeline`] ties them together for one run, [`commands`] is the command line.
//!
//! Cubes are `[y, x, energy]` float32 everywhere, whatever the file's order and type; energies are in eV, counts in
//! electrons once the gain is divided out. Cubes are cut into blocks of whole scan lines ([`shard`]), and sums over
//! blocks are exact ([`comm::ExactSum`]), so that no result depends on the number of ranks or threads.
//!
//! # Words
//!
//! * **spectrum image, cube**: one measured `[y, x, energy]` array; its *id* is its path below the inputs' common root.
//! * **scan line**: one row of pixels, recorded in one go: energy drift and probe jitter belong to it.
//! * **block**: a few whole scan lines, the unit of reading and of sums; **band**: the blocks that one rank scores;
//!   **halo**: the lines of other bands that a pixel's surroundings reach into.
//! * **shard**: what one rank owns; **lane**: a contiguous run of scan lines that training crops come from.
//! * **patch**: one input of the network, `[y, x, energy]`; **tile**: a patch at a fixed place, when a cube is scored.
//! * **micro-batch**: the patches whose gradient is formed at once, on one thread or GPU; the **global batch** of an optimiser
//!   step is several of them, however many ranks share them.
//! * **whitened**: in units of the noise; **residual**: what was counted less what a model predicts.
//! * **window**: the energies of one edge, in which scores look; **reference edge**: the one that a line's drift is measured by.
//! * **method**: a model that predicts spectra (`cvae`, `pca3`, `context`, `mean`); **score**: a map of how anomalous each pixel is (`shift`,
//!   `composition`, `combined`, `pcc`).
//! * **kind**: pixels whose residuals are alike; **region**: a connected area of flagged pixels.
//! * **truth**: which pixels are anomalous, where that is known; **mask**: which pixels are ignored.
//! * **set aside**: an input that cannot be used, and that nobody named, is passed over with its reason.
//! * **collective**: a function that every rank of a group calls alike; **rank-local**: any other.
//! * **agreed**: an error of one rank that all ranks return together ([`comm::Comm::agree`]).
//!
//! # How to add
//!
//! * **A file format.** One that is HDF5: teach `archive/` to find its dataset and axes and to answer a `Layout`; all else
//!   follows from that. One that is not: a module beside `archive/dm` that answers a `Layout` and where the values lie, and a
//!   branch in [`archive::Reader::open`] and [`archive::inspect`]. `tests` hold it against RosettaSciIO.
//! * **A score.** A field of [`score::Scores`] (a value per pixel, larger is more anomalous, NaN where ignored), filled in
//!   `score/scores.rs` from the features of [`score::LineFeatures`], and its name with what it means in `score_maps` of
//!   `results/score_maps.rs`: thresholds, maps, masks, metrics and the report take it from there.
//! * **An anomaly.** A kind of [`config::AnomalyKind`] with its bounds in `config/anomaly.rs`, and what it does to the
//!   expected counts in `simulate/expected.rs`; for measured cubes `config/inject.rs` and `simulate/inject.rs`.
//! * **A material.** No code: `simulate` takes a YAML file of edges, like those in `config/materials`.
//! * **A preset of the network.** A name in [`config::Preset`], its layers in [`model::Spec::new`], its batch and rate in
//!   `config/train.rs`.
//! * **A key of the configuration.** A documented field with its default in the file of its section, `config/train.rs` for
//!   `train`; `coreloss config --explain` reads the same text.
//! * **A command.** A file in `commands/` with its arguments, and a line in [`commands::Command`].

// The ground.
pub mod ending;
pub mod invalid;
mod memory;
pub mod durable;
#[cfg(test)]
mod fuzz;

// What the user asked for, and who works on it.
pub mod config;
pub mod comm;
pub mod shared;

// Cubes in.
pub mod cube;
pub mod spectrum;
pub mod archive;
pub mod shard;
pub mod bands;
pub mod preprocess;
pub mod simulate;
pub mod stream;

// Models and what they leave unexplained.
pub mod pca;
pub mod gpu;
pub mod model;
pub mod train;
pub mod context;
pub mod score;
pub mod evaluate;

// Results out.
pub mod output;
pub mod results;
pub mod report;

// The work of the commands.
pub mod pipeline;
pub mod labelled;
pub mod attempt;
pub mod doctor;
pub mod sweep;
pub mod survey;
pub mod bench;
pub mod commands;
