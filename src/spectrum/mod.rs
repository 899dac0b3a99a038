//! Spectra as physics knows them: backgrounds, edges, and how far they have moved.

mod background;
pub mod edge_shift;
pub mod elements;
mod naming;
mod windows;

pub use background::PowerLaw;
pub use naming::FoundEdge;
pub use windows::{MIN_CHANNELS, find_edges, find_windows, whole_axis};
