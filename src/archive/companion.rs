//! Maps that lie beside a cube: truth labels and the user's mask.

use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use hdf5::types::TypeDescriptor;
use hdf5::Dataset;
use ndarray::{Array2, ArrayD};

use super::{file, hspy};

/// The pixels to ignore, from `X.mask.hspy` beside `path`: `[y, x]`, true where the map is not 0. Rank-local.
///
/// # Errors
/// A map of another shape than the cube's `[y, x]`, which names both, or one that cannot be read.
pub fn user_mask(path: &Path, shape: [usize; 2]) -> Result<Option<Array2<bool>>> {
    let Some(dataset) = beside(path, "mask.hspy")? else {
        return Ok(None);
    };
    let map = shaped(&dataset, numbers(&dataset)?, shape)?;
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
    let map = shaped(&dataset, numbers(&dataset)?, shape)?;
    if let Some(value) = map
        .iter()
        .find(|value| value.fract() != 0.0 || value.abs() > f64::from(i32::MAX))
    {
        bail!(
            "{}: a truth map holds whole numbers, not {value}; round it",
            dataset.filename()
        );
    }
    Ok(Some(map.mapv(|value| value as i32)))
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
            bail!(
                "it must hold one signal, the map, not {} ({})",
                names.len(),
                names.join(", ")
            );
        };
        let dataset = opened.dataset(&format!("Experiments/{name}/data"))?;
        file::check_filters(&dataset)?;
        Ok(dataset)
    };
    read()
        .with_context(|| companion.display().to_string())
        .map(Some)
}

fn numbers(dataset: &Dataset) -> Result<ArrayD<f64>> {
    // numpy's bool is an enum to HDF5, which converts it to nothing but itself.
    if dataset
        .dtype()?
        .to_descriptor()
        .is_ok_and(|stored| stored == TypeDescriptor::Boolean)
    {
        return Ok(dataset.read_dyn::<bool>()?.mapv(f64::from));
    }
    file::numeric_dtype(dataset).with_context(|| dataset.filename())?;
    dataset
        .read_dyn::<f64>()
        .with_context(|| format!("{}: cannot be read", dataset.filename()))
}

/// `map` as `[y, x]`; the map of a line may have one dimension.
fn shaped(dataset: &Dataset, map: ArrayD<f64>, shape: [usize; 2]) -> Result<Array2<f64>> {
    let found = map.shape().to_vec();
    ensure!(
        found == shape || (shape[0] == 1 && found == shape[1..]),
        "{}: its map is {found:?}, but the cube is {shape:?} pixels (y, x); save one value for each pixel",
        dataset.filename()
    );
    Ok(map.into_shape_with_order(shape)?)
}
