//! Datasets whose values lie in other files: HDF5's external and virtual datasets.
//!
//! HDF5 reads zeros for a part that is missing, without a word; so it is looked for first.

use std::ffi::{CStr, c_char};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hdf5::Dataset;
use hdf5::plist::DatasetCreate;
use hdf5::plist::dataset_create::Layout;
use hdf5_sys::h5p::{H5Pget_virtual_count, H5Pget_virtual_dsetname, H5Pget_virtual_filename};

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
    for (file, part) in virtual_parts(&plist)? {
        // A pattern for numbered files: HDF5 takes as many as there are.
        if file.contains('%') {
            continue;
        }
        let Some(source) = find(&file, path) else {
            bail!(
                "dataset {} is virtual, and its part {file:?} is not there: bring it back, or bring all into one file with \
                 `h5repack`",
                dataset.name()
            )
        };
        let lacking =
            || format!("dataset {} is virtual, and {} lacks its part {part}", dataset.name(), source.display());
        let source = hdf5_file::open(&source, 0)?.dataset(&part).with_context(lacking)?;
        // Values that cannot be decoded would read as zeros too.
        hdf5_file::check_filters(&source).with_context(lacking)?;
    }
    Ok(())
}

/// The other files that the values of `dataset`, of the file at `path`, lie in; those that are not there are left out.
pub(crate) fn files(dataset: &Dataset, path: &Path) -> Vec<PathBuf> {
    let found = || -> Result<Vec<PathBuf>> {
        let plist = dataset.create_plist()?;
        let mut found: Vec<PathBuf> = plist.get_external()?.into_iter().map(|part| part.name.into()).collect();
        if plist.get_layout()? == Layout::Virtual {
            let parts = virtual_parts(&plist)?.into_iter();
            found.extend(parts.filter(|(file, _)| file != HERE).filter_map(|(file, _)| find(&file, path)));
        }
        found.sort();
        found.dedup();
        Ok(found)
    };
    found().unwrap_or_default()
}

/// The file and the dataset of each part of a virtual dataset.
///
/// The safe interface reads their places too, and fails at blocks as h5py writes them.
fn virtual_parts(plist: &DatasetCreate) -> Result<Vec<(String, String)>> {
    let mut count = 0;
    // SAFETY: the list is open, and `count` outlives the call.
    let code = hdf5::sync::sync(|| unsafe { H5Pget_virtual_count(plist.id(), &raw mut count) });
    ensure!(code >= 0, "HDF5 does not tell the parts of a virtual dataset");
    let name = |i: usize, of: unsafe extern "C" fn(i64, usize, *mut c_char, usize) -> isize| -> Result<String> {
        hdf5::sync::sync(|| {
            // SAFETY: asked without room for its length, then with room for as many bytes and the NUL.
            unsafe {
                let length = of(plist.id(), i, std::ptr::null_mut(), 0);
                let mut bytes = vec![0u8; usize::try_from(length)? + 1];
                ensure!(of(plist.id(), i, bytes.as_mut_ptr().cast(), bytes.len()) >= 0, "HDF5 does not tell part {i}");
                Ok(CStr::from_bytes_until_nul(&bytes)?.to_string_lossy().into_owned())
            }
        })
    };
    (0..count).map(|i| Ok((name(i, H5Pget_virtual_filename)?, name(i, H5Pget_virtual_dsetname)?))).collect()
}

/// A virtual dataset's name for the file that it is in itself.
const HERE: &str = ".";

/// Where HDF5 finds the file `name`, to which the file at `path` refers.
fn find(name: &str, path: &Path) -> Option<PathBuf> {
    if name == HERE {
        return Some(path.to_path_buf());
    }
    let sibling = path.parent().unwrap_or(Path::new("")).join(name);
    let prefixed = std::env::var_os("HDF5_VDS_PREFIX").map(|prefix| Path::new(&prefix).join(name));
    prefixed.into_iter().chain([sibling, PathBuf::from(name)]).find(|path| path.exists())
}
