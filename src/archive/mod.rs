//! Cubes in: finds the files of an archive and reads windows of them as float32 `[y, x, energy]`.
//!
//! Rank-local throughout, through the POSIX driver; callers agree on the results. Each format finds its dataset and axes
//! and describes them as a `Layout`, whatever the stored order: `hspy` HyperSpy, `zarr` its `.zspy`, `dm`
//! Gatan DM3, DM4 and DM5, `velox` Thermo Fisher's EMD, `plain` all other HDF5, with the conventions of `nexus` and `emd`.
//! [`Reader`] does the rest.

pub(crate) mod attribute;
mod catalogue;
mod companion;
mod dates;
mod decoded_chunks;
mod dimension_scales;
mod dm;
mod emd;
mod external;
mod hdf5_file;
pub(crate) mod hspy;
mod inspect;
mod layout;
mod likely_energy;
mod low_loss;
mod metadata;
mod microscope;
mod nexus;
mod number_type;
mod open;
mod plain;
mod raw_array;
mod reader;
mod swift;
mod unreadable;
mod uncompressed_copy;
mod velox;
mod zarr;

#[cfg(test)]
mod tests;

pub use catalogue::{Source, catalogue};
pub use companion::{companions, companions_identity, stamp, truth, user_mask};
pub use dm::Picture;
pub use inspect::{Description, inspect};
pub use low_loss::{low_loss, shows_zero_loss};
pub use metadata::Metadata;
pub use microscope::Microscope;
pub use number_type::Number;
pub use reader::{Options, Reader, digest};

pub(crate) use open::open as open_hdf5;
pub(crate) use zarr::compress_blosc;
