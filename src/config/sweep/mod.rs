//! Sweeps: many configurations from one file, each known by a hash of what its results depend on.

mod file;
mod hash;
mod made;
mod point;
#[cfg(test)]
mod tests;

pub use file::{METRICS, Plot, Sweep, SweepFile};
pub use made::Made;
pub use point::Point;
