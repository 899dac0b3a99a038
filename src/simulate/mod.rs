//! Simulates spectrum images with known anomalies, row by row, from a physical model, and puts anomalies into measured
//! ones ([`inject`]).
//!
//! A [`scene`] has a material's component [`spectra`], a [`layout`] of phases, a [`specimen`] under the probe, and anomalous [`discs`]. They
//! are mixed to the [`expected`] electrons, which the [`detector`] counts. Every random number is a function of the
//! seed, the cube, and the position in it ([`random`]), so that any rank can make any row.

pub mod detector;
pub mod discs;
pub mod expected;
pub mod inject;
pub mod layout;
pub mod random;
pub mod scene;
pub mod specimen;
pub mod spectra;

pub use scene::Scene;
