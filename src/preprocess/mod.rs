//! Raw counts of the detector to the counts that the models read: arrays only, no ranks and no files.
//!
//! The order of use: [`noise`] fits ADU per electron, [`vacuum`] finds what is no specimen, [`zero_loss`] or [`edge_shift`](crate::spectrum::edge_shift)
//! how far each pixel's energies are off, [`prepare`] takes blocks of rows through [`despike`], [`resample`] and [`mean`],
//! and [`whiten`] makes the network's input of a patch. Nothing here depends on how a cube was cut into blocks, nor on
//! the number of threads.

pub mod despike;
mod log_bins;
pub mod mean;
pub mod noise;
pub mod prepare;
pub mod resample;
pub mod vacuum;
pub mod whiten;
pub mod zero_loss;
