//! The first principal components from a few passes over the spectra, without the scatter matrix of all channels.

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

use super::decomposition::{Decomposition, Eigenvectors, marchenko_pastur};
use super::noise_edge::NEIGHBOURS;
use super::scatter::{Scatter, Spectra};
use crate::comm::Comm;

/// Directions of a pass beyond twice the components asked for: the more directions, the fewer passes.
const MORE: usize = 40;
const MAX_PASSES: usize = 12;
/// Largest relative error of the variance of a component above the noise.
const TOLERANCE: f64 = 1e-4;
/// A component is above the noise if its variance is this many times the largest that white noise would have. That edge
/// may be estimated up to a third too high, and noise that a detector spreads over channels reaches nearly as far:
/// components within it converge slowly.
const ABOVE_NOISE: f64 = 2.0;
/// A variance below that has converged if it grows by no more than this factor from one pass to the next.
const CONVERGED: f64 = 1.05;
/// Variances below this share of the first are rounding errors: products are f32.
const ROUNDING: f64 = 3e-6;

/// The findings of a pass, on root.
#[derive(Serialize, Deserialize)]
struct Pass {
    /// The variances of the components asked for, descending.
    variances: Vec<f64>,
    /// Variances above this are above the noise.
    threshold: f64,
    /// Variances below this are rounding errors.
    rounding: f64,
    /// Bound on the relative error of those above the noise, rounding aside.
    error: f64,
    /// Whether all directions have been multiplied.
    is_whole: bool,
    found: Eigenvectors,
}

impl Pass {
    /// Whether no further pass is needed after one with the variances `before`.
    fn is_last(&self, before: &[f64]) -> bool {
        self.is_whole || (self.error <= TOLERANCE && self.is_converged(before))
    }

    /// Whether the variances that are not above the noise have converged since the pass with the variances `before`.
    fn is_converged(&self, before: &[f64]) -> bool {
        let mut pairs = self.variances.iter().zip(before);
        pairs.all(|(&now, &before)| now > self.threshold || now <= (CONVERGED * before).max(self.rounding))
    }
}

/// The first `num_components` principal components of the `num_pixels` spectra that `add_to` adds to a scatter.
///
/// `add_to` is called once per pass, until all variances above twice the largest of white noise are accurate to 1e-4,
/// but at most 12 times; a warning tells if that is too few. `independent` is the number of spectra with independent
/// noise, from which the largest variance of noise follows. Variances beyond the directions of a pass are estimated, as
/// noise with the variance that is left.
///
/// # Collective
/// Every rank of `comm`; `add_to` must end in the same way on all.
///
/// # Errors
/// Those of `add_to`; counts that are not finite; errors of libtorch.
///
/// # Source
/// Musco & Musco, NIPS 28 (2015) 1396, algorithm 2 (block Krylov), with as many powers as it takes. The bound on the
/// error is the square of the residual over the gap to the variances left out: Mathias, SIAM J. Matrix Anal. Appl. 19
/// (1998) 541.
pub fn randomized(
    comm: &Comm,
    spectra: &Spectra,
    num_pixels: u64,
    independent: f64,
    num_components: usize,
    add_to: impl Fn(&mut Scatter) -> Result<()>,
) -> Result<Decomposition> {
    let num_components = num_components.min(spectra.num_channels);
    let mut seen = Krylov::new(spectra, independent, num_components);
    // Before the first pass, so that no small variance counts as converged after it.
    let mut before = vec![0.0; num_components];
    let mut passes = 0;
    loop {
        passes += 1;
        let next = || seen.directions().context("PCA: no directions for the next pass");
        let directions = comm.from_root(next)?;
        let mut along = Scatter::along(spectra, &directions);
        add_to(&mut along)?;
        let sums = along.total(comm)?;
        let absorb = || seen.absorb(&directions, &sums).context("PCA: a pass failed");
        let pass = comm.from_root(absorb)?;
        let is_last = pass.is_last(&before);
        if is_last || passes == MAX_PASSES {
            if comm.is_root() {
                log_result(passes, &pass, is_last);
            }
            return Decomposition::new(pass.found, spectra.column_scale.clone(), num_pixels);
        }
        before = pass.variances;
    }
}

fn log_result(passes: usize, pass: &Pass, is_good: bool) {
    let error = pass.error;
    if is_good {
        log::info!("pca: {passes} passes; variances out of the noise are good to {TOLERANCE:.0e} (bound {error:.0e})");
    } else {
        log::warn!(
            "pca: after {passes} passes variances out of the noise are not good to {TOLERANCE:.0e} (bound {error:.0e}), \
             or more come out; `pca.solver: exact` finds them all"
        );
    }
}

