//! The first principal components by a few passes over the spectra, without the scatter matrix of all channels.

use anyhow::Result;
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::decomposition::{marchenko_pastur, Decomposition, Eigenvectors};
use super::scatter::{Scatter, Spectra};
use crate::comm::Comm;

/// Directions beyond twice the components asked for: the more there are, the fewer passes it takes.
const MORE: usize = 60;
const MOST_PASSES: usize = 12;
/// Largest relative error of the variance of a component that stands out of the noise.
const TOLERANCE: f64 = 1e-4;
/// A component stands out if its variance is this many times the largest that noise makes. Nearer to it, components of many
/// channels may come out too slowly to be told from what has settled.
const OUT_OF_NOISE: f64 = 2.0;
/// What a variance that does not may still grow by, from one pass to the next; one that grows by more is on its way out.
const SETTLED: f64 = 1.05;
/// Less than this share of the first variance is rounding: products are f32.
const ROUNDING: f64 = 1e-6;

/// What root found in one pass.
#[derive(Serialize, Deserialize)]
struct Pass {
    /// Where to look in the next: orthonormal, `[E, directions]`, C order.
    directions: Vec<f32>,
    /// The variances of the components asked for, descending.
    variances: Vec<f64>,
    /// Variances above this stand out of the noise.
    threshold: f64,
    /// Bound on the relative error of those.
    error: f64,
    found: Eigenvectors,
}

impl Pass {
    /// Whether those that do not stand out have no more of it to come than `before`, in the pass before.
    fn is_settled(&self, before: &[f64]) -> bool {
        let mut pairs = self.variances.iter().zip(before);
        pairs.all(|(&now, &before)| now > self.threshold || now <= SETTLED * before)
    }
}

/// The `num_components` first principal components of the `num_pixels` spectra that `add_to` adds to a scatter, which it is
/// asked to do again and again until the variances of those of twice the noise's largest are good to 1e-4.
///
/// Variances beyond the directions looked at are told as noise of what is left.
///
/// # Collective
/// # Errors
/// Those of `add_to`; counts that are not finite.
///
/// # Source
/// Halko, Martinsson & Tropp, SIAM Rev. 53 (2011) 217, algorithm 4.4 with as many powers as it takes; the bound is Mathias's,
/// SIAM J. Matrix Anal. Appl. 19 (1998) 541: the square of the residual over the gap to the variances left out.
pub fn randomized(
    comm: &Comm,
    spectra: &Spectra,
    num_pixels: u64,
    num_components: usize,
    add_to: impl Fn(&mut Scatter) -> Result<()>,
) -> Result<Decomposition> {
    let channels = spectra.num_channels;
    let count = (2 * num_components + MORE).min(channels);
    let mut directions = comm.broadcast(comm.is_root().then(|| start(channels, count)));
    // At first none: what is small then may be anything.
    let mut before = vec![0.0; num_components];
    let mut passes = 0;
    loop {
        passes += 1;
        let mut along = Scatter::along(spectra, directions.clone());
        add_to(&mut along)?;
        let sums = along.total(comm)?;
        let look = || look(&directions, &sums, channels, num_pixels, num_components);
        let pass = comm.broadcast(comm.is_root().then(look));
        let is_good = pass.error <= TOLERANCE && pass.is_settled(&before);
        // As many directions as channels hold all that there is.
        if is_good || count == channels || passes == MOST_PASSES {
            if comm.is_root() {
                tell(passes, &pass, is_good || count == channels);
            }
            return Decomposition::new(pass.found, spectra.column_scale.clone(), num_pixels);
        }
        (directions, before) = (pass.directions, pass.variances);
    }
}

fn tell(passes: usize, pass: &Pass, is_good: bool) {
    let error = pass.error.max(ROUNDING);
    let told = format!("pca: {passes} passes, variances out of the noise are good to {error:.1e}");
    if is_good {
        log::info!("{told}");
    } else {
        log::warn!("{told}, or more come; `pca.solver: exact` finds them all");
    }
}

/// Random directions, `[E, count]` in C order.
fn start(channels: usize, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let normal = |_, _| StandardNormal.sample(&mut rng);
    orthonormal(DMatrix::from_fn(channels, count, normal))
}

