//! Raw HDF5 writes that the safe interface lacks: one collective write of a block, and records of a run-time type.
//!
//! The safe interface always writes independently, which HDF5 refuses for compressed parallel datasets.

use std::ops::Range;

use anyhow::{Context, Result};
use hdf5::{Dataset, Dataspace, Datatype, H5Type, Hyperslab, Selection, SliceOrIndex};
use hdf5_sys::h5d::H5Dwrite;
use hdf5_sys::h5p::H5P_DEFAULT;
use hdf5_sys::h5p::{H5FD_mpio_xfer_t, H5Pclose, H5Pcreate, H5Pset_dxpl_mpio};
use hdf5_sys::h5s::{H5S_ALL, H5Sselect_none};
use ndarray::ArrayViewD;

/// Writes `block` of `local` to `dataset`, in which `local` begins at `start`; without a block this rank takes part but
/// writes nothing.
///
/// `local` must be in C order and of the stored type: a conversion would make HDF5 write independently.
///
/// # Collective
/// # Errors
/// Rank-local: the caller agrees on them.
pub(super) fn write_block<T: H5Type>(
    dataset: &Dataset,
    start: &[usize],
    local: &ArrayViewD<T>,
    block: Option<&[Range<usize>]>,
) -> Result<()> {
    let memory_type = Datatype::from_type::<T>()?;
    let (memory, stored) = match block {
        Some(block) => {
            let target: Vec<Range<usize>> =
                block.iter().zip(start).map(|(range, start)| range.start + start..range.end + start).collect();
            (Dataspace::try_new(local.shape())?.select(selection(block))?, dataset.space()?.select(selection(&target))?)
        }
        None => (Dataspace::try_new([1])?, dataset.space()?),
    };
    debug_assert!(local.is_standard_layout());
    let values = local.as_ptr();
    hdf5::sync::sync(|| {
        // SAFETY: all handles outlive the call and are used under the library's lock. The crate has checked that the
        // selections lie inside the dataset and inside `memory`, which describes `local` in C order. An empty selection
        // reads nothing from `values`.
        let written = unsafe {
            if block.is_none() {
                H5Sselect_none(memory.id());
                H5Sselect_none(stored.id());
            }
            let transfer = H5Pcreate(*hdf5::globals::H5P_DATASET_XFER);
            H5Pset_dxpl_mpio(transfer, H5FD_mpio_xfer_t::H5FD_MPIO_COLLECTIVE);
            let code = H5Dwrite(dataset.id(), memory_type.id(), memory.id(), stored.id(), transfer, values.cast());
            // Queried before the list is closed, which clears the error stack.
            let written = if code < 0 { Err(hdf5::Error::query()) } else { Ok(()) };
            H5Pclose(transfer);
            written
        };
        match written {
            Ok(()) => Ok(()),
            Err(cause) => Err(cause?),
        }
    })
    .with_context(|| {
        format!(
            "{}: dataset {} cannot be written; is the disk full, or a quota reached?",
            dataset.filename(),
            dataset.name()
        )
    })
}

fn selection(block: &[Range<usize>]) -> Selection {
    let ranges: Vec<SliceOrIndex> = block.iter().cloned().map(SliceOrIndex::from).collect();
    Selection::from(Hyperslab::from(ranges))
}

/// Cuts an array of `shape` into blocks of at most `limit` values, along chunk borders as far as possible.
///
/// The array begins at `start` in a dataset of chunks `chunk`. No blocks for an empty array.
pub(super) fn blocks(start: &[usize], shape: &[usize], chunk: &[usize], limit: usize) -> Vec<Vec<Range<usize>>> {
    let whole = shape.iter().map(|&size| 0..size).collect();
    let mut pieces = Vec::new();
    if !shape.contains(&0) {
        cut(whole, start, chunk, limit, &mut pieces);
    }
    pieces
}

fn cut(block: Vec<Range<usize>>, start: &[usize], chunk: &[usize], limit: usize, pieces: &mut Vec<Vec<Range<usize>>>) {
    let size: usize = block.iter().map(Range::len).product();
    if size <= limit || size == 1 {
        return pieces.push(block);
    }
    // At the chunk border nearest to the middle of the first axis that has one.
    let border = (0..block.len()).find_map(|dim| {
        let (low, high) = (block[dim].start + start[dim], block[dim].end + start[dim]);
        let middle = ((low + high) / 2).div_ceil(chunk[dim]) * chunk[dim];
        let middle = if middle < high { middle } else { (high - 1) / chunk[dim] * chunk[dim] };
        (middle > low).then(|| (dim, middle - start[dim]))
    });
    // A single chunk above the limit is cut in half.
    let inside = || {
        let dim = (0..block.len()).find(|&dim| block[dim].len() > 1).unwrap_or(0);
        (dim, (block[dim].start + block[dim].end) / 2)
    };
    let (dim, middle) = border.unwrap_or_else(inside);
    let mut first = block.clone();
    let mut second = block;
    first[dim].end = middle;
    second[dim].start = middle;
    cut(first, start, chunk, limit, pieces);
    cut(second, start, chunk, limit, pieces);
}

/// Writes all records of `dataset`, laid out in `bytes` as `datatype` says. Rank-local.
///
/// # Errors
/// A full disk.
pub(super) fn write_records(dataset: &Dataset, datatype: &Datatype, bytes: &[u8]) -> Result<()> {
    anyhow::ensure!(
        bytes.len() == dataset.size() * datatype.size(),
        "{} bytes for {} records of {}",
        bytes.len(),
        dataset.size(),
        datatype.size()
    );
    // SAFETY: the identifiers are valid for the call, and `bytes` holds as many records as the dataset.
    let written = hdf5::sync::sync(|| unsafe {
        H5Dwrite(dataset.id(), datatype.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.as_ptr().cast())
    });
    anyhow::ensure!(written >= 0, "the records cannot be written; is the disk full?");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_array_once_and_follow_chunks() {
        let (start, shape, chunk) = ([4, 0, 0], [13, 9, 5], [4, 9, 5]);
        let pieces = blocks(&start, &shape, &chunk, 4 * 9 * 5);
        let covered: usize = pieces.iter().map(|block| block.iter().map(Range::len).product::<usize>()).sum();
        assert_eq!(covered, 13 * 9 * 5);
        for block in &pieces {
            assert!(block.iter().map(Range::len).product::<usize>() <= 4 * 9 * 5);
            assert_eq!(block[0].start % 4, 0, "{block:?}");
        }
    }

    #[test]
    fn a_chunk_above_the_limit_is_cut_inside() {
        let pieces = blocks(&[0, 0], &[2, 10], &[2, 10], 4);
        assert_eq!(pieces.iter().map(|block| block[0].len() * block[1].len()).sum::<usize>(), 20);
        assert!(pieces.iter().all(|block| block[0].len() * block[1].len() <= 4));
    }

    #[test]
    fn nothing_gives_no_block() {
        assert!(blocks(&[0, 0], &[0, 10], &[2, 10], 4).is_empty());
    }
}
