//! Describes what a file holds from its headers alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::layout::Layout;
use super::microscope::Microscope;
use super::open::open;
use super::reader::{Options, find, open_dataset};
use super::{dm, external, hdf5_file, velox};
use crate::cube::Axis;

/// What a file holds, for `coreloss inspect`. Shape, chunks and axes are in the order y, x, energy; in stored order if
/// there is no energy.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    pub path: PathBuf,
    pub format: String,
    pub shape: Vec<usize>,
    pub dtype: String,
    pub chunks: Option<Vec<usize>>,
    pub axes: Vec<Axis>,
    /// Every image of a Gatan file, or energy range of a Velox file, in the order in which `archive.image` counts them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    pub microscope: Microscope,
    pub problems: Vec<String>,
}

/// Describes `path` without reading a spectrum. Rank-local.
///
/// A file that opens but is no EELS spectrum image is described too, with the reason among its problems.
///
/// # Errors
/// A file that does not open, holds several cubes, or (as [`Invalid`](crate::invalid::Invalid)) complex or RGB data.
pub fn inspect(path: &Path, options: &Options) -> Result<Description> {
    let shown = || path.display().to_string();
    if dm::is_dm(path) {
        let found = dm::find(path, options.image).with_context(shown)?;
        let dtype = found.dtype().into();
        let images = found.images;
        return Ok(Description { images, ..describe(path, found.layout, dtype, None) });
    }
    let opened = open(path, 0)?;
    let layout = find(&opened, path, options)?;
    let dataset = open_dataset(&opened, path, &layout)?;
    let dtype = hdf5_file::numeric_dtype(&dataset).with_context(shown)?;
    let mut description = describe(path, layout, dtype, dataset.chunk());
    if description.format == "dm5" {
        description.images = dm::described_images(path).with_context(shown)?;
    } else if velox::has_eels(&opened) {
        description.images = velox::images(&opened).with_context(shown)?;
    }
    for check in [hdf5_file::check_filters(&dataset), external::check(&dataset, path)] {
        if let Err(error) = check {
            description.problems.push(format!("{error:#}"));
        }
    }
    Ok(description)
}

fn describe(path: &Path, layout: Layout, dtype: String, chunk: Option<Vec<usize>>) -> Description {
    let mut order: Vec<usize> = (0..layout.axes.len()).collect();
    if let Ok(energy) = layout.energy {
        let [y, x] = layout.navigation(energy);
        order = [y, x, Some(energy)].into_iter().flatten().collect();
    }
    let mut problems = layout.problems;
    if let Err(reason) = layout.energy {
        problems.push(format!("no EELS spectrum image: {reason}"));
    }
    Description {
        path: path.to_path_buf(),
        format: layout.format.into(),
        shape: order.iter().map(|&dim| layout.axes[dim].size).collect(),
        dtype,
        chunks: chunk.map(|chunk| order.iter().map(|&dim| chunk[dim]).collect()),
        axes: order.iter().map(|&dim| layout.axes[dim].clone()).collect(),
        images: Vec::new(),
        microscope: layout.microscope,
        problems,
    }
}
