//! The first principal components by a few passes over the spectra, without the scatter matrix of all channels.

use anyhow::Result;
use nalgebra::{DMatrix, SymmetricEigen};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::decomposition::{Decomposition, Eigenvectors};
use super::scatter::Scatter;
use crate::comm::Comm;

/// Directions beyond twice the components asked for: the more there are, the fewer passes it takes.
const MORE: usize = 60;
const MOST_PASSES: usize = 12;
/// Largest relative error of the variance of a component that stands out of the noise.
const TOLERANCE: f64 = 1e-4;
/// A component stands out if its variance is this many times the largest that noise makes.
const OUT_OF_NOISE: f64 = 1.5;

/// What root found in one pass.
#[derive(Serialize, Deserialize)]
struct Pass {
    /// Where to look in the next: orthonormal, `[E, directions]`, C order.
    directions: Vec<f32>,
    /// Bound on the relative error of variances that stand out of the noise.
    error: f64,
    found: Eigenvectors,
}

/// The `num_components` first principal components of the `num_pixels` spectra that `add_to` adds to a scatter, which it is
/// asked to do again and again until the variances of those that stand out of the noise are good to 1e-4.
///
/// What lies beyond the directions looked at shows in the variances as its mean.
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
    scatter: &Scatter,
    num_pixels: u64,
    num_components: usize,
    add_to: impl Fn(&mut Scatter) -> Result<()>,
) -> Result<Decomposition> {
    let channels = scatter.num_channels();
    let count = (2 * num_components + MORE).min(channels);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let start = DMatrix::from_fn(channels, count, |_, _| StandardNormal.sample(&mut rng));
    let mut directions = comm.broadcast(comm.is_root().then(|| orthonormal(start)));
    let mut passes = 0;
    loop {
        let mut along = scatter.along(directions.clone());
        add_to(&mut along)?;
        let sums = along.total(comm)?;
        let look = || look(&directions, &sums, channels, num_pixels, num_components);
        let pass = comm.broadcast(comm.is_root().then(look));
        passes += 1;
        let is_good = pass.error <= TOLERANCE;
        if is_good || passes == MOST_PASSES {
            if comm.is_root() {
                let error = pass.error;
                let told = format!(
                    "pca: {passes} passes, variances above the noise are good to {error:.1e}"
                );
                match is_good {
                    true => log::info!("{told}"),
                    false => log::warn!("{told} only; `pca.solver: exact` finds them all"),
                }
            }
            let scale = scatter.column_scale().map(<[f64]>::to_vec);
            return Decomposition::new(pass.found, scale, num_pixels);
        }
        directions = pass.directions;
    }
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
    // No more directions hold anything than there are pixels.
    let samples = num_pixels.min(channels as u64) as usize;
    let ratio = samples as f64 / num_pixels.max(channels as u64) as f64;
    let count = directions.len() / channels.max(1);
    let rounded = directions.iter().map(|&v| f64::from(v));
    // Rounded to f32 the directions are orthonormal to 1e-7 only, which a weak component beside a strong one would notice.
    let (q, upper) = DMatrix::from_row_iterator(channels, count, rounded)
        .qr()
        .unpack();
    let y = DMatrix::from_row_slice(channels, count, &sums[..channels * count]);
    let y = match upper.transpose().solve_lower_triangular(&y.transpose()) {
        Some(turned) => turned.transpose(),
        None => y,
    };
    let inner = q.transpose() * &y;
    let eigen = SymmetricEigen::new((&inner + inner.transpose()) * 0.5);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let turn = eigen.eigenvectors.select_columns(&order);
    let vectors = &q * &turn;
    let mut values: Vec<f64> = order
        .iter()
        .map(|&i| eigen.eigenvalues[i].max(0.0))
        .collect();

    let left = sums[channels * count] - values.iter().sum::<f64>();
    let rest = left.max(0.0) / samples.saturating_sub(count).max(1) as f64;
    // The largest eigenvalue of noise: Marchenko & Pastur, Math. USSR Sb. 1 (1967) 457.
    let out_of_noise = OUT_OF_NOISE * rest * (1.0 + ratio.sqrt()).powi(2);
    let last = values.last().copied().unwrap_or(0.0);
    let residual = &y * &turn - &vectors * DMatrix::from_diagonal(&values.clone().into());
    let signal = values
        .iter()
        .take(num_components)
        .zip(residual.column_iter());
    let error = signal
        .filter(|(&value, _)| value > out_of_noise && count < samples)
        .map(|(value, residual)| residual.norm_squared() / ((value - last).max(0.0) * value))
        .fold(0.0, f64::max);
    values.resize(channels, 0.0);
    values[count..samples.max(count)].fill(rest);
    Pass {
        directions: orthonormal(y),
        error,
        found: Eigenvectors::new(values, num_components.min(count), |row, i| {
            vectors[(row, i)]
        }),
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

    #[test]
    fn what_stands_out_of_the_noise_is_found_to_the_tolerance() {
        let (channels, pixels) = (300, 20_000);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let normal: DMatrix<f64> =
            DMatrix::from_fn(channels, channels, |_, _| StandardNormal.sample(&mut rng));
        let basis: DMatrix<f64> = normal.qr().q();
        // One as strong as a mean spectrum, three out of the noise, and noise.
        let mut truth = vec![1.0, 0.02, 0.005, 0.0025];
        truth.extend((4..channels).map(|i| 1e-3 * (1.1 - 0.2 * i as f64 / channels as f64)));
        let scatter: DMatrix<f64> =
            &basis * DMatrix::from_diagonal(&truth.clone().into()) * basis.transpose();
        let start: DMatrix<f64> =
            DMatrix::from_fn(channels, 30, |_, _| StandardNormal.sample(&mut rng));
        let mut directions = orthonormal(start);
        for pass in 1.. {
            assert!(pass <= MOST_PASSES, "no end");
            let q =
                DMatrix::from_row_iterator(channels, 30, directions.iter().map(|&v| f64::from(v)));
            let product: DMatrix<f64> = &scatter * q;
            let mut sums: Vec<f64> = product.transpose().iter().copied().collect();
            sums.push(truth.iter().sum());
            let found = look(&directions, &sums, channels, pixels, 5);
            if found.error > TOLERANCE {
                directions = found.directions;
                continue;
            }
            let pca = Decomposition::new(found.found, None, 1).unwrap();
            for (found, truth) in pca.explained_variance.iter().zip(&truth).take(4) {
                assert!(
                    (found / truth - 1.0).abs() < TOLERANCE,
                    "{found} for {truth}"
                );
            }
            let total: f64 = pca.explained_variance.iter().sum();
            assert!((total / truth.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            assert_eq!(pca.num_components(), 5);
            let third = pca.factors.column(2).to_vec();
            let along: f64 = third
                .iter()
                .zip(basis.column(2).iter())
                .map(|(a, b): (&f64, &f64)| a * b)
                .sum();
            assert!(along.abs() > 0.999, "{along}");
            return;
        }
    }

    #[test]
    fn few_channels_and_nothing_but_zeros_end_at_once() {
        let directions = orthonormal(DMatrix::identity(6, 6));
        let mut sums: Vec<f64> = (0..36)
            .map(|i| if i % 7 == 0 { i as f64 } else { 0.0 })
            .collect();
        sums.push(105.0);
        let found = look(&directions, &sums, 6, 100, 3);
        assert!(found.error <= TOLERANCE);
        let pca = Decomposition::new(found.found, None, 1).unwrap();
        assert!((pca.explained_variance[0] - 35.0).abs() < 1e-4);
        assert_eq!(look(&directions, &[0.0; 37], 6, 100, 3).error, 0.0);
    }
}
