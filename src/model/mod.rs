//! The 3D convolutional variational autoencoder and its loss, in two families.
//!
//! `blind` predicts pixels from their surroundings; `patchwise` rebuilds patches from a latent code. Batches are
//! `[batch, y, x, energy]`, in which sums over energy are contiguous.

mod batch;
mod blind;
mod floor;
mod input;
mod line;
mod loss;
mod network;
mod parameters;
mod patchwise;
mod shape;
mod spec;
mod tiles;

pub use batch::{Batch, Hiding};
pub use blind::{Basis, Blind, CELL, PERIOD, hidden_pixels};
pub use input::{whitened, whitened_batch};
pub use line::Line;
pub use loss::{DeviceLoss, Loss, Weights};
pub use network::Network;
pub use parameters::Parameters;
pub use patchwise::{Layer, Patchwise};
pub use spec::Spec;
pub use tiles::Tiles;
