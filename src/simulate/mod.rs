//! Spectrum images with known anomalies, made row by row from a physical model.
//!
//! Pure arithmetic: every random number is a function of the seed, the cube, and the place in it, so that any rank may
//! make any row. A scene is a [`material`] seen as component [`spectra`], laid out by the [`specimen`] with anomalous
//! [`discs`], and counted by the [`detector`].

pub mod detector;
pub mod discs;
pub mod material;
pub mod options;
pub mod random;
pub mod scene;
pub mod specimen;
pub mod spectra;

pub use options::{Anomaly, AnomalyKind, CubeSpec, SceneOptions, Simulate};
pub use scene::Scene;
