//! A 3D-CVAE that rebuilds patches from a latent code, as the paper's does.

mod convolution;
mod loss;
mod network;
mod spec;
mod tiles;

pub use network::Network;
pub use spec::{Layer, Patchwise};
pub use tiles::Tiles;
