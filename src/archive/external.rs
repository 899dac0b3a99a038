//! Datasets whose values lie in other files: HDF5's external and virtual datasets.
//!
//! HDF5 reads zeros for a part that is missing, without a word; so it is looked for first.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hdf5::Dataset;
use hdf5::plist::dataset_create::Layout;

use super::hdf5_file;

/// Checks that all files to which `dataset`, of the file at `path`, refers are there. Rank-local.
///
/// # Errors
/// Names the file that is missing, too short or without its part, and what to do.
pub(crate) fn check(dataset: &Dataset, path: &Path) -> Result<()> {
    let plist = dataset.create_plist()?;
    let mut left = (dataset.size() * dataset.dtype()?.size()) as u64;
    for external in plist.get_external()? {
        // HDF5 looks for it in the working directory, not beside the file that names it.
        let Ok(about) = fs::metadata(&external.name) else {
            bail!(
                "dataset {} has its values in the file {:?}, which is not there (seen from the working directory); \
                 change to its folder, or bring all into one file with `h5repack`",
                dataset.name(),
                external.name
            )
        };
        // A size of 0 means all that is left.
        let length = match external.size {
            0 => left,
            size => left.min(size as u64),
        };
        left -= length;
        let end = external.offset as u64 + length;
        ensure!(
            about.len() >= end,
            "dataset {} has its values in the file {:?}, up to byte {end}, which ends at {}; copy it again, it is cut off",
            dataset.name(),
            external.name,
            about.len()
        );
    }
    if plist.get_layout()? != Layout::Virtual {
        return Ok(());
    }
    for part in plist.get_virtual_map()? {
        // A pattern for numbered files: HDF5 takes as many as there are.
        if part.src_filename.contains('%') {
            continue;
        }
        // "." is the file itself.
        let source = match part.src_filename.as_str() {
            "." => Some(path.to_path_buf()),
            name => find(name, path),
        };
        let Some(source) = source else {
            bail!(
                "dataset {} is virtual, and its part {:?} is not there: bring it back, or bring all into one file with \
                 `h5repack`",
                dataset.name(),
                part.src_filename
            )
        };
        hdf5_file::open(&source, 0)?.dataset(&part.src_dataset).with_context(|| {
            format!(
                "dataset {} is virtual, and {} lacks its part {}",
                dataset.name(),
                source.display(),
                part.src_dataset
            )
        })?;
    }
    Ok(())
}

/// Where HDF5 finds the file `name`, to which the file at `path` refers.
fn find(name: &str, path: &Path) -> Option<PathBuf> {
    let sibling = path.parent().unwrap_or(Path::new("")).join(name);
    [sibling, PathBuf::from(name)].into_iter().find(|path| path.exists())
}
