//! All pixels of a cube in the coordinates that they are judged in: counts, and what a model predicts of them.

use anyhow::Result;
use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::basis::{Basis, LineFeatures};
use super::discs::Disc;
use super::quantile::medians;
use super::trend::remove_trends;
use super::trust::Trust;
use crate::bands::Bands;
use crate::comm::{Comm, ExactSum};
use crate::spectrum::MAD_OF_SD;

/// The most components of a prediction that residuals are regressed on, and pixels for each.
const REGRESSORS: usize = 24;
const PIXELS_PER_REGRESSOR: u64 = 20;
/// Components of a prediction below this share of the largest, or this many electrons, are rounding.
const LEAST_REGRESSOR: f64 = 1e-3;
const LEAST_ELECTRONS: f64 = 1e-3;
/// The most directions of misfit of the cube's own, and pixels for each.
const MISFIT: usize = 24;
const PIXELS_PER_MISFIT: u64 = 12;
/// Ridge of the regression that misfit is looked for after, pixels.
const RIDGE: f64 = 30.0;
/// Noise that differs by less from what is counted on is left as it is.
const NOISE_TOLERANCE: f64 = 0.1;

/// This rank's pixels; maps `[lines, x]`, NaN where a pixel is ignored, in units of one pixel's noise.
#[derive(Clone)]
pub struct Sample<'a> {
    pub bands: &'a Bands<'a>,
    /// By coordinate.
    pub counted: Vec<Array2<f32>>,
    pub predicted: Vec<Array2<f32>>,
    /// The prediction along its own principal components.
    pub regressors: Vec<Array2<f32>>,
    /// What another model predicts, in few components.
    pub beside: Vec<Array2<f32>>,
    /// Electrons of each pixel.
    pub electrons: Array2<f32>,
    /// By template of the [`Basis`]: `[coordinates]`, for a pixel of one electron.
    pub templates: Vec<Vec<f64>>,
    pub turn: Turn,
}

/// The way from the coordinates of a [`Basis`] to those of a [`Sample`].
#[derive(Clone)]
pub struct Turn {
    /// `[basis, coordinates]`.
    matrix: DMatrix<f64>,
    /// Standard deviation of the noise.
    scale: f64,
}

impl Turn {
    /// A residual with the coordinates `residual` in the basis.
    pub fn turned(&self, residual: &[f64]) -> Vec<f64> {
        let column = DMatrix::from_column_slice(residual.len(), 1, residual);
        (self.matrix.tr_mul(&column) / self.scale).iter().copied().collect()
    }
}

impl<'a> Sample<'a> {
    /// Of the `lines` of this rank, with what another model predicts of them `beside`, in units of noise.
    ///
    /// The coordinates are those of `basis` that are fixed, and the directions in the others along which neighbours are
    /// misfit alike.
    ///
    /// # Collective
    /// # Errors
    /// Features that are not finite.
    pub fn new(
        bands: &'a Bands<'a>,
        basis: &Basis,
        lines: &[LineFeatures],
        beside: &[Array2<f32>],
    ) -> Result<Sample<'a>> {
        let size = basis.num_coordinates();
        let regression = Regression::new(bands, lines, size)?;
        let matrix = coordinates(bands, basis, lines, &regression)?;
        let mut counted = maps(bands, lines, &matrix, |line| line.counted.view());
        let mut predicted = maps(bands, lines, &matrix, |line| line.predicted.view());
        let mut regressors = maps(bands, lines, &regression.components, |line| line.predicted.view());
        let scale = noise(bands.comm, &counted).sqrt();
        for map in [&mut counted, &mut predicted, &mut regressors].into_iter().flatten() {
            map.mapv_inplace(|value| value / scale as f32);
        }
        let turn = Turn { matrix, scale };
        Ok(Sample {
            bands,
            counted,
            predicted,
            regressors,
            beside: beside.to_vec(),
            electrons: bands.map(lines.iter().flat_map(|line| line.electrons.iter().copied()).collect()),
            templates: basis.templates.iter().map(|template| turn.turned(&template.residual)).collect(),
            turn,
        })
    }

    /// The sample without slow trends over the field; `None` on every rank where it has none.
    ///
    /// # Collective
    pub fn without_trends(&self) -> Option<Sample<'a>> {
        let mut sample = self.clone();
        let maps = [&mut sample.counted, &mut sample.predicted, &mut sample.regressors, &mut sample.beside];
        let had = maps.map(|maps| remove_trends(self.bands, maps));
        had.contains(&true).then_some(sample)
    }

    /// Number of coordinates.
    pub fn dimensions(&self) -> usize {
        self.counted.len()
    }

    /// The maps that residuals are regressed on.
    pub fn regressors_of(&self, trust: Trust) -> Vec<&Array2<f32>> {
        let predicted = self.regressors.iter().filter(|_| trust.regressed);
        predicted.chain(self.beside.iter().filter(|_| trust.beside)).collect()
    }
}

