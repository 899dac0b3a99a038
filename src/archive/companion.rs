//! Companion files of a cube: `X.truth.hspy` with true labels, `X.mask.hspy` with the user's mask.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use hdf5::Dataset;
use hdf5::types::TypeDescriptor;
use ndarray::Array2;

use super::{hdf5_file, hspy};

/// The pixels to ignore, from `X.mask.hspy` beside the cube `X` at `path`: `[y, x]`, true where the map is not 0; none
/// without such a file. Rank-local.
///
/// # Errors
/// A map that cannot be read, or whose shape is not the cube's `[y, x]` (names both).
pub fn user_mask(path: &Path, shape: [usize; 2]) -> Result<Option<Array2<bool>>> {
    let Some(dataset) = open(path, "mask.hspy")? else {
        return Ok(None);
    };
    let map = numbers(&dataset, shape)?;
    // NaN counts as not 0: pixels marked as unknown are ignored.
    Ok(Some(map.mapv(|value| value != 0.0)))
}

/// The true labels, from `X.truth.hspy` beside the cube `X` at `path`: `[y, x]`, 0 normal, above 0 anomalous; none
/// without such a file. Rank-local.
///
/// # Errors
/// As [`user_mask`]; values that are no integers.
pub fn truth(path: &Path, shape: [usize; 2]) -> Result<Option<Array2<i32>>> {
    let Some(dataset) = open(path, "truth.hspy")? else {
        return Ok(None);
    };
    let map = numbers(&dataset, shape)?;
    if let Some(value) = map.iter().find(|value| value.fract() != 0.0 || value.abs() > f64::from(i32::MAX)) {
        bail!("{}: a truth map holds whole numbers, not {value}; round it", dataset.filename());
    }
    Ok(Some(map.mapv(|value| value as i32)))
}

/// A cheap identity of the companions of `path`, independent of their folder: sizes and modification times. Rank-local.
pub fn companions_identity(path: &Path) -> String {
    let identities = companions(path).map(|companion| stamp(&companion));
    identities.join(", ")
}

/// Size and modification time of the file at `path`, `none` where there is no such file. Rank-local.
pub fn stamp(path: &Path) -> String {
    let Ok(about) = fs::metadata(path) else {
        return "none".into();
    };
    let changed = about.modified().ok();
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{} {}", about.len(), changed.unwrap_or_default().as_nanos())
}

/// Where the mask and the truth map of the cube at `path` lie, if it has them.
pub fn companions(path: &Path) -> [PathBuf; 2] {
    ["mask.hspy", "truth.hspy"].map(|extension| path.with_extension(extension))
}

/// The only map in a companion of `path`; none if there is no such file.
fn open(path: &Path, extension: &str) -> Result<Option<Dataset>> {
    let companion = path.with_extension(extension);
    if !companion.exists() {
        return Ok(None);
    }
    let read = || -> Result<Dataset> {
        let opened = hdf5_file::open(&companion, 1 << 20)?;
        let names = hspy::experiments(&opened)?;
        let [name] = &names[..] else {
            bail!("it must hold one signal, the map, not {} ({})", names.len(), names.join(", "));
        };
        let dataset = opened.dataset(&format!("Experiments/{name}/data"))?;
        hdf5_file::check_filters(&dataset)?;
        Ok(dataset)
    };
    read().with_context(|| companion.display().to_string()).map(Some)
}

/// The map as `[y, x]`; the map of a line scan may be one-dimensional.
fn numbers(dataset: &Dataset, shape: [usize; 2]) -> Result<Array2<f64>> {
    let shown = || dataset.filename();
    let found = dataset.shape();
    // Checked before reading: a whole cube may have been saved under the name of a map.
    ensure!(
        found == shape || (shape[0] == 1 && found == shape[1..]),
        "{}: its map is {found:?}, but the cube is {shape:?} pixels (y, x); save one value for each pixel",
        shown()
    );
    // numpy's bool is an enum in HDF5, and hdf5-metno converts it to no other type.
    let is_bool = (dataset.dtype()?.to_descriptor()).is_ok_and(|stored| stored == TypeDescriptor::Boolean);
    let map = if is_bool {
        let read = dataset.read_dyn::<bool>();
        read.map(|map| map.mapv(f64::from))
    } else {
        hdf5_file::numeric_dtype(dataset).with_context(shown)?;
        dataset.read_dyn::<f64>()
    };
    let map = map.with_context(|| format!("{}: cannot be read", shown()))?;
    Ok(map.into_shape_with_order(shape)?)
}
