//! A 3D-CVAE with a blind spot: it predicts each pixel from its surroundings alone, so that it cannot rebuild an anomaly.
//!
//! The first layer spans the energy axis and starts from the principal components of the whitened spectra; convolutions over
//! y and x with strides along x only lead to a latent map, as a line's drift and jitter belong to the line; transposed ones
//! lead back, and the last layer mirrors the first. In training square blocks of pixels are hidden from the network and
//! predicted; a cube is predicted in as many passes as it takes to hide each pixel well within a block.

mod hiding;
mod loss;
mod network;
mod passes;
mod spec;
#[cfg(test)]
mod tests;

pub use hiding::{PERIOD, hidden_pixels};
pub use network::Network;
pub use passes::Passes;
pub use spec::{Basis, Blind, CELL};
