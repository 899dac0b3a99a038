//! Results out: `.hspy` files that HyperSpy opens, written by all ranks together.
//!
//! Cubes and maps go out in parallel ([`HspyWriter`]); what is small is added by root alone when they are whole.
//! Nothing has its final name before that. The readers here serve the report.

mod about;

mod hspy;

mod nexus;

mod parallel;

mod read;

mod table;

mod transfer;

pub use about::About;
pub use hspy::{Data, LearningResults, Signal, Small, SmallSignal, index_axis, parallel, signal_path};
pub use nexus::NexusWriter;
pub use parallel::HspyWriter;
pub use read::{read_learning_results, read_signal_f32, read_signal_plane, read_text, signal_axes, signal_titles};
pub use table::{Column, Values, write_csv, write_tables};

/// A type that datasets can hold.
pub use hdf5::H5Type as Value;

/// The HDF5 that was loaded. Rank-local.
pub fn hdf5_version() -> String {
    let (major, minor, release) = hdf5::library_version();
    format!("HDF5 {major}.{minor}.{release}")
}
