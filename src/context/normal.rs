//! The normal equations of the ridge regression, a set for the pixels of each fold.

use anyhow::{Context as _, Result};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Axis as Dim, s};
use rayon::prelude::*;
use tch::{TchError, Tensor};

use super::field::{Field, LIMIT};
use super::window::{FOLDS, fold, is_sampled};
use crate::comm::{Comm, ExactSum};

/// Pixels that are fitted to, about: more than weights, and no more work however large the field.
const PIXELS: u64 = 20_000;
/// The bound for which sums are exact.
const MOST_PIXELS: usize = 1 << 15;
/// Pixels whose products are formed together, and rows of the sums that a thread forms.
const PIXELS_AT_ONCE: usize = 512;
const ROWS_AT_ONCE: usize = 96;
/// The ridge, of values of unit noise: a constant and a part for each pixel.
const RIDGE: f64 = 30.0;
const RIDGE_PER_PIXEL: f64 = 0.009;

/// Sums over the pixels of one fold of the products of all numbers that are seen with each other, and with the pixel's own
/// components.
pub struct Normal {
    /// The lower triangle, row by row; the own components are the last rows.
    triangle: Vec<f64>,
    pixels: u64,
}

impl Normal {
    /// Those of each fold.
    ///
    /// # Collective
    pub fn sum(comm: &Comm, field: &Field) -> Result<Vec<Normal>> {
        let valid = comm.sum_u64(field.own_pixels().count() as u64);
        let step = valid.div_ceil(PIXELS).max(1) as usize;
        // One after the other, as each takes room.
        let folds = (0..FOLDS).map(|fold| {
            let Normal { triangle, pixels } = Normal::of(field, fold, step);
            let bound = MOST_PIXELS as f64 * f64::from(LIMIT * LIMIT);
            let mut sum = ExactSum::new(triangle.len(), bound);
            sum.add(&triangle);
            drop(triangle);
            Ok(Normal { triangle: sum.total(comm)?, pixels: comm.sum_u64(pixels) })
        });
        folds.collect()
    }

    /// That of every `step`th pixel of `wanted` in the band. Rank-local.
    pub(super) fn of(field: &Field, wanted: usize, step: usize) -> Normal {
        let pixels = field.own_pixels().filter(|&place| fold(place) == wanted && is_sampled(place, step));
        let pixels: Vec<[usize; 2]> = pixels.collect();
        let size = field.num_seen() + field.num_components();
        let mut sums = Array2::<f64>::zeros((size, size));
        for some in pixels.chunks(PIXELS_AT_ONCE) {
            let mut rows = Array2::<f64>::zeros((some.len(), size));
            rows.outer_iter_mut().into_par_iter().zip(some).for_each(|(mut row, &place)| {
                let row = row.as_slice_mut().expect("in C order");
                let own = std::iter::once(Some(field.at(place)));
                let parts = row.chunks_mut(field.num_components().max(1)).zip(field.seen(place).chain(own));
                for (part, seen) in parts {
                    part.iter_mut().zip(seen.unwrap_or_default()).for_each(|(part, &seen)| *part = f64::from(seen));
                }
            });
            sums.axis_chunks_iter_mut(Dim(0), ROWS_AT_ONCE).into_par_iter().enumerate().for_each(|(i, mut sums)| {
                let start = i * ROWS_AT_ONCE;
                let end = start + sums.nrows();
                let (left, right) = (rows.slice(s![.., start..end]), rows.slice(s![.., ..end]));
                general_mat_mul(1.0, &left.t(), &right, 1.0, &mut sums.slice_mut(s![.., ..end]));
            });
        }
        let mut triangle = Vec::with_capacity(size * (size + 1) / 2);
        for (i, row) in sums.outer_iter().enumerate() {
            triangle.extend(row.iter().take(i + 1));
        }
        Normal { triangle, pixels: pixels.len() as u64 }
    }

    /// The sums over the folds of `parts` but `left_out`.
    pub fn without(parts: &[Normal], left_out: usize) -> Normal {
        let mut rest = Normal { triangle: vec![0.0; parts[left_out].triangle.len()], pixels: 0 };
        for part in parts.iter().enumerate().filter(|&(fold, _)| fold != left_out).map(|(_, part)| part) {
            rest.triangle.iter_mut().zip(&part.triangle).for_each(|(sum, value)| *sum += value);
            rest.pixels += part.pixels;
        }
        rest
    }

    /// The weights `[seen, components]` by which the numbers that are seen predict a pixel's own components. Rank-local; one
    /// thread of libtorch.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn solve(self, num_components: usize) -> Result<Array2<f64>> {
        let size = ((8.0 * self.triangle.len() as f64 + 1.0).sqrt() as usize - 1) / 2;
        let seen = size - num_components;
        let row = |i: usize| &self.triangle[i * (i + 1) / 2..][..i + 1];
        let mut matrix = vec![0.0; seen * seen];
        for (i, values) in matrix.chunks_mut(seen.max(1)).enumerate() {
            values[..=i].copy_from_slice(row(i));
            values[i] += RIDGE + RIDGE_PER_PIXEL * self.pixels as f64;
        }
        let own: Vec<f64> = (0..seen).flat_map(|i| (seen..size).map(move |k| row(k)[i])).collect();
        drop(self.triangle);
        let solved = move || -> Result<Vec<f64>, TchError> {
            // With many components each copy is large.
            let left = Tensor::f_from_slice(&matrix)?.f_view([seen as i64, seen as i64])?;
            drop(matrix);
            let root = left.f_linalg_cholesky(false)?;
            drop(left);
            let own = Tensor::f_from_slice(&own)?.f_view([seen as i64, num_components as i64])?;
            let solved = own.f_cholesky_solve(&root, false)?;
            let mut weights = vec![0.0; seen * num_components];
            solved.f_contiguous()?.f_copy_data(&mut weights, seen * num_components)?;
            Ok(weights)
        };
        let weights = if seen == 0 { Vec::new() } else { solved().context("context: the regression failed")? };
        Array2::from_shape_vec((seen, num_components), weights).context("context: weights of another number")
    }
}
