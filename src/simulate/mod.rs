//! Spectrum images with known anomalies, made row by row from a physical model.
//!
//! The same anomalies can be put into measured cubes ([`inject`]).
//!
//! Pure arithmetic: every random number is a function of the seed, the cube, and the place in it, so that any rank may
//! make any row. A scene is a material seen as component [`spectra`], laid out by the [`specimen`] with anomalous [`discs`], mixed to
//! what is [`expected`] and counted by the [`detector`].

pub mod detector;
pub mod discs;
pub mod expected;
pub mod inject;
pub mod random;
pub mod scene;
pub mod specimen;
pub mod spectra;

pub use scene::Scene;
