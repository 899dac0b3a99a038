//! Datasets whose values lie in other files: HDF5 gives zeros for a part that is missing, and says nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hdf5::Dataset;
use hdf5::plist::dataset_create::Layout;

use super::file;

/// Checks that all files which `dataset` of the file at `path` refers to are there. Rank-local.
///
/// # Errors
/// Names the file that is missing, or lacks its part, and what to do.
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
        // A size of 0 is as much as there is to come.
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
        // A name with a number left open means as many files as there are.
        if part.src_filename.contains('%') {
            continue;
        }
        // "." is the file itself.
        let place = match part.src_filename.as_str() {
            "." => Some(path.to_path_buf()),
            name => find(name, path),
        };
        let Some(place) = place else {
            bail!(
                "dataset {} is virtual, and its part {:?} is not there: bring it back, or bring all into one file with \
                 `h5repack`",
                dataset.name(),
                part.src_filename
            )
        };
        file::open(&place, 0)?.dataset(&part.src_dataset).with_context(|| {
            format!(
                "dataset {} is virtual, and {} lacks its part {}",
                dataset.name(),
                place.display(),
                part.src_dataset
            )
        })?;
    }
    Ok(())
}

/// Where HDF5 finds the file `name`, which the file at `path` refers to.
fn find(name: &str, path: &Path) -> Option<PathBuf> {
    let beside = path.parent().unwrap_or(Path::new("")).join(name);
    [beside, PathBuf::from(name)].into_iter().find(|place| place.exists())
}
