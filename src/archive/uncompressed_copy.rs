//! An uncompressed copy of a cube in a scratch file, in stored order.
//!
//! Where chunks span the cube, every few scan lines would decode all of them again; the copy decodes each once.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hdf5::Dataset;

use super::hdf5_file::read_stored;
use super::number_type::Number;

/// Writes share `i` of `n` of the values of `dataset` to the file at `path`, which must exist and have the size of all.
///
/// Values are little-endian, in stored order. Every chunk is decoded once, except those larger than `memory` bytes.
/// Rank-local.
///
/// # Errors
/// Values that cannot be read, a full disk.
pub(crate) fn write<T: Number>(dataset: &Dataset, path: &Path, [i, n]: [usize; 2], memory: usize) -> Result<()> {
    let shape = dataset.shape();
    ensure!(shape.len() == 3, "a cube has three dimensions");
    let chunk = dataset.chunk().unwrap_or_else(|| vec![1; 3]);
    let file = File::options().write(true).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let line = shape[2] * size_of::<T>();
    // Whole chunks in both directions, as many lines as the memory holds.
    let lines = memory / (chunk[0] * line).max(1) / chunk[1] * chunk[1];
    let lines = lines.clamp(chunk[1], shape[1].max(chunk[1]));
    let mut number = 0;
    let mut bytes = Vec::new();
    for planes in steps(shape[0], chunk[0]) {
        for rows in steps(shape[1], lines) {
            number += 1;
            if number % n != i {
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
                    .with_context(|| format!("{}: is the disk full?", path.display()))?;
            }
        }
    }
    file.sync_all().with_context(|| path.display().to_string())
}

fn steps(size: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..size).step_by(step).map(move |start| start..(start + step).min(size))
}