/// How counts follow from the components of a prediction.
struct Regression {
    /// `[basis, regressors]`.
    components: DMatrix<f64>,
    /// `[regressors, basis]`.
    weights: DMatrix<f64>,
}

impl Regression {
    /// # Collective
    fn new(bands: &Bands, lines: &[LineFeatures], size: usize) -> Result<Regression> {
        // Products of the prediction with itself, then with the counts.
        let products = |line: &LineFeatures, sums: &mut [f64]| {
            for (predicted, counted) in line.predicted.outer_iter().zip(line.counted.outer_iter()) {
                if predicted[0].is_nan() {
                    continue;
                }
                for (i, &p) in predicted.iter().enumerate() {
                    let row = &mut sums[i * 2 * size..(i + 1) * 2 * size];
                    let others = predicted.iter().chain(&counted);
                    row.iter_mut().zip(others).for_each(|(sum, &other)| *sum += f64::from(p) * f64::from(other));
                }
            }
        };
        let largest = largest(lines);
        let bound = bands.num_valid.max(1) as f64 * bands.comm.max_f64(largest).powi(2);
        let sums = total(bands.comm, lines, 2 * size * size, bound, products)?;
        let own = DMatrix::from_fn(size, size, |i, j| sums[i.min(j) * 2 * size + i.max(j)]);
        let with_counts = DMatrix::from_fn(size, size, |i, j| sums[i * 2 * size + size + j]);
        let most = REGRESSORS.min((bands.num_valid / PIXELS_PER_REGRESSOR) as usize);
        let (values, vectors) = sorted_eigen(own);
        let least = (LEAST_REGRESSOR * values.first().copied().unwrap_or(0.0).max(0.0).sqrt())
            .max(LEAST_ELECTRONS * (bands.num_valid.max(1) as f64).sqrt());
        let kept = values.iter().take(most).take_while(|value| value.max(0.0).sqrt() > least).count();
        let components = vectors.columns(0, kept).into_owned();
        let right = components.tr_mul(&with_counts);
        let weights = DMatrix::from_fn(kept, size, |k, j| right[(k, j)] / (values[k] + RIDGE));
        Ok(Regression { components, weights })
    }
}

/// The coordinates `[basis, coordinates]` to judge in: the fixed ones, and directions of misfit among the others.
///
/// # Collective
fn coordinates(bands: &Bands, basis: &Basis, lines: &[LineFeatures], regression: &Regression) -> Result<DMatrix<f64>> {
    let (size, fixed) = (basis.num_coordinates(), basis.fixed);
    let others = size - fixed;
    let most = MISFIT.min((bands.num_valid / PIXELS_PER_MISFIT) as usize).min(others);
    if most == 0 {
        return Ok(DMatrix::identity(size, fixed));
    }
    let predicted = &regression.components * &regression.weights;
    let disc = Disc::neighbours(bands.is_line_scan());
    let rest = |k: usize| {
        let weights: Vec<f32> = predicted.column(k).iter().map(|&w| w as f32).collect();
        let rest = |line: &LineFeatures| -> Vec<f32> {
            let explained = line.predicted.dot(&ndarray::ArrayView1::from(&weights));
            line.counted.column(k).iter().zip(&explained).map(|(c, e)| c - e).collect()
        };
        bands.map(lines.par_iter().map(rest).collect::<Vec<_>>().concat())
    };
    let (pooled, _) = disc.pooled_each(bands, &(fixed..size).map(rest).collect::<Vec<_>>());
    let largest = pooled.iter().flatten().filter(|v| v.is_finite()).fold(1f64, |most, v| most.max(f64::from(v.abs())));
    let bound = bands.num_valid.max(1) as f64 * bands.comm.max_f64(largest).powi(2);
    let rows: Vec<usize> = (0..bands.shape().0).collect();
    let width = others + 1;
    let columns = bands.shape().1;
    let sums = total(bands.comm, &rows, width * width, bound, |&y, sums| {
        for x in 0..columns {
            let pixel: Vec<f64> = pooled.iter().map(|map| f64::from(map[[y, x]])).chain([1.0]).collect();
            if pixel[0].is_nan() {
                continue;
            }
            for (i, a) in pixel.iter().enumerate() {
                sums[i * width..(i + 1) * width].iter_mut().zip(&pixel).for_each(|(sum, b)| *sum += a * b);
            }
        }
    })?;
    let n = sums[width * width - 1].max(1.0);
    let mean = |i: usize| sums[i * width + others] / n;
    let covariance = DMatrix::from_fn(others, others, |i, j| sums[i.min(j) * width + i.max(j)] / n - mean(i) * mean(j));
    let (values, vectors) = sorted_eigen(covariance);
    // What chance makes of white noise: Marchenko & Pastur, Math. USSR Sb. 1 (1967) 457.
    let edge = (1.0 + ((others * disc.pixels()) as f64 / n).sqrt()).powi(2);
    let kept = values.iter().take(most).take_while(|&&value| value > edge).count();
    let mut turn = DMatrix::zeros(size, fixed + kept);
    turn.view_mut((0, 0), (fixed, fixed)).fill_with_identity();
    turn.view_mut((fixed, fixed), (others, kept)).copy_from(&vectors.columns(0, kept));
    Ok(turn)
}

