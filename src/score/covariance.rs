//! Whitening: the covariance of the features' noise, measured on the pixels that look normal.

use anyhow::Result;
use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;

use super::features::dot;
use super::quantile::quantiles;
use crate::comm::{Comm, ExactSum};
use crate::spectrum::{Middle, median};

/// Share of the pixels that is trimmed because anomalies may be among them, and how often it is chosen anew.
pub(super) const TRIMMED: f64 = 0.08;
const ROUNDS: usize = 5;
/// Directions with less than this share of the median variance are rounding errors, not noise.
const MIN_EIGENVALUE: f64 = 0.05;
/// A covariance needs this many pixels for each dimension.
pub(super) const PIXELS_PER_DIMENSION: u64 = 8;

/// Some columns of the features of a rank's scan lines.
///
/// Sums over pixels are formed line by line, so that they do not depend on how lines are spread over ranks.
pub struct Columns<'a> {
    /// Per line `[x, num_columns]`, C order; a pixel with a value that is not finite is left out.
    lines: Vec<&'a [f32]>,
    num_columns: usize,
    start: usize,
    len: usize,
}

impl<'a> Columns<'a> {
    /// The columns `start..start + len` of lines with `num_columns` columns.
    pub fn new(lines: Vec<&'a [f32]>, num_columns: usize, start: usize, len: usize) -> Self {
        Columns { lines, num_columns, start, len }
    }

    /// The first of these columns, no more than `num_pixels` pixels (of the whole cube) can whiten.
    pub fn at_most_for(mut self, num_pixels: u64) -> Self {
        self.len = self.len.min((num_pixels / PIXELS_PER_DIMENSION).max(1) as usize);
        self
    }

    /// `f` of every pixel's columns in the order of the pixels, NaN for those left out.
    pub fn map(&self, f: impl Fn(&[f32]) -> f32 + Sync) -> Vec<f32> {
        let lines: Vec<Vec<f32>> = self
            .lines
            .par_iter()
            .map(|line| {
                self.pixels(line).map(|p| if p.iter().any(|v| !v.is_finite()) { f32::NAN } else { f(p) }).collect()
            })
            .collect();
        lines.concat()
    }

    /// Each line with the values of its pixels, of which `values` has one for each pixel of this rank.
    pub fn lines_with<'b>(&'b self, values: &'b [f32]) -> Vec<(&'b [f32], &'b [f32])> {
        let mut rest = values;
        let with_values = |&line: &&'b [f32]| {
            let (own, after) = rest.split_at(line.len() / self.num_columns.max(1));
            rest = after;
            (line, own)
        };
        self.lines.iter().map(with_values).collect()
    }

    /// The pixels of one line.
    fn pixels<'b>(&'b self, line: &'b [f32]) -> impl Iterator<Item = &'b [f32]> {
        line.chunks_exact(self.num_columns.max(1)).map(|pixel| &pixel[self.start..self.start + self.len])
    }
}

/// A linear map to coordinates in which normal pixels have mean 0 and covariance 1.
#[derive(Clone, Debug)]
pub struct Whitening {
    center: Vec<f64>,
    /// `[kept, columns]`.
    rows: Vec<Vec<f64>>,
}

impl Whitening {
    /// Whitened coordinates of a pixel.
    pub fn pixel(&self, columns: &[f32]) -> Vec<f64> {
        let centered: Vec<f64> = columns.iter().zip(&self.center).map(|(v, c)| f64::from(*v) - c).collect();
        self.direction(&centered)
    }

    /// Whitened coordinates of the difference between two pixels.
    pub fn direction(&self, columns: &[f64]) -> Vec<f64> {
        self.rows.iter().map(|row| dot(row, columns)).collect()
    }

    /// Squared Mahalanobis distance of a pixel.
    pub fn distance(&self, columns: &[f32]) -> f32 {
        let whitened = self.pixel(columns);
        dot(&whitened, &whitened) as f32
    }

