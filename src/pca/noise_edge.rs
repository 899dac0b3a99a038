//! The largest variance that noise alone has along any direction.

use std::f64::consts::PI;

/// Channels over which the noise of neighbours is taken to be related: a detector spreads an electron over a few.
pub(super) const NEIGHBOURS: usize = 5;

const FREQUENCIES: usize = 64;
const STEPS: usize = 500;

/// The largest eigenvalue of the covariance matrix of noise, as estimated from spectra with `ratio` channels for each.
///
/// `covariances` are those of channels `0, 1, ..` apart.
///
/// # Source
/// Silverstein & Choi, J. Multivariate Anal. 54 (1995) 295: the support of the eigenvalues ends where their inverse Stieltjes
/// transform is least. For white noise that is Marchenko & Pastur's edge.
pub(super) fn noise_edge(covariances: &[f64; NEIGHBOURS], ratio: f64) -> f64 {
    let variance_at = |frequency: usize| {
        let angle = PI * (frequency as f64 + 0.5) / FREQUENCIES as f64;
        let related = covariances.iter().enumerate().skip(1).map(|(apart, c)| 2.0 * c * (apart as f64 * angle).cos());
        (covariances[0] + related.sum::<f64>()).max(0.0)
    };
    let variances: Vec<f64> = (0..FREQUENCIES).map(variance_at).collect();
    let largest = variances.iter().copied().fold(0.0, f64::max);
    let end_at = |step: usize| {
        let m = (step as f64 + 0.5) / STEPS as f64 / largest;
        let spread: f64 = variances.iter().map(|v| v / (1.0 - v * m)).sum();
        1.0 / m + ratio * spread / FREQUENCIES as f64
    };
    if largest > 0.0 { (0..STEPS).map(end_at).fold(f64::INFINITY, f64::min) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_noise_ends_where_marchenko_and_pastur_say() {
        for ratio in [0.01f64, 0.25, 1.0, 3.0] {
            let edge = noise_edge(&[2.0, 0.0, 0.0, 0.0, 0.0], ratio);
            assert!((edge / (2.0 * (1.0 + ratio.sqrt()).powi(2)) - 1.0).abs() < 1e-3, "{ratio}: {edge}");
        }
    }

    #[test]
    fn spread_noise_reaches_farther() {
        // Of a Gaussian of 0.6 channels; the largest of 480 eigenvalues of 3,000 simulated spectra was 1.458.
        let weights = [0.0026, 0.1655, 0.6638, 0.1655, 0.0026];
        let related = |apart: usize| (apart..5).map(|i| weights[i] * weights[i - apart]).sum::<f64>();
        let edge = noise_edge(&std::array::from_fn(related), 480.0 / 3000.0);
        assert!((edge / 1.458 - 1.0).abs() < 0.02, "{edge}");
    }
}