/// What `Z^T Z Q` and the trace of `Z^T Z`, the `sums` of a pass, tell of the eigenvectors in the span of the `directions` Q.
/// Rank-local.
fn look(
    directions: &[f32],
    sums: &[f64],
    channels: usize,
    num_pixels: u64,
    num_components: usize,
) -> Pass {
    let count = directions.len() / channels.max(1);
    let rounded = directions.iter().map(|&v| f64::from(v));
    // Rounded to f32 the directions are orthonormal to 1e-7 only, which a weak component beside a strong one would notice.
    let (q, upper) = DMatrix::from_row_iterator(channels, count, rounded)
        .qr()
        .unpack();
    let y = DMatrix::from_row_slice(channels, count, &sums[..channels * count]);
    let y = upper
        .transpose()
        .solve_lower_triangular(&y.transpose())
        .expect("nearly orthonormal directions are independent")
        .transpose();
    let inner = q.transpose() * &y;
    let eigen = SymmetricEigen::new((&inner + inner.transpose()) * 0.5);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let turn = eigen.eigenvectors.select_columns(&order);
    let vectors = &q * &turn;
    let values = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0));
    let mut values: Vec<f64> = values.collect();
    let residual = &y * &turn - &vectors * DMatrix::from_diagonal(&DVector::from(values.clone()));

    // No more directions hold anything than there are pixels.
    let samples = num_pixels.min(channels as u64) as usize;
    let ratio = samples as f64 / num_pixels.max(channels as u64).max(1) as f64;
    let noise = marchenko_pastur(ratio, samples);
    let noise = &noise[count.min(samples)..];
    let left = (sums[channels * count] - values.iter().sum::<f64>()).max(0.0);
    let level = left / noise.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let level = if noise.is_empty() { 0.0 } else { level };
    let edge = level * (1.0 + ratio.sqrt()).powi(2);
    let first = values.first().copied().unwrap_or(0.0);
    let threshold = OUT_OF_NOISE * edge.max(ROUNDING * first);
    let beyond = values.last().copied().unwrap_or(0.0).max(edge);
    let variances: Vec<f64> = values.iter().copied().take(num_components).collect();
    let error = variances
        .iter()
        .zip(residual.column_iter())
        .filter(|(&value, _)| value > threshold)
        .map(|(value, residual)| residual.norm_squared() / ((value - beyond).max(0.0) * value))
        .fold(0.0, f64::max);
    values.extend(noise.iter().map(|value| level * value));
    values.resize(channels, 0.0);
    Pass {
        directions: orthonormal(y),
        threshold,
        error,
        found: Eigenvectors::new(values, variances.len(), |row, i| vectors[(row, i)]),
        variances,
    }
}

/// An orthonormal basis of the columns, in C order.
fn orthonormal(columns: DMatrix<f64>) -> Vec<f32> {
    let q = columns.qr().q();
    q.transpose().iter().map(|&v| v as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes over a scatter matrix with the eigenvalues `truth`: how many it took, the decomposition, and the eigenvectors.
    fn solved(truth: &[f64], pixels: u64, k: usize) -> (usize, Decomposition, DMatrix<f64>) {
        let channels = truth.len();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let normal: DMatrix<f64> =
            DMatrix::from_fn(channels, channels, |_, _| StandardNormal.sample(&mut rng));
        let basis: DMatrix<f64> = normal.qr().q();
        let diagonal = DMatrix::from_diagonal(&DVector::from_column_slice(truth));
        let scatter: DMatrix<f64> = &basis * diagonal * basis.transpose();
        let count = (2 * k + 20).min(channels);
        let mut directions = start(channels, count);
        let mut before = vec![0.0; k];
        let mut passes = 0;
        loop {
            passes += 1;
            assert!(passes <= MOST_PASSES, "no end");
            let rounded = directions.iter().map(|&v| f64::from(v));
            let q: DMatrix<f64> = DMatrix::from_row_iterator(channels, count, rounded);
            let product: DMatrix<f64> = &scatter * q;
            let mut sums: Vec<f64> = product.transpose().iter().copied().collect();
            sums.push(truth.iter().sum());
            let pass = look(&directions, &sums, channels, pixels, k);
            if pass.error <= TOLERANCE && pass.is_settled(&before) {
                let found = Decomposition::new(pass.found, None, 1).unwrap();
                return (passes, found, basis);
            }
            (directions, before) = (pass.directions, pass.variances);
        }
    }

    /// `signal` and then noise of variance `level`, for the channels that are left.
    fn with_noise(signal: &[f64], level: f64, channels: usize, pixels: usize) -> Vec<f64> {
        let noise = marchenko_pastur(channels as f64 / pixels as f64, channels - signal.len());
        let noise = noise.iter().map(|value| level * value);
        signal.iter().copied().chain(noise).collect()
    }

    #[test]
    fn what_stands_out_of_the_noise_is_found_to_the_tolerance() {
        for signal in [&[1.0, 0.02, 0.005, 0.003][..], &[1.0, 0.003], &[1.0]] {
            let truth = with_noise(signal, 1e-3, 400, 20_000);
            let (_, pca, basis) = solved(&truth, 20_000, 5);
            for (i, truth) in signal.iter().enumerate() {
                let found = pca.explained_variance[i];
                assert!(
                    (found / truth - 1.0).abs() < TOLERANCE,
                    "{found} for {truth}"
                );
                let factor = pca.factors.column(i).to_vec();
                let expected = basis.column(i);
                let pairs = factor.iter().zip(expected.iter());
                let along: f64 = pairs.map(|(a, b): (&f64, &f64)| a * b).sum();
                assert!(along.abs() > 0.999, "{along}");
            }
            let total: f64 = pca.explained_variance.iter().sum();
            assert!((total / truth.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            assert_eq!(pca.num_components(), 5);
            assert_eq!(pca.significant(20_000.0), signal.len());
        }
    }

    #[test]
    fn fewer_pixels_than_directions_and_spectra_without_noise_are_found_whole() {
        let mut truth = vec![0.0; 300];
        for (i, value) in truth.iter_mut().take(20).enumerate() {
            *value = 0.7f64.powi(i as i32);
        }
        for pixels in [20, 10_000] {
            let (passes, pca, _) = solved(&truth, pixels, 6);
            assert!(passes <= 3, "{passes} passes");
            for (found, truth) in pca.explained_variance.iter().zip(&truth).take(6) {
                assert!(
                    (found / truth - 1.0).abs() < TOLERANCE,
                    "{found} for {truth}"
                );
            }
        }
    }

    #[test]
    fn nothing_but_zeros_has_no_component_out_of_the_noise() {
        let pass = look(&start(6, 6), &[0.0; 37], 6, 100, 3);
        assert_eq!((pass.error, pass.variances), (0.0, vec![0.0; 3]));
    }
}