    /// The whitening of `columns`, measured without the 8 % of the pixels that lie farthest; these are chosen five
    /// times anew.
    ///
    /// # Collective
    /// Every rank of `comm`; a rank may have no line.
    ///
    /// # Source
    /// Concentration steps of the minimum covariance determinant, Rousseeuw & Van Driessen 1999.
    pub fn trimmed(comm: &Comm, columns: &Columns) -> Result<Whitening> {
        // The features of white noise have equal variances, so the plain length will do as the first distance.
        let mut distances = columns.map(squared_length);
        let mut whitening = Whitening::moments(comm, columns, &distances)?;
        for _ in 0..ROUNDS {
            distances = columns.map(|pixel| whitening.distance(pixel));
            whitening = Whitening::moments(comm, columns, &distances)?;
        }
        Ok(whitening)
    }

    /// The whitening by the mean and covariance of the pixels with the smallest `distances`.
    ///
    /// # Collective
    fn moments(comm: &Comm, columns: &Columns, distances: &[f32]) -> Result<Whitening> {
        let cut = quantiles(comm, distances, &[1.0 - TRIMMED])[0];
        let kept = |distance: f32| f64::from(distance) <= cut;
        let lengths = columns.map(squared_length);
        let largest =
            lengths.iter().zip(distances).filter(|&(_, &d)| kept(d)).map(|(&l, _)| f64::from(l)).fold(1.0, f64::max);
        let num_pixels = comm.sum_u64(distances.len() as u64) as f64;
        // |sum c_i c_j| <= n max |c|^2, and |sum c_i| <= n max(1, |c|^2); 1.01 for lengths rounded to f32.
        let bound = 1.01 * num_pixels.max(1.0) * comm.max_f64(largest);
        let len = columns.len;
        let lines: Vec<Vec<f64>> = columns
            .lines_with(distances)
            .par_iter()
            .map(|(line, distances)| {
                let mut sums = vec![0.0; 1 + len + len * len];
                for (pixel, &distance) in columns.pixels(line).zip(*distances) {
                    if kept(distance) {
                        add_pixel(&mut sums, pixel);
                    }
                }
                sums
            })
            .collect();
        let mut sum = ExactSum::new(1 + len + len * len, bound);
        for line in &lines {
            sum.add(line);
        }
        Ok(Whitening::from_sums(&sum.total(comm)?, len))
    }

    /// From `[count, sums, products]` of the pixels' columns.
    fn from_sums(sums: &[f64], len: usize) -> Whitening {
        let num = sums[0].max(1.0);
        let center: Vec<f64> = sums[1..=len].iter().map(|s| s / num).collect();
        let covariance = DMatrix::from_fn(len, len, |i, j| {
            let (i, j) = (i.min(j), i.max(j));
            sums[1 + len + i * len + j] / num - center[i] * center[j]
        });
        let eigen = SymmetricEigen::new(covariance);
        let variances = || eigen.eigenvalues.iter().copied();
        let largest = variances().fold(0.0, f64::max);
        let least = (MIN_EIGENVALUE * median(variances(), Middle::Upper)).max(1e-9 * largest);
        let rows = (0..len)
            .filter(|&k| eigen.eigenvalues[k] > least)
            .map(|k| {
                let root = eigen.eigenvalues[k].sqrt();
                eigen.eigenvectors.column(k).iter().map(|v| v / root).collect()
            })
            .collect();
        Whitening { center, rows }
    }
}

/// The squared Euclidean length of a pixel's columns.
fn squared_length(pixel: &[f32]) -> f32 {
    pixel.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() as f32
}

/// Adds one pixel to `[count, sums, products]` (upper triangle).
fn add_pixel(sums: &mut [f64], pixel: &[f32]) {
    let len = pixel.len();
    sums[0] += 1.0;
    for (i, &a) in pixel.iter().enumerate() {
        let a = f64::from(a);
        sums[1 + i] += a;
        for (j, &b) in pixel.iter().enumerate().skip(i) {
            sums[1 + len + i * len + j] += a * f64::from(b);
        }
    }
}
