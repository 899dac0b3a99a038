//! By how much an edge differs in height from what a model expects.

use serde::{Deserialize, Serialize};

use crate::config::Window;
use crate::cube::Axis;
use crate::spectrum::{NATURAL_SLOPES, PowerLaw};

/// An edge has to hold this many times its own error for its change to be told.
const CLEAR: f64 = 4.0;

/// The change of the counts of an edge above its background, in percent of what is expected, and its error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeChange {
    pub percent: f64,
    pub error_percent: f64,
}

impl EdgeChange {
    /// Of the edge in `window`, from electrons `[energy]` summed over pixels.
    ///
    /// The background is a power law of the spectrum that is expected. What is expected is scaled to the counts before the
    /// edge, so that thickness does not count. None where no background was measured, or no edge stands above it.
    ///
    /// # Source
    /// Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed., sec. 4.4.
    pub fn of(energy: &Axis, window: &Window, measured: &[f64], explained: &[f64]) -> Option<EdgeChange> {
        let indices = |[low, high]: [f64; 2]| energy.indices(low, high);
        let (before, edge) = (indices(window.background_ev), indices(window.range_ev));
        let energies = energy.values();
        let law = PowerLaw::fit(&energies[before.clone()], &explained[before.clone()], NATURAL_SLOPES)?;
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        let (seen_before, expected_before) = (sum(&measured[before.clone()]), sum(&explained[before]));
        let scale = seen_before / expected_before;
        let background = scale * edge.clone().map(|i| law.at(energies[i])).sum::<f64>();
        let (seen, all_expected) = (sum(&measured[edge.clone()]), scale * sum(&explained[edge]));
        let expected = all_expected - background;
        // Counts of the edge's channels, and of those that the scale comes from.
        let error = (seen.max(1.0) + all_expected * all_expected / seen_before.max(1.0)).sqrt();
        let is_clear = expected.is_finite() && error.is_finite() && expected > CLEAR * error;
        is_clear.then(|| EdgeChange {
            percent: 100.0 * (seen - all_expected) / expected,
            error_percent: 100.0 * error / expected,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_third_of_an_edge_is_told_whatever_the_thickness() {
        let energy = Axis::energy_loss(480.0, 1.0, 120);
        let window = Window { name: "O K".into(), range_ev: [532.0, 570.0], background_ev: [500.0, 528.0] };
        let spectrum = |thickness: f64, height: f64| -> Vec<f64> {
            let value = |e: f64| 5e5 * (e / 480.0).powi(-3) + if e >= 532.0 { 2e5 * height } else { 0.0 };
            energy.values().into_iter().map(|e| thickness * value(e)).collect()
        };
        let change = EdgeChange::of(&energy, &window, &spectrum(0.8, 0.7), &spectrum(1.0, 1.0)).unwrap();
        assert!((change.percent + 30.0).abs() < 0.1, "{change:?}");
        assert!(change.error_percent > 0.01 && change.error_percent < 0.2, "{change:?}");
        let alike = EdgeChange::of(&energy, &window, &spectrum(1.0, 1.0), &spectrum(1.0, 1.0)).unwrap();
        assert!(alike.percent.abs() < 1e-6, "{alike:?}");
        assert_eq!(EdgeChange::of(&energy, &window, &spectrum(1.0, 0.0), &spectrum(1.0, 0.0)), None);
        let beyond = Window { background_ev: [100.0, 200.0], ..window };
        assert_eq!(EdgeChange::of(&energy, &beyond, &spectrum(1.0, 1.0), &spectrum(1.0, 1.0)), None);
    }
}