/// The Krylov subspace of `A = Z^T Z` after the passes so far, on root.
struct Krylov {
    /// The direction to begin with, `[E]`.
    mean: Vec<f64>,
    /// Number of spectra with independent noise.
    independent: f64,
    num_components: usize,
    /// Directions of a pass.
    width: usize,
    /// Orthonormal, `[E, m]`: all directions of the passes so far.
    q: Tensor,
    /// `A Q`, `[E, m]`.
    y: Tensor,
}

impl Krylov {
    fn new(spectra: &Spectra, independent: f64, num_components: usize) -> Krylov {
        let channels = spectra.num_channels;
        let none = || Tensor::zeros([channels as i64, 0], (Kind::Double, Device::Cpu));
        Krylov {
            mean: spectra.mean.clone(),
            independent,
            num_components,
            width: (2 * num_components + MORE).min(channels),
            q: none(),
            y: none(),
        }
    }

    fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Number of directions of the passes so far.
    fn count(&self) -> usize {
        self.q.size()[1] as usize
    }

    /// The directions of the next pass: orthonormal, `[E, directions]` in C order.
    fn directions(&self) -> Result<Vec<f32>, TchError> {
        let (count, channels) = (self.count(), self.channels());
        let new = self.width.min(channels - count);
        let next = if count == 0 {
            // With the mean among them, the first component, which may be a million times the others, does not dominate
            // the f32 products of the rest.
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let mut random = || -> f64 { StandardNormal.sample(&mut rng) };
            let elements: Vec<f64> = (self.mean.iter())
                .flat_map(|&mean| {
                    let rest: Vec<f64> = (1..self.width).map(|_| random()).collect();
                    [mean].into_iter().chain(rest)
                })
                .collect();
            self.matrix(&elements)?
        } else {
            let width = self.width as i64;
            self.y.f_narrow(1, count as i64 - width, width)?
        };
        // QR of old and new together, so that the new are orthogonal to the old even where they add nothing.
        let (q, _) = Tensor::f_linalg_qr(&Tensor::f_cat(&[&self.q, &next], 1)?, "reduced")?;
        let next = q.f_narrow(1, count as i64, new as i64)?;
        values(&next.f_to_kind(Kind::Float)?)
    }

