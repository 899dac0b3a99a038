//! Maps that lie beside a cube: truth labels and the user's mask.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use hdf5::Dataset;
use hdf5::types::TypeDescriptor;
use ndarray::Array2;

use super::{file, hspy};

/// The pixels to ignore, from `X.mask.hspy` beside `path`: `[y, x]`, true where the map is not 0. Rank-local.
///
/// # Errors
/// A map of another shape than the cube's `[y, x]`, which names both, or one that cannot be read.
pub fn user_mask(path: &Path, shape: [usize; 2]) -> Result<Option<Array2<bool>>> {
    let Some(dataset) = beside(path, "mask.hspy")? else {
        return Ok(None);
    };
    let map = numbers(&dataset, shape)?;
    // NaN is not 0: what is marked as unknown is ignored.
    Ok(Some(map.mapv(|value| value != 0.0)))
}

/// The true classes, from `X.truth.hspy` beside `path`: `[y, x]`, 0 normal, above 0 anomalous. Rank-local.
///
/// # Errors
/// As [`user_mask`]; also values that are no integers.
pub fn truth(path: &Path, shape: [usize; 2]) -> Result<Option<Array2<i32>>> {
    let Some(dataset) = beside(path, "truth.hspy")? else {
        return Ok(None);
    };
    let map = numbers(&dataset, shape)?;
    if let Some(value) = map.iter().find(|value| value.fract() != 0.0 || value.abs() > f64::from(i32::MAX)) {
        bail!("{}: a truth map holds whole numbers, not {value}; round it", dataset.filename());
    }
    Ok(Some(map.mapv(|value| value as i32)))
}

/// A cheap identity of the maps beside `path` that does not know where they lie: sizes and times of change. Rank-local.
pub fn companions(path: &Path) -> String {
    let identities = ["mask.hspy", "truth.hspy"].map(|extension| {
        let Ok(about) = fs::metadata(path.with_extension(extension)) else {
            return "none".to_string();
        };
        let changed = about.modified().ok();
        let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        format!("{} {}", about.len(), changed.unwrap_or_default().as_nanos())
    });
    identities.join(", ")
}

/// The data of the first signal in the companion of `path`; none where there is no such file.
fn beside(path: &Path, extension: &str) -> Result<Option<Dataset>> {
    let companion = path.with_extension(extension);
    if !companion.exists() {
        return Ok(None);
    }
    let read = || -> Result<Dataset> {
        let opened = file::open(&companion, 1 << 20)?;
        let names = hspy::experiments(&opened)?;
        let [name] = &names[..] else {
            bail!("it must hold one signal, the map, not {} ({})", names.len(), names.join(", "));
        };
        let dataset = opened.dataset(&format!("Experiments/{name}/data"))?;
        file::check_filters(&dataset)?;
        Ok(dataset)
    };
    read().with_context(|| companion.display().to_string()).map(Some)
}

/// The map as `[y, x]`; that of a line may have one dimension.
fn numbers(dataset: &Dataset, shape: [usize; 2]) -> Result<Array2<f64>> {
    let place = || dataset.filename();
    let found = dataset.shape();
    // Before it is read: a whole cube may have been saved under the name of a map.
    ensure!(
        found == shape || (shape[0] == 1 && found == shape[1..]),
        "{}: its map is {found:?}, but the cube is {shape:?} pixels (y, x); save one value for each pixel",
        place()
    );
    // numpy's bool is an enum to HDF5, which hdf5-metno reads as nothing but itself.
    let is_bool = (dataset.dtype()?.to_descriptor()).is_ok_and(|stored| stored == TypeDescriptor::Boolean);
    let map = if is_bool {
        let read = dataset.read_dyn::<bool>();
        read.map(|map| map.mapv(f64::from))
    } else {
        file::numeric_dtype(dataset).with_context(place)?;
        dataset.read_dyn::<f64>()
    };
    let map = map.with_context(|| format!("{}: cannot be read", place()))?;
    Ok(map.into_shape_with_order(shape)?)
}
