//! Statistics of a cube's stored values, before anything is done to them.

use anyhow::Result;
use serde::Serialize;

use crate::comm::Comm;
use crate::preprocess::vacuum::pixel_totals;
use crate::spectrum::{Middle, median};
use crate::stream::Cube;

/// Fewer voxels at the largest value, or a smaller largest value, may be chance.
const MIN_SATURATED: u64 = 10;
const MIN_LIMIT: f64 = 250.0;

/// Statistics of all voxels of a cube, in stored units; the last four are shares of the voxels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counts {
    pub voxels: u64,
    /// Of the finite voxels, as `min` and `max`; null where there are none.
    pub mean: f64,
    pub min: f64,
    pub max: f64,
    pub zeros: f64,
    pub negatives: f64,
    /// NaN and infinities.
    pub not_finite: f64,
    /// Share at the limit of the stored type, or piled up at the largest value.
    pub saturated: f64,
}

/// The counts of a rank's own blocks.
struct Tally {
    voxels: u64,
    not_finite: u64,
    zeros: u64,
    negatives: u64,
    min: f64,
    max: f64,
    at_max: u64,
    /// Sum of the finite voxels of each block, in order.
    sums: Vec<f64>,
}

impl Tally {
    fn add(&mut self, values: impl Iterator<Item = f32>) {
        let mut sum = 0.0;
        for value in values {
            self.voxels += 1;
            if !value.is_finite() {
                self.not_finite += 1;
                continue;
            }
            let value = f64::from(value);
            sum += value;
            self.zeros += u64::from(value == 0.0);
            self.negatives += u64::from(value < 0.0);
            self.min = self.min.min(value);
            if value > self.max {
                (self.max, self.at_max) = (value, 0);
            }
            self.at_max += u64::from(value == self.max);
        }
        self.sums.push(sum);
    }
}

/// Counts the voxels of `cube`, which must not be cropped; on root also gives the total of each pixel `[y, x]`, in
/// stored units.
///
/// # Collective
/// # Errors
/// Unreadable data.
pub fn count(comm: &Comm, cube: &Cube) -> Result<(Counts, Option<Vec<f32>>)> {
    let mut tally = Tally {
        voxels: 0,
        not_finite: 0,
        zeros: 0,
        negatives: 0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        at_max: 0,
        sums: Vec::new(),
    };
    let mut totals = Vec::new();
    let blocks = cube.blocks();
    let mut mine = blocks.owned(comm.rank(), comm.size());
    let read = mine.try_for_each(|block| {
        let raw = cube.raw(blocks.rows(block))?;
        tally.add(raw.iter().copied());
        totals.extend(pixel_totals(raw.view()));
        Ok(())
    });
    comm.agree(read)?;
    let max = comm.max_f64(tally.max);
    let min = -comm.max_f64(-tally.min);
    let mut sums = [
        tally.voxels as i64,
        tally.not_finite as i64,
        tally.zeros as i64,
        tally.negatives as i64,
        if tally.max == max { tally.at_max as i64 } else { 0 },
    ];
    comm.sum_i64(&mut sums);
    let [voxels, not_finite, zeros, negatives, at_max] = sums.map(|sum| sum as u64);
    // In the order of the blocks, whichever rank read them.
    let sum: f64 = comm.all_gather(&tally.sums).iter().flatten().sum();
    let share = |count: u64| count as f64 / voxels.max(1) as f64;
    let is_limit = limit_of(&cube.info().dtype) == Some(max);
    let piles_up = at_max >= MIN_SATURATED && max >= MIN_LIMIT;
    let counts = Counts {
        voxels,
        mean: sum / (voxels - not_finite) as f64,
        min,
        max,
        zeros: share(zeros),
        negatives: share(negatives),
        not_finite: share(not_finite),
        saturated: if is_limit || piles_up { share(at_max) } else { 0.0 },
    };
    Ok((counts, comm.gather_bands(&totals)))
}

/// The largest number of an integer type that cameras write.
fn limit_of(dtype: &str) -> Option<f64> {
    match dtype {
        "uint8" => Some(f64::from(u8::MAX)),
        "int16" => Some(f64::from(i16::MAX)),
        "uint16" => Some(f64::from(u16::MAX)),
        _ => None,
    }
}

/// The columns and the lines of `totals` `[y, x]` that are dark and lie between brighter ones.
pub fn dark(totals: &[f32], [rows, columns]: [usize; 2]) -> [Vec<usize>; 2] {
    let median = |values: Vec<f32>| if values.is_empty() { 0.0 } else { median(values, Middle::Upper) as f32 };
    let of_columns: Vec<f32> =
        (0..columns).map(|x| median((0..rows).map(|y| totals[y * columns + x]).collect())).collect();
    let of_rows: Vec<f32> = (0..rows).map(|y| median(totals[y * columns..(y + 1) * columns].to_vec())).collect();
    [between_brighter(&of_columns), between_brighter(&of_rows)]
}

/// Indices of values below a third of both neighbours; at either end, below a tenth of the only one.
fn between_brighter(values: &[f32]) -> Vec<usize> {
    if values.len() < 3 {
        return Vec::new();
    }
    let last = values.len() - 1;
    (0..=last)
        .filter(|&i| match i {
            0 => values[0] < 0.1 * values[1],
            i if i == last => values[last] < 0.1 * values[last - 1],
            i => values[i] < values[i - 1].min(values[i + 1]) / 3.0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dark_column_lies_between_brighter_ones() {
        let mut totals = vec![100f32; 5 * 4];
        (0..5).for_each(|y| totals[y * 4 + 2] = 3.0);
        assert_eq!(dark(&totals, [5, 4]), [vec![2], vec![]]);
        totals[..4].fill(0.0);
        assert_eq!(dark(&totals, [5, 4]), [vec![2], vec![0]]);
        assert!(dark(&[5.0, 0.0], [1, 2]).iter().all(Vec::is_empty));
    }
}