    /// `elements` in C order as a matrix with a row for each channel.
    fn matrix(&self, elements: &[f64]) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(elements)?.f_view([self.channels() as i64, -1])
    }

    /// Takes in a pass: `sums` are `A Q` for the `directions` Q, and the trace of A. Returns the eigenvectors of A that
    /// all passes so far determine (Rayleigh-Ritz).
    fn absorb(&mut self, directions: &[f32], sums: &[f64]) -> Result<Pass, TchError> {
        // Rounded to f32 they are orthonormal to 1e-7 only: too little for a weak component next to a strong one.
        let rounded: Vec<f64> = directions.iter().map(|&v| f64::from(v)).collect();
        let rounded = self.matrix(&rounded)?;
        let of_old = self.q.f_tr()?.f_matmul(&rounded)?;
        let rest = rounded.f_sub(&self.q.f_matmul(&of_old)?)?;
        let (q, upper) = Tensor::f_linalg_qr(&rest, "reduced")?;
        let product = self.matrix(&sums[..directions.len()])?;
        let y = product.f_sub(&self.y.f_matmul(&of_old)?)?;
        let y = upper.f_linalg_solve_triangular(&y, true, false, false)?;
        self.q = Tensor::f_cat(&[&self.q, &q], 1)?;
        self.y = Tensor::f_cat(&[&self.y, &y], 1)?;

        let inner = self.q.f_tr()?.f_matmul(&self.y)?;
        let (doubled, turn) = inner.f_add(&inner.f_tr()?)?.f_linalg_eigh("L")?;
        let turn = turn.f_flip([1])?;
        let variances = doubled.f_flip([0])?.f_mul_scalar(0.5)?.f_clamp_min(0.0)?;
        let vectors = self.q.f_matmul(&turn)?;
        let residual = self.y.f_matmul(&turn)?;
        let residual = residual.f_sub(&vectors.f_mul(&variances)?)?.f_square()?;
        let residuals = residual.f_sum_dim_intlist(0, false, None)?;
        let vectors = vectors.f_narrow(1, 0, self.num_components as i64)?;
        let trace = sums[sums.len() - 1];
        Ok(self.judge(&values(&variances)?, &values(&residuals)?, &values(&vectors)?, trace))
    }

    /// Judges a pass: `variances` `[m]`, descending, the squares of their `residuals`, and the first `vectors` `[E,
    /// components]`.
    fn judge(&self, variances: &[f64], residuals: &[f64], vectors: &[f64], trace: f64) -> Pass {
        // Noise spans no more directions than there are independent spectra.
        let channels = self.channels() as f64;
        let few = channels.min(self.independent).max(1.0);
        let (samples, ratio) = (few as usize, few / channels.max(self.independent).max(1.0));
        let noise = marchenko_pastur(ratio, samples);
        // Until all directions are known, only the first of several passes' variances are estimates of the largest
        // ones.
        let is_whole = self.count() == self.channels();
        let known = if is_whole { self.count() } else { self.width };
        let noise = &noise[known.min(samples)..];
        let mut all = variances[..known].to_vec();
        let left = (trace - all.iter().sum::<f64>()).max(0.0);
        let level = left / noise.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let level = if noise.is_empty() { 0.0 } else { level };
        let edge = level * (1.0 + ratio.sqrt()).powi(2);
        all.extend(noise.iter().map(|value| level * value));
        all.resize(self.channels(), 0.0);

        let rounding = ROUNDING * variances.first().copied().unwrap_or(0.0);
        let threshold = ABOVE_NOISE * edge.max(rounding);
        let pairs = || variances.iter().zip(residuals);
        // The variances left out may be as large as the first that is not accurate to the tolerance.
        let is_open = |&(&value, &residual): &(&f64, &f64)| residual > TOLERANCE * value * value;
        let open = pairs().find(is_open).map_or(0.0, |(&value, _)| value);
        let beyond = open.max(edge);
        let error = pairs()
            .take(self.num_components)
            .filter(|&(&value, _)| value > threshold)
            .map(|(value, residual)| residual / ((value - beyond).max(0.0) * value))
            .fold(0.0, f64::max);
        let count = self.num_components;
        Pass {
            threshold,
            rounding,
            error,
            is_whole,
            found: Eigenvectors::new(all, white(trace), count, |row, i| vectors[row * count + i]),
            variances: variances[..count].to_vec(),
        }
    }
}

/// The sums of the first diagonals of a scatter matrix with that `trace`, if noise is white.
fn white(trace: f64) -> [f64; NEIGHBOURS] {
    std::array::from_fn(|apart| if apart == 0 { trace } else { 0.0 })
}

