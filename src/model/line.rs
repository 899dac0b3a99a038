//! A reconstructed scan line.

use ndarray::Array2;

/// One reconstructed scan line.
pub struct Line {
    pub y: usize,
    /// Shares of energy `[x, energy]`, each pixel's sum 1.
    pub shares: Array2<f32>,
    /// Latent means `[x, latent]`.
    pub latent: Array2<f32>,
}
