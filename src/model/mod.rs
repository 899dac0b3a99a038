//! The 3D convolutional variational autoencoder and its loss.
//!
//! With `train`, `pca` and `bench` the only user of libtorch. Batches are `[batch, 1, y, x, energy]` here, the layout in which a
//! softmax over energy is contiguous.

mod convolution;
mod input;
mod loss;
mod network;
mod parameters;
mod spec;
mod tiles;

pub use input::whitened;
pub use loss::{Answer, Loss, Unread};
pub use network::Network;
pub use parameters::Parameters;
pub use spec::{Layer, Spec};
pub use tiles::{Line, Tiles};
