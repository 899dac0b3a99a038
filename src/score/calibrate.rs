//! Recalibration: removes from the residuals what the model's own prediction explains. Where a model errs in the same
//! way wherever it sees more of an edge, its error is no anomaly.

use std::ops::Range;

use anyhow::Result;
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::covariance::{Columns, PIXELS_PER_DIMENSION, TRIMMED, Whitening};
use super::line::LineFeatures;
use super::quantile::quantiles;
use crate::comm::{Comm, ExactSum};

/// Ridge of the regression, relative to the largest variance: keeps columns that hardly vary out of it.
const RIDGE: f64 = 1e-6;

/// Regresses the coefficients `range` of all pixels on the columns `predicted`, and keeps the residuals.
///
/// The regression is trimmed: the 8 % of the pixels that lie farthest take no part, so that anomalies do not bend it.
/// Nothing is done where there are too few pixels. Columns are those of [`LineFeatures::columns`].
///
/// # Collective
/// Every rank of `comm`; a rank may have no line.
pub fn calibrate(
    comm: &Comm,
    lines: &mut [LineFeatures],
    num_columns: usize,
    range: &Range<usize>,
    predicted: &Range<usize>,
    num_valid: u64,
) -> Result<()> {
    let (len, given) = (range.len(), predicted.len() + 1);
    if num_valid < PIXELS_PER_DIMENSION * (len.max(given) as u64 + given as u64) {
        return Ok(());
    }
    let (sums, kept) = moments(comm, lines, num_columns, range, predicted)?;
    let Some(weights) = solve(&sums, given, len, kept) else {
        return Ok(());
    };
    lines.par_iter_mut().for_each(|line| {
        for pixel in line.columns.chunks_exact_mut(num_columns) {
            let known: Vec<f64> = with_one(&pixel[predicted.clone()]).collect();
            for (value, weights) in pixel[range.clone()].iter_mut().zip(weights.column_iter()) {
                let explained: f64 = weights.iter().zip(&known).map(|(w, k)| w * k).sum();
                *value -= explained as f32;
            }
        }
    });
    Ok(())
}

/// `1` and the predicted values of a pixel.
fn with_one(predicted: &[f32]) -> impl Iterator<Item = f64> + '_ {
    std::iter::once(1.0).chain(predicted.iter().map(|&p| f64::from(p)))
}

/// Sums over the pixels that look normal of `x x^T` (`[given, given]`) and `x f^T` (`[given, len]`), and the number of
/// pixels.
///
/// # Collective
fn moments(
    comm: &Comm,
    lines: &[LineFeatures],
    num_columns: usize,
    range: &Range<usize>,
    predicted: &Range<usize>,
) -> Result<(Vec<f64>, f64)> {
    let coefficients = lines.iter().map(|line| &line.columns[..]).collect();
    let columns = Columns::new(coefficients, num_columns, range.start, range.len());
    let whitening = Whitening::trimmed(comm, &columns)?;
    let distances = columns.map(|pixel| whitening.distance(pixel));
    let cut = quantiles(comm, &distances, &[1.0 - TRIMMED])[0];
    let (len, given) = (range.len(), predicted.len() + 1);
    let mut largest = 1f64;
    let parts = columns.lines_with(&distances);
    let normal = |distance: f32| f64::from(distance) <= cut;
    for (line, distances) in &parts {
        for (pixel, &distance) in line.chunks_exact(num_columns).zip(*distances) {
            if normal(distance) {
                let values = pixel[range.clone()].iter().chain(&pixel[predicted.clone()]);
                largest = values.fold(largest, |most, &v| most.max(f64::from(v).abs()));
            }
        }
    }
    let total = comm.sum_u64(distances.len() as u64) as f64;
    let bound = total.max(1.0) * comm.max_f64(largest).powi(2);
    let summed: Vec<Vec<f64>> = parts
        .par_iter()
        .map(|(line, distances)| {
            let mut sums = vec![0f64; given * (given + len)];
            for (pixel, &distance) in line.chunks_exact(num_columns).zip(*distances) {
                if !normal(distance) {
                    continue;
                }
                for (i, a) in with_one(&pixel[predicted.clone()]).enumerate() {
                    let row = &mut sums[i * (given + len)..(i + 1) * (given + len)];
                    let values = pixel[range.clone()].iter().map(|&f| f64::from(f));
                    let others = with_one(&pixel[predicted.clone()]).chain(values);
                    row.iter_mut().zip(others).for_each(|(sum, b)| *sum += a * b);
                }
            }
            sums
        })
        .collect();
    let mut sum = ExactSum::new(given * (given + len), bound);
    summed.iter().for_each(|line| sum.add(line));
    let sums = sum.total(comm)?;
    // The first element is the sum of 1 * 1.
    let kept = sums[0];
    Ok((sums, kept))
}

/// Weights `[given, len]` of the regression; `None` where there is nothing to fit.
fn solve(sums: &[f64], given: usize, len: usize, kept: f64) -> Option<DMatrix<f64>> {
    if kept < 1.0 {
        return None;
    }
    let width = given + len;
    let mut normal = DMatrix::from_fn(given, given, |i, j| sums[i * width + j] / kept);
    let right = DMatrix::from_fn(given, len, |i, j| sums[i * width + given + j] / kept);
    let spread = DVector::from_fn(given, |i, _| normal[(i, i)]).max();
    for i in 0..given {
        normal[(i, i)] += RIDGE * spread;
    }
    normal.cholesky().map(|factors| factors.solve(&right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_squares_finds_the_weights() {
        // f = 2 - 3 p at p = -1, 0, 1.
        let points = [(-1.0, 5.0), (0.0, 2.0), (1.0, -1.0)];
        let mut sums = vec![0.0; 6];
        for (p, f) in points {
            for (i, a) in [1.0, p].into_iter().enumerate() {
                for (j, b) in [1.0, p, f].into_iter().enumerate() {
                    sums[3 * i + j] += a * b;
                }
            }
        }
        let weights = solve(&sums, 2, 1, 3.0).unwrap();
        assert!((weights[(0, 0)] - 2.0).abs() < 1e-4 && (weights[(1, 0)] + 3.0).abs() < 1e-4);
        assert!(solve(&[0.0; 6], 2, 1, 0.0).is_none());
    }
}