/// One map for each column of `turn` `[basis, maps]`: this rank's pixels along it.
fn maps<'l>(
    bands: &Bands,
    lines: &'l [LineFeatures],
    turn: &DMatrix<f64>,
    features: impl Fn(&'l LineFeatures) -> ArrayView2<'l, f32> + Sync,
) -> Vec<Array2<f32>> {
    let turn = Array2::from_shape_fn(turn.shape(), |(i, k)| turn[(i, k)] as f32);
    let mut maps = vec![Array2::zeros(bands.shape()); turn.ncols()];
    let turned: Vec<Array2<f32>> = lines.par_iter().map(|line| features(line).dot(&turn)).collect();
    for (y, line) in turned.iter().enumerate() {
        for (map, column) in maps.iter_mut().zip(line.columns()) {
            map.row_mut(y).assign(&column);
        }
    }
    maps
}

/// The variance of the noise along the coordinates, from neighbours in a line: the median over coordinates, since some hold
/// structure as well.
///
/// # Collective
fn noise(comm: &Comm, counted: &[Array2<f32>]) -> f64 {
    let differences = |map: &Array2<f32>| -> Vec<f32> {
        let of_line =
            |line: ndarray::ArrayView1<f32>| line.windows(2).into_iter().map(|w| (w[1] - w[0]).abs()).collect();
        map.outer_iter().flat_map(|line| -> Vec<f32> { of_line(line) }).collect()
    };
    let found = medians(comm, &counted.iter().map(differences).collect::<Vec<_>>());
    let mut variances: Vec<f64> = found.into_iter().map(|median| (median / MAD_OF_SD).powi(2) / 2.0).collect();
    variances.sort_by(f64::total_cmp);
    let found = variances.get(variances.len() / 2).copied().unwrap_or(1.0);
    let differs = found.is_finite() && found > 0.0 && (found - 1.0).abs() > NOISE_TOLERANCE;
    if differs { found } else { 1.0 }
}

/// The largest feature of this rank.
fn largest(lines: &[LineFeatures]) -> f64 {
    let of = |line: &LineFeatures| {
        let values = line.counted.iter().chain(&line.predicted).filter(|value| value.is_finite());
        values.fold(1f64, |most, &value| most.max(f64::from(value).abs()))
    };
    lines.par_iter().map(of).reduce(|| 1.0, f64::max)
}

/// The exact sum over all ranks of what `add` makes of each of `units`, whole scan lines.
///
/// # Collective
fn total<T: Sync>(
    comm: &Comm,
    units: &[T],
    len: usize,
    bound: f64,
    add: impl Fn(&T, &mut [f64]) + Sync,
) -> Result<Vec<f64>> {
    let mut sum = ExactSum::new(len, bound);
    for some in units.chunks(4 * rayon::current_num_threads()) {
        let summed: Vec<Vec<f64>> = some
            .par_iter()
            .map(|unit| {
                let mut sums = vec![0.0; len];
                add(unit, &mut sums);
                sums
            })
            .collect();
        summed.iter().for_each(|sums| sum.add(sums));
    }
    sum.total(comm)
}

/// Eigenvalues and vectors of a symmetric matrix, the largest first.
pub fn sorted_eigen(matrix: DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    let size = matrix.nrows();
    let eigen = SymmetricEigen::new(matrix);
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let values = order.iter().map(|&k| eigen.eigenvalues[k]).collect();
    (values, DMatrix::from_fn(size, size, |i, k| eigen.eigenvectors[(i, order[k])]))
}
