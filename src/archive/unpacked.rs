//! A cube brought once into the order in which it is stored, uncompressed: for data whose chunks span the cube, all of
//! which would be decoded again for every few lines.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hdf5::Dataset;

use super::element::Element;
use super::layout::read_stored;

/// Writes the parts of `dataset` that are `share` of so many into the file at `place`, which is as large as all values:
/// little-endian, in stored order. Every chunk is decoded once, but those larger than `memory` bytes. Rank-local.
///
/// # Errors
/// Values that cannot be read, a full disk.
pub(crate) fn write<T: Element>(dataset: &Dataset, place: &Path, [share, of]: [usize; 2], memory: usize) -> Result<()> {
    let shape = dataset.shape();
    ensure!(shape.len() == 3, "a cube has three dimensions");
    let chunk = dataset.chunk().unwrap_or_else(|| vec![1; 3]);
    let file = File::options().write(true).open(place);
    let file = file.with_context(|| place.display().to_string())?;
    let line = shape[2] * size_of::<T>();
    // Whole chunks in both directions, as many lines as the memory holds.
    let lines = memory / (chunk[0] * line).max(1) / chunk[1] * chunk[1];
    let lines = lines.clamp(chunk[1], shape[1].max(chunk[1]));
    let mut number = 0;
    let mut bytes = Vec::new();
    for planes in steps(shape[0], chunk[0]) {
        for rows in steps(shape[1], lines) {
            number += 1;
            if number % of != share {
                continue;
            }
            let part = vec![planes.clone(), rows.clone(), 0..shape[2]];
            let values =
                read_stored::<T>(dataset, part).with_context(|| format!("planes {planes:?}, lines {rows:?}"))?;
            for (plane, values) in planes.clone().zip(values.outer_iter()) {
                bytes.clear();
                values.iter().for_each(|value| value.put_le(&mut bytes));
                let at = (plane * shape[1] + rows.start) * line;
                file.write_all_at(&bytes, at as u64)
                    .with_context(|| format!("{}: is the disk full?", place.display()))?;
            }
        }
    }
    file.sync_all().with_context(|| place.display().to_string())
}

fn steps(size: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..size).step_by(step).map(move |start| start..(start + step).min(size))
}
