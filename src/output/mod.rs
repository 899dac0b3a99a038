//! Results out: `.hspy` files that HyperSpy opens, written by all ranks together, tables and NeXus files by root alone, and
//! `.zspy` copies.
//!
//! [`HspyWriter`] writes cubes and maps in parallel; root adds what is small once they are whole. No file has its final name
//! before it is complete. The readers here serve the report and commands that build on results.

mod attribute;
mod hspy;
mod hspy_writer;
mod measurement;
mod nexus;
mod read;
mod table;
mod transfer;
mod zspy;

pub use hspy::{Contents, Data, LearningResults, Signal, signal_path};
pub use hspy_writer::HspyWriter;
pub use measurement::Measurement;
pub use nexus::NexusWriter;
pub use read::{read_learning_results, read_signal_f32, read_signal_plane, read_text, signal_axes, signal_titles};
pub use table::{Column, Values, write_csv, write_tables};
pub use zspy::{before_zspy, write_zspy};

/// A type that datasets can hold.
pub use hdf5::H5Type as Value;

/// Name and version of the HDF5 library in use. Rank-local.
pub fn hdf5_version() -> String {
    let (major, minor, release) = hdf5::library_version();
    format!("HDF5 {major}.{minor}.{release}")
}