/// The elements in C order.
fn values<T: tch::kind::Element + Default + Clone>(tensor: &Tensor) -> Result<Vec<T>, TchError> {
    let mut values = vec![T::default(); tensor.numel()];
    tensor.f_contiguous()?.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use nalgebra::{DMatrix, DVector};
    use ndarray::{Array2, Axis};
    use rand_distr::Poisson;

    use super::*;

    /// The number of passes, each of which `pass` sums along the given directions, and the last one's findings.
    fn passes(mut seen: Krylov, pass: impl Fn(&[f32]) -> Vec<f64>) -> (usize, Pass) {
        let mut before = vec![0.0; seen.num_components];
        for passes in 1..=MAX_PASSES {
            let directions = seen.directions().unwrap();
            let found = seen.absorb(&directions, &pass(&directions)).unwrap();
            if found.is_last(&before) {
                return (passes, found);
            }
            before = found.variances;
        }
        panic!("no end");
    }

    /// For a scatter matrix with the eigenvalues `truth`: the number of passes, the decomposition, and the true
    /// eigenvectors.
    fn solved(truth: &[f64], pixels: f64, k: usize) -> (usize, Decomposition, DMatrix<f64>) {
        let channels = truth.len();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let normal: DMatrix<f64> = DMatrix::from_fn(channels, channels, |_, _| StandardNormal.sample(&mut rng));
        let basis: DMatrix<f64> = normal.qr().q();
        let diagonal = DMatrix::from_diagonal(&DVector::from_column_slice(truth));
        let scatter: DMatrix<f64> = &basis * diagonal * basis.transpose();
        let seen = Krylov::new(&Spectra::new(&vec![1.0; channels], false), pixels, k);
        let (passes, pass) = passes(seen, |directions| {
            let rounded = directions.iter().map(|&v| f64::from(v));
            let count = directions.len() / channels;
            let q: DMatrix<f64> = DMatrix::from_row_iterator(channels, count, rounded);
            let product: DMatrix<f64> = &scatter * q;
            let mut sums: Vec<f64> = product.transpose().iter().copied().collect();
            sums.push(truth.iter().sum());
            sums
        });
        let found = Decomposition::new(pass.found, None, 1).unwrap();
        (passes, found, basis)
    }

    /// `signal`, followed by noise of variance `level` for the other channels.
    fn with_noise(signal: &[f64], level: f64, channels: usize, pixels: usize) -> Vec<f64> {
        let noise = marchenko_pastur(channels as f64 / pixels as f64, channels - signal.len());
        let noise = noise.iter().map(|value| level * value);
        signal.iter().copied().chain(noise).collect()
    }

    #[test]
    fn components_above_the_noise_are_found_to_the_tolerance() {
        for signal in [&[1.0, 0.02, 0.005, 0.003][..], &[1.0, 0.003], &[1.0]] {
            let truth = with_noise(signal, 1e-3, 400, 20_000);
            let (_, pca, basis) = solved(&truth, 20_000.0, 5);
            for (i, truth) in signal.iter().enumerate() {
                let found = pca.explained_variance[i];
                assert!((found / truth - 1.0).abs() < TOLERANCE, "{found} for {truth}");
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
    fn rounded_products_leave_weak_components_alone() {
        let (pixels, channels) = (2000, 300);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let counts = Array2::from_shape_fn((pixels, channels), |(y, e)| {
            let falling = (1.0 + e as f64 / 20.0).powi(-2);
            let bump = (-((e as f64 - 100.0) / 20.0).powi(2)).exp();
            let share = 0.02 * (y as f64 * 0.7).sin().powi(2);
            Poisson::new(1e5 * (falling + share * bump)).unwrap().sample(&mut rng) as f32
        });
        let sums: Vec<f64> =
            (counts.columns().into_iter()).map(|channel| channel.iter().map(|&n| f64::from(n)).sum()).collect();
        for poisson in [true, false] {
            let spectra = Spectra::new(&sums, poisson);
            let summed = |scatter: &Scatter| {
                let blocks = counts.axis_chunks_iter(Axis(0), 250);
                let products = blocks.map(|block| scatter.product(block).unwrap());
                let add = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a + b).collect();
                products.reduce(add).unwrap()
            };
            let triangle = summed(&Scatter::new(&spectra));
            let exact = Eigenvectors::of(triangle, channels, 10).unwrap();
            let exact = Decomposition::new(exact, None, 1).unwrap();
            let seen = Krylov::new(&spectra, pixels as f64, 10);
            let (_, pass) = passes(seen, |directions| summed(&Scatter::along(&spectra, directions)));
            let pairs = pass.variances.iter().zip(&exact.explained_variance);
            for (i, (found, exact)) in pairs.enumerate() {
                let good = if *found > pass.threshold { TOLERANCE } else { 0.1 };
                assert!((found / exact - 1.0).abs() < good, "{i}: {found} for {exact}");
            }
            assert!(pass.variances[1] > pass.threshold, "the bump is above the noise");
        }
    }

    #[test]
    fn a_pass_takes_the_directions_that_are_left() {
        let truth: Vec<f64> = (1..=50).map(|i| 1.0 / f64::from(i)).collect();
        let (passes, pca, _) = solved(&truth, 100.0, 3);
        assert_eq!(passes, 2);
        for (found, truth) in pca.explained_variance.iter().zip(&truth) {
            assert!((found / truth - 1.0).abs() < 1e-6, "{found} for {truth}");
        }
    }

    #[test]
    fn fewer_pixels_than_directions_and_spectra_without_noise_are_found_whole() {
        let mut truth = vec![0.0; 300];
        for (i, value) in truth.iter_mut().take(20).enumerate() {
            *value = 0.7f64.powi(i as i32);
        }
        for pixels in [20.0, 10_000.0] {
            let (passes, pca, _) = solved(&truth, pixels, 6);
            assert!(passes <= 3, "{passes} passes");
            for (found, truth) in pca.explained_variance.iter().zip(&truth).take(6) {
                assert!((found / truth - 1.0).abs() < TOLERANCE, "{found} for {truth}");
            }
        }
    }

    #[test]
    fn zeros_have_no_component_above_the_noise() {
        let mut seen = Krylov::new(&Spectra::new(&[0.0; 6], false), 100.0, 3);
        let start = seen.directions().unwrap();
        let pass = seen.absorb(&start, &[0.0; 37]).unwrap();
        assert_eq!((pass.error, pass.variances), (0.0, vec![0.0; 3]));
    }
}
