//! Zarr stores in folders, of versions 2 and 3, as HyperSpy's `.zspy` are.
//!
//! HyperSpy writes the same tree as in its HDF5 files: `mirror` puts its groups and attributes into an HDF5 file in memory, so
//! that one reader serves both. `array` reads the values.

mod array;
mod codec;
mod mirror;
mod node;

use std::path::Path;

pub(crate) use array::{ZarrArray, size_and_time};
pub(crate) use codec::compress_blosc;
pub(crate) use mirror::mirror;
#[cfg(test)]
pub(crate) use {codec::Codec, node::parse};

/// Whether `path` is a folder that a Zarr group makes a store.
pub(crate) fn is_zarr(path: &Path) -> bool {
    [".zgroup", "zarr.json"].iter().any(|name| path.join(name).is_file())
}
