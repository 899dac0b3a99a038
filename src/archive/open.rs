//! Opens what holds groups, attributes and datasets: HDF5 files, and Zarr stores as if they were some.

use std::path::Path;

use anyhow::{Result, ensure};
use hdf5::File;

use super::{hdf5_file, zarr};

/// Opens the file at `path` as [`hdf5_file::open`] does; of a Zarr store an HDF5 file in memory with all but the values of its
/// cubes. Rank-local.
///
/// # Errors
/// Those of [`hdf5_file::open`]; a store that is damaged or not HyperSpy's.
pub(crate) fn open(path: &Path, cache: usize) -> Result<File> {
    if !zarr::is_zarr(path) {
        return hdf5_file::open(path, cache);
    }
    let opened = zarr::mirror(path)?;
    ensure!(
        opened.link_exists("Experiments"),
        "{}: a Zarr store that HyperSpy did not write: open it there and save it as .zspy",
        path.display()
    );
    Ok(opened)
}
