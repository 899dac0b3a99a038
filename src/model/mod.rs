//! The 3D convolutional variational autoencoder and its loss.
//!
//! Batches are `[batch, 1, y, x, energy]`, the layout in which a softmax over energy is contiguous.

mod convolution;
mod input;
mod loss;
mod network;
mod parameters;
mod spec;
mod tiles;

pub use input::{whitened, whitened_batch};
pub use loss::{DeviceLoss, Loss, Output};
pub use network::Network;
pub use parameters::Parameters;
pub use spec::{Layer, Spec};
pub use tiles::{Line, Tiles};
