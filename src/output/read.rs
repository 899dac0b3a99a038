//! Reads our own outputs back, for the report and for commands that build on them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hdf5::types::VarLenUnicode;
use hdf5::{File, Group};
use ndarray::{Array2, ArrayD, s};

use super::hspy::{LearningResults, TEXTS, signal_path};
use crate::archive::{hspy, open_hdf5};
use crate::cube::Axis;

/// Bytes of chunk cache; small, as outputs are read whole.
const CACHE: usize = 1 << 20;

/// The signals of the file at `path`, in alphabetical order. Rank-local.
///
/// # Errors
/// A file that does not open or is no `.hspy`.
pub fn signal_titles(path: &Path) -> Result<Vec<String>> {
    let file = open_hdf5(path, CACHE)?;
    hspy::experiments(&file).with_context(|| path.display().to_string())
}

/// The axes and values of the signal `title`, as stored. Rank-local.
///
/// # Errors
/// No such signal, or values that are no numbers.
pub fn read_signal_f32(path: &Path, title: &str) -> Result<(Vec<Axis>, ArrayD<f32>)> {
    read_signal(path, title, |experiment| {
        let data = experiment.dataset("data")?;
        Ok((hspy::axes(experiment, &data.shape(), &mut Vec::new())?, data.read_dyn()?))
    })
}

/// The axes of the signal `title`. Rank-local.
///
/// # Errors
/// No such signal.
pub fn signal_axes(path: &Path, title: &str) -> Result<Vec<Axis>> {
    read_signal(path, title, |experiment| hspy::axes(experiment, &experiment.dataset("data")?.shape(), &mut Vec::new()))
}

/// The values of the signal `title`; if it has three dimensions, those at `index` of the first. Rank-local.
///
/// # Errors
/// No such signal or index.
pub fn read_signal_plane(path: &Path, title: &str, index: usize) -> Result<ArrayD<f32>> {
    read_signal(path, title, |experiment| {
        let data = experiment.dataset("data")?;
        Ok(if data.ndim() == 3 { data.read_slice_2d(s![index, .., ..])?.into_dyn() } else { data.read_dyn()? })
    })
}

/// The text `name` that was written with the file. Rank-local.
///
/// # Errors
/// No such text.
pub fn read_text(path: &Path, name: &str) -> Result<String> {
    let read = |file: File| -> Result<String> {
        let texts = file.group(TEXTS)?;
        if texts.link_exists(name) {
            return Ok(String::from_utf8(texts.dataset(name)?.read_raw::<u8>()?)?);
        }
        Ok(texts.attr(name)?.read_scalar::<VarLenUnicode>()?.to_string())
    };
    read(open_hdf5(path, CACHE)?).with_context(|| format!("{}: text {name:?}", path.display()))
}

/// The decomposition kept with the signal `title`, and its loadings `[pixels, k]`. Rank-local.
///
/// # Errors
/// A signal without a decomposition.
pub fn read_learning_results(path: &Path, title: &str) -> Result<(LearningResults, Array2<f64>)> {
    let read = |experiment: &Group| -> Result<_> {
        let learning = experiment.group("learning_results")?;
        let vector = |name: &str| learning.dataset(name).and_then(|dataset| dataset.read_raw::<f64>());
        let factors = learning.dataset("factors")?.read_2d::<f64>()?;
        let loadings = learning.dataset("loadings")?.read_2d::<f64>()?;
        ensure!(factors.ncols() == loadings.ncols(), "factors and loadings differ in number");
        let results = LearningResults {
            factors,
            explained_variance: vector("explained_variance")?,
            explained_variance_ratio: vector("explained_variance_ratio")?,
            poissonian_noise_normalized: learning.attr("poissonian_noise_normalized")?.read_scalar()?,
            output_dimension: learning.attr("output_dimension")?.read_scalar::<i64>()?.try_into()?,
        };
        Ok((results, loadings))
    };
    read_signal(path, title, |experiment| read(experiment).context("learning results"))
}

/// What `read` takes from the experiment of the signal `title` in the file at `path`; errors name both.
fn read_signal<T>(path: &Path, title: &str, read: impl FnOnce(&Group) -> Result<T>) -> Result<T> {
    let file = open_hdf5(path, CACHE)?;
    let experiment = file.group(signal_path(title).trim_end_matches("/data"));
    let found = experiment.map_err(anyhow::Error::from).and_then(|experiment| read(&experiment));
    found.with_context(|| format!("{}: signal {title:?}", path.display()))
}
