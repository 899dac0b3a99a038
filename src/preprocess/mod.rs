//! Turns the detector's raw counts into the counts that the models see: arrays only, no ranks and no files.
//!
//! In the order of use: [`noise`] fits the ADU per electron, [`vacuum`] finds the pixels without specimen, [`prepare`]
//! takes blocks of rows through [`despike`], [`Resampling`](crate::spectrum::Resampling) and [`mean`], and [`whiten`]
//! makes the network's input from a patch. No result depends on how a cube is cut into blocks, nor on the number of
//! threads.

pub mod despike;
mod log_bins;
pub mod mean;
pub mod noise;
pub mod prepare;
pub mod vacuum;
pub mod whiten;
