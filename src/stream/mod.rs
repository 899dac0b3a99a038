//! Cubes as the models see them: lines are read and prepared (clean electrons, `[y, x, energy]`) when asked for.
//!
//! [`Cube`] is an open cube, [`Band`] the lines of it that one rank scores, [`LowLoss`] its low-loss spectra;
//! `statistics` passes once over the data before anything is learned.

mod band;
mod cube;
mod identity;
mod low_loss;
mod regions_of_interest;
mod shifts;
mod statistics;

pub use band::Band;
pub use cube::{Cube, SAME_DISPERSION};
pub use identity::{Identity, Use};
pub use low_loss::LowLoss;
pub use shifts::Shifts;
pub use statistics::{CubeStatistics, MeanSpectrum, electron_bound, mean_spectrum, measure_statistics};
