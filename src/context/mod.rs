//! The linear blind spot: the components of each pixel predicted from those of the pixels around it, by weights that have
//! seen neither the pixel nor those within an anomaly's reach of it.
//!
//! [`Components`] takes spectra to a few numbers and back, [`Field`] holds those of a rank's lines and the lines around.
//! [`BlindSpot`] is the ridge regression between them; `waves` takes the whole field for a sum of plane waves, as a lattice
//! is, once every line is put in its place.
//! [`Prediction`] is by the one of the two that is nearer: the least that a network must beat.

mod blind_spot;
mod components;
mod field;
mod line_offsets;
mod normal;
mod peaks;
mod prediction;
mod wave_fit;
mod waves;
mod window;

pub use blind_spot::BlindSpot;
pub use components::Components;
pub use field::Field;
pub use prediction::Prediction;
