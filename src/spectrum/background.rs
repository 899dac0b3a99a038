//! The background of an EELS spectrum: a power law fitted before an edge, or only its shape.

use std::ops::RangeInclusive;

use super::quantile::{MAD_OF_SD, Middle, median};

/// Slopes of the background of a mean spectrum: it falls, and no faster than this, even on a miscalibrated axis.
pub const NATURAL_SLOPES: RangeInclusive<f64> = -6.0..=0.0;
/// Slopes allowed where noise may bend the fit a little beyond the natural ones.
pub const NOISY_SLOPES: RangeInclusive<f64> = -8.0..=0.0;

/// `(E / E_0)^-3` at `energies` (eV), with `E_0` the middle one: the shape of a background, whatever its amount.
///
/// # Source
/// Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed., sec. 4.4.2: exponents of 2 to 6.
pub fn inverse_cube(energies: &[f64]) -> Vec<f64> {
    let middle = energies.get(energies.len() / 2).map_or(1.0, |e| e.abs().max(1.0));
    energies.iter().map(|e| (e.max(1.0) / middle).powi(-3)).collect()
}

/// A line through `(ln E, ln counts)`, with the uncertainty of its extrapolation.
#[derive(Clone, Debug)]
pub struct PowerLaw {
    center_ln_energy: f64,
    center_ln_counts: f64,
    slope: f64,
    /// Sum of squares of `ln E` about its centre.
    spread: f64,
    num_points: usize,
    /// Standard deviation of `ln counts` about the line.
    residual_sd: f64,
}

impl PowerLaw {
    /// Fits `counts = A E^slope` by least squares in logarithms, the slope kept inside `slopes`; energies in eV.
    ///
    /// Points without positive energy or counts are left out; `None` where fewer than three remain.
    ///
    /// # Source
    /// Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed., sec. 4.4.2.
    pub fn fit(energies: &[f64], counts: &[f64], slopes: RangeInclusive<f64>) -> Option<PowerLaw> {
        let logs: Vec<(f64, f64)> =
            energies.iter().zip(counts).filter(|&(&e, &n)| e > 0.0 && n > 0.0).map(|(e, n)| (e.ln(), n.ln())).collect();
        if logs.len() < 3 {
            return None;
        }
        let num = logs.len() as f64;
        let cx = logs.iter().map(|l| l.0).sum::<f64>() / num;
        let cy = logs.iter().map(|l| l.1).sum::<f64>() / num;
        let spread: f64 = logs.iter().map(|l| (l.0 - cx).powi(2)).sum();
        let product: f64 = logs.iter().map(|l| (l.0 - cx) * (l.1 - cy)).sum();
        if spread <= 0.0 {
            return None;
        }
        let slope = (product / spread).clamp(*slopes.start(), *slopes.end());
        let residual: f64 = logs.iter().map(|l| (l.1 - cy - slope * (l.0 - cx)).powi(2)).sum();
        Some(PowerLaw {
            center_ln_energy: cx,
            center_ln_counts: cy,
            slope,
            spread,
            num_points: logs.len(),
            residual_sd: (residual / (num - 2.0)).sqrt(),
        })
    }

    /// Natural logarithm of the background at `energy` (eV, positive).
    pub fn ln_at(&self, energy: f64) -> f64 {
        self.center_ln_counts + self.slope * (energy.ln() - self.center_ln_energy)
    }

    /// The background at `energy` (eV, positive), in the units of the fitted counts.
    pub fn at(&self, energy: f64) -> f64 {
        self.ln_at(energy).exp()
    }

    /// Standard deviation of the fitted points about the line, in `ln counts`.
    pub fn residual_sd(&self) -> f64 {
        self.residual_sd
    }

    /// Variance of `ln_at(energy)` in units of the variance of one fitted point.
    pub fn leverage(&self, energy: f64) -> f64 {
        let distance = energy.ln() - self.center_ln_energy;
        1.0 / self.num_points as f64 + distance * distance / self.spread
    }
}

/// Robust standard deviation of `ln counts` from channel to channel, by second differences.
pub(super) fn channel_noise(counts: &[f64]) -> f64 {
    let ln = |n: f64| n.max(f64::MIN_POSITIVE).ln();
    let steps = counts.windows(3).map(|w| (ln(w[0]) - 2.0 * ln(w[1]) + ln(w[2])).abs());
    // 6: the variance of a second difference of white noise.
    median(steps, Middle::Upper) / MAD_OF_SD / 6f64.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_exponent_and_extrapolates() {
        let energies: Vec<f64> = (0..40).map(|i| 480.0 + i as f64).collect();
        let counts: Vec<f64> = energies.iter().map(|e| 3e9 * e.powf(-2.9)).collect();
        let law = PowerLaw::fit(&energies, &counts, -6.0..=0.0).unwrap();
        let expected = 3e9 * 560f64.powf(-2.9);
        assert!((law.at(560.0) / expected - 1.0).abs() < 1e-9);
        assert!(law.leverage(560.0) > law.leverage(500.0));
    }

    #[test]
    fn needs_three_positive_points() {
        assert!(PowerLaw::fit(&[1.0, 2.0, 3.0], &[1.0, 0.0, 1.0], -6.0..=0.0).is_none());
    }
}
