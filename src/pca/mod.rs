//! Principal components of a cube that is spread over ranks: the linear baseline.
//!
//! One pass sums an E x E scatter matrix ([`Scatter`]), root decomposes it, and [`Decomposition`] rebuilds
//! spectra line by line; or a few passes find the first components without that matrix ([`randomized()`]). The numbers
//! are those of HyperSpy's `decomposition` without centring (which swaps the scales of factors and loadings where pixels
//! are fewer than channels; their product is the same).

mod decomposition;
mod randomized;
mod scatter;

pub use decomposition::Decomposition;
pub use randomized::randomized;
pub use scatter::{Scatter, Spectra};
