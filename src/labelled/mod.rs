//! Writes cubes with known anomalies and their truth: simulated cubes, and copies of measured ones.

mod injected;
mod simulated;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Array3};

use crate::comm::Comm;
use crate::cube::Axis;
use crate::output::{Contents, HspyWriter, Measurement, Signal, signal_path};
use crate::shard::Blocks;

pub use injected::write_copy;
pub use simulated::write_cube;

/// Some lines: spectra `[y, x, energy]` and the truth of each pixel, C order.
pub type LabelledLines = (Array3<f32>, Vec<i32>);

/// Writes `NAME.hspy` and `NAME.truth.hspy` into `folder`; each rank makes its own blocks of lines with `make`.
///
/// `axes` are y, x and energy; `texts` tell the origin of the cube, and `measurement` (root's is used) how it was
/// measured.
///
/// # Collective
/// # Errors
/// Those of `make` on any rank; a folder that cannot be written.
pub fn write_labelled(
    comm: &Comm,
    folder: &Path,
    name: &str,
    axes: [Axis; 3],
    texts: &BTreeMap<String, String>,
    measurement: Measurement,
    mut make: impl FnMut(Range<usize>) -> Result<LabelledLines>,
) -> Result<()> {
    let [rows, columns, channels] = axes.each_ref().map(|axis| axis.size);
    let blocks = Blocks::new([rows, columns, channels]);
    let spectra = signal_path("spectra");
    let mut file = HspyWriter::create(comm, &folder.join(format!("{name}.hspy")))?;
    file.describe(measurement);
    let chunk_rows = blocks.rows(0).len();
    file.create_dataset::<f32>(&spectra, &[rows, columns, channels], &[chunk_rows, columns, channels])?;
    let mut classes = Vec::new();
    // As many rounds as the rank with the most blocks needs.
    let rounds = blocks.count().div_ceil(comm.size()) + 1;
    let mine: Vec<usize> = blocks.owned(comm.rank(), comm.size()).collect();
    for round in 0..rounds {
        let made = match mine.get(round) {
            Some(&block) => make(blocks.rows(block)),
            None => Ok((Array3::zeros((0, columns, channels)), Vec::new())),
        };
        let (counts, labels) = comm.agree(made)?;
        let start = mine.get(round).map_or(0, |&block| blocks.rows(block).start);
        file.write(&spectra, &[start, 0, 0], counts.view().into_dyn())?;
        classes.extend(labels);
    }
    let [y, x, energy] = axes;
    let navigation = [y, x];
    let mut all = navigation.to_vec();
    all.push(energy);
    file.finish(Contents { signals: vec![Signal::written("spectra", all, "EELS")], texts: texts.clone() })?;
    let path = folder.join(format!("{name}.truth.hspy"));
    write_map(comm, &path, "truth", &navigation, &blocks, classes, texts)
}

/// Writes a map of integers with the axes y and x; each rank writes its band of `blocks`, the values `local`.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn write_map(
    comm: &Comm,
    path: &Path,
    title: &str,
    axes: &[Axis; 2],
    blocks: &Blocks,
    local: Vec<i32>,
    texts: &BTreeMap<String, String>,
) -> Result<()> {
    let [rows, columns] = axes.each_ref().map(|axis| axis.size);
    let name = signal_path(title);
    let mut file = HspyWriter::create(comm, path)?;
    file.create_dataset::<i32>(&name, &[rows, columns], &[blocks.rows(0).len(), columns])?;
    let band = blocks.band(comm.rank(), comm.size());
    let map =
        Array2::from_shape_vec((band.len(), columns), local).expect("a map has one value for each pixel of the band");
    file.write(&name, &[band.start, 0], map.view().into_dyn())?;
    let axes = axes.each_ref().map(|axis| Axis { navigate: false, ..axis.clone() });
    file.finish(Contents { signals: vec![Signal::written(title, axes.to_vec(), "")], texts: texts.clone() })
}
