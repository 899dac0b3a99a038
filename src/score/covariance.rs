//! The noise of a cube's features, measured on the pixels that look normal.

use anyhow::Result;
use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;

use super::features::dot;
use super::quantile::quantiles;
use crate::comm::{Comm, ExactSum};

/// Share of the pixels left out because anomalies may be among them, and how often they are chosen anew.
pub(super) const TRIMMED: f64 = 0.08;
const ROUNDS: usize = 5;
/// Directions with less than this share of the median variance are rounding, not noise.
const MIN_EIGENVALUE: f64 = 0.05;
/// A covariance needs this many pixels for each of its dimensions.
pub(super) const PIXELS_PER_DIMENSION: u64 = 8;

/// Some columns of the features of a rank's scan lines.
///
/// A line is a fixed unit of work: sums over pixels are formed line by line.
pub struct Columns<'a> {
    /// Per line `[x, num_columns]`, C order; a pixel with a value that is not finite does not count.
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

    /// The same with no more columns than `num_pixels` (of the whole cube) can whiten.
    pub fn at_most_for(mut self, num_pixels: u64) -> Self {
        self.len = self.len.min((num_pixels / PIXELS_PER_DIMENSION).max(1) as usize);
        self
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.len
    }

    /// `f` of every pixel's columns, NaN for those that do not count, in the order of the pixels.
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

    /// The sums of the columns of all ranks' pixels, each times its weight (0 to 1).
    ///
    /// # Collective
    pub fn weighted_sum(&self, comm: &Comm, weights: &[f32]) -> Result<Vec<f64>> {
        let mut first = 0;
        let lines: Vec<(&[f32], &[f32])> = self
            .lines
            .iter()
            .map(|&line| {
                let count = line.len() / self.num_columns.max(1);
                first += count;
                (line, &weights[first - count..first])
            })
            .collect();
        let weighed: Vec<(Vec<f64>, f64)> = lines
            .par_iter()
            .map(|(line, weights)| {
                let (mut sums, mut largest) = (vec![0f64; self.len], 0f64);
                for (pixel, &weight) in self.pixels(line).zip(*weights) {
                    if weight > 0.0 && pixel.iter().all(|v| v.is_finite()) {
                        for (sum, &value) in sums.iter_mut().zip(pixel) {
                            largest = largest.max(f64::from(value).abs());
                            *sum += f64::from(weight) * f64::from(value);
                        }
                    }
                }
                (sums, largest)
            })
            .collect();
        let largest = weighed.iter().fold(0f64, |most, line| most.max(line.1));
        let bound = comm.sum_u64(first as u64) as f64 * comm.max_f64(largest).max(1.0);
        let mut sum = ExactSum::new(self.len, bound);
        weighed.iter().for_each(|line| sum.add(&line.0));
        sum.total(comm)
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

    /// Whitened coordinates of a difference of pixels.
    pub fn direction(&self, columns: &[f64]) -> Vec<f64> {
        self.rows.iter().map(|row| dot(row, columns)).collect()
    }

    /// Number of whitened coordinates.
    pub fn dimensions(&self) -> usize {
        self.rows.len()
    }

    /// The whitened coordinate along `direction`, as weights of a pixel's columns and what is taken off their sum.
    pub fn along(&self, direction: &[f64]) -> (Vec<f64>, f64) {
        let mut weights = vec![0.0; self.center.len()];
        for (row, part) in self.rows.iter().zip(direction) {
            weights.iter_mut().zip(row).for_each(|(w, r)| *w += part * r);
        }
        let offset = weights.iter().zip(&self.center).map(|(w, c)| w * c).sum();
        (weights, offset)
    }

    /// Squared Mahalanobis distance of a pixel.
    pub fn distance(&self, columns: &[f32]) -> f32 {
        let whitened = self.pixel(columns);
        dot(&whitened, &whitened) as f32
    }

    /// Measures the whitening of `columns`, leaving out the 8 % of the pixels that lie farthest, five times anew.
    ///
    /// # Collective
    /// Every rank of `comm`; a rank may have no line.
    ///
    /// # Source
    /// Concentration steps of the minimum covariance determinant, Rousseeuw & Van Driessen 1999.
    pub fn trimmed(comm: &Comm, columns: &Columns) -> Result<Whitening> {
        // The features of white noise have one variance, so plain length is a fair first distance.
        let mut distances = columns.map(squared_length);
        let mut whitening = Whitening::moments(comm, columns, &distances)?;
        for _ in 0..ROUNDS {
            distances = columns.map(|pixel| whitening.distance(pixel));
            whitening = Whitening::moments(comm, columns, &distances)?;
        }
        Ok(whitening)
    }

    /// Mean and covariance of the pixels with the least `distances`, as a whitening.
    ///
    /// # Collective
    fn moments(comm: &Comm, columns: &Columns, distances: &[f32]) -> Result<Whitening> {
        let cut = quantiles(comm, distances, &[1.0 - TRIMMED])[0];
        let kept = |distance: f32| f64::from(distance) <= cut;
        let lengths = columns.map(squared_length);
        let largest =
            lengths.iter().zip(distances).filter(|&(_, &d)| kept(d)).map(|(&l, _)| f64::from(l)).fold(1.0, f64::max);
        let num_pixels = comm.sum_u64(distances.len() as u64) as f64;
        // |sum c_i c_j| <= n max |c|^2, and |sum c_i| <= n max(1, |c|^2); f32 rounded the lengths.
        let bound = 1.01 * num_pixels.max(1.0) * comm.max_f64(largest);
        let len = columns.len;
        let mut first = 0;
        let starts: Vec<(&[f32], &[f32])> = columns
            .lines
            .iter()
            .map(|&line| {
                let count = line.len() / columns.num_columns.max(1);
                first += count;
                (line, &distances[first - count..first])
            })
            .collect();
        let lines: Vec<Vec<f64>> = starts
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

    /// From the number of pixels, the sums of their columns and of the columns' products.
    fn from_sums(sums: &[f64], len: usize) -> Whitening {
        let num = sums[0].max(1.0);
        let center: Vec<f64> = sums[1..=len].iter().map(|s| s / num).collect();
        let covariance = DMatrix::from_fn(len, len, |i, j| {
            let (i, j) = (i.min(j), i.max(j));
            sums[1 + len + i * len + j] / num - center[i] * center[j]
        });
        let eigen = SymmetricEigen::new(covariance);
        let mut sorted: Vec<f64> = eigen.eigenvalues.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(len / 2).copied().unwrap_or(0.0);
        let largest = sorted.last().copied().unwrap_or(0.0);
        let least = (MIN_EIGENVALUE * median).max(1e-9 * largest);
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
