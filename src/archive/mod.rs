//! Cubes in: finds the files of an archive and reads hyperslabs of them as `[y, x, energy]` float32.
//!
//! Everything here is rank-local and reads through the POSIX driver; ranks agree on results elsewhere.

mod attribute;
mod catalogue;
mod chunks;
mod companion;
mod dates;
mod dm;
mod element;
mod elsewhere;
mod file;
pub(crate) mod hspy;
mod instrument;
mod layout;
mod low_loss;
mod metadata;
mod plain;
mod reader;
mod summary;
mod unpacked;

#[cfg(test)]
mod tests;

pub use catalogue::{Source, catalogue};
pub use companion::{companions, truth, user_mask};
pub use dm::Picture;
pub use element::Element;
pub use layout::Microscope;
pub use low_loss::low_loss;
pub use metadata::Metadata;
pub use reader::{Options, Reader, digest};
pub use summary::{Summary, inspect};

pub(crate) use file::open as open_hdf5;
