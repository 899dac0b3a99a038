//! Principal components of a cube that is spread over ranks: the linear baseline.
//!
//! One pass sums an E x E scatter matrix ([`Scatter`]), which root decomposes; or a few passes find the first
//! components without that matrix ([`randomized()`]). [`Decomposition`] then reconstructs spectra line by line. The
//! numbers are those of HyperSpy's `decomposition` without centring (which, where pixels are fewer than channels, swaps
//! the scales of factors and loadings).

mod decomposition;
mod noise_edge;
mod randomized;
mod scatter;

pub use decomposition::Decomposition;
pub use randomized::randomized;
pub use scatter::{Scatter, Spectra};
