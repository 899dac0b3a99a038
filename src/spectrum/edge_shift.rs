//! Measures how far an edge of a spectrum is shifted against the same edge of the mean spectrum.

use std::ops::Range;

use super::background::inverse_cube;
use crate::cube::Axis;

/// A shift counts as measured if its standard error (eV) is below this.
const MAX_ERROR_EV: f64 = 0.3;
/// Free in each fit: the amount of the mean spectrum, of `E^-3`, and of a constant.
const TERMS: usize = 3;

/// The mean spectrum about one edge, at every whole-channel shift within a bound.
pub struct EdgeTemplate {
    range: Range<usize>,
    scale_ev: f64,
    /// `1 / sqrt(mean)`, `[range]`.
    weights: Vec<f64>,
    /// For each shift, from the lowest: an orthonormal basis of the mean spectrum and the backgrounds, `[range]` each.
    bases: Vec<[Vec<f64>; TERMS]>,
    /// Standard error (eV) of the shift of one pixel with the mean spectrum's electrons.
    error_ev: f64,
}

impl EdgeTemplate {
    /// The template of `mean` `[energy]`, electrons per pixel, between two energies (eV), for shifts up to `bound_ev`.
    ///
    /// `None` where the axis has no room for such shifts, or where the spectrum has no structure to fix an energy by.
    pub fn new(energy: &Axis, mean: &[f64], [low, high]: [f64; 2], bound_ev: f64) -> Option<EdgeTemplate> {
        let most = (bound_ev / energy.scale).ceil() as usize + 1;
        let inside = most..energy.size.checked_sub(most)?;
        let range = energy.indices(low, high);
        let range = range.start.max(inside.start)..range.end.min(inside.end);
        if range.len() < 8 {
            return None;
        }
        let floor = 1e-3 + 0.01 * mean[range.clone()].iter().sum::<f64>() / range.len() as f64;
        let weights: Vec<f64> = mean[range.clone()].iter().map(|&m| m.max(floor).sqrt().recip()).collect();
        let energies: Vec<f64> = range.clone().map(|i| energy.value(i)).collect();
        let background = inverse_cube(&energies);
        let weighted = |values: &[f64]| -> Vec<f64> { values.iter().zip(&weights).map(|(v, w)| v * w).collect() };
        let bases: Vec<[Vec<f64>; TERMS]> = (0..=2 * most)
            .map(|shift| {
                let moved = &mean[range.start + most - shift..range.end + most - shift];
                let mut basis = [weighted(moved), weighted(&background), weights.clone()];
                orthonormalise(&mut basis);
                basis
            })
            .collect();
        let mut template = EdgeTemplate { scale_ev: energy.scale, weights, bases, range, error_ev: f64::INFINITY };
        let own = template.weighted(mean);
        let [before, middle, after] = [most - 1, most, most + 1].map(|i| explained(&template.bases[i], &own));
        let curvature = 2.0 * middle - before - after;
        template.error_ev = (2.0 / curvature).sqrt() * energy.scale;
        (curvature > 0.0 && template.error_ev.is_finite()).then_some(template)
    }

    /// The channels that are fitted.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Standard error (eV) of the shift of one pixel with the mean spectrum's electrons.
    pub fn error_ev(&self) -> f64 {
        self.error_ev
    }

    /// How far (eV) the edge of `spectrum` `[energy]`, electrons, the mean of `pixels` pixels, lies above the
    /// template's.
    ///
    /// The shift whose least-squares fit explains most, to a fraction of a channel by a parabola. `None` at and beyond
    /// the bound, and where the noise is too large.
    pub fn shift_ev(&self, spectrum: &[f64], pixels: f64) -> Option<f64> {
        let own = self.weighted(spectrum);
        let explained: Vec<f64> = self.bases.iter().map(|basis| explained(basis, &own)).collect();
        let mut best = 0;
        for (i, &value) in explained.iter().enumerate() {
            if value > explained[best] {
                best = i;
            }
        }
        if best == 0 || best + 1 == explained.len() {
            return None;
        }
        let [a, b, c] = [explained[best - 1], explained[best], explained[best + 1]];
        let curvature = 2.0 * b - a - c;
        let error_ev = (2.0 / (curvature * pixels)).sqrt() * self.scale_ev;
        let part = 0.5 * (c - a) / curvature;
        let middle = (self.bases.len() / 2) as f64;
        let shift = (best as f64 - middle + part) * self.scale_ev;
        (curvature > 0.0 && error_ev < MAX_ERROR_EV && shift.is_finite()).then_some(shift)
    }

    /// The fitted channels of `spectrum`, in units of the mean spectrum's noise.
    fn weighted(&self, spectrum: &[f64]) -> Vec<f64> {
        let values = spectrum[self.range.clone()].iter();
        values.zip(&self.weights).map(|(v, w)| v * w).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The squared length of the part of `values` that the orthonormal `basis` spans.
fn explained(basis: &[Vec<f64>; TERMS], values: &[f64]) -> f64 {
    basis.iter().map(|vector| dot(vector, values).powi(2)).sum()
}

/// Gram-Schmidt, twice for accuracy; a vector that depends on those before it becomes 0.
fn orthonormalise(basis: &mut [Vec<f64>; TERMS]) {
    for i in 0..TERMS {
        let (before, rest) = basis.split_at_mut(i);
        let vector = &mut rest[0];
        let whole = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let part = dot(other, vector);
                vector.iter_mut().zip(other).for_each(|(v, o)| *v -= part * o);
            }
        }
        let length = dot(vector, vector).sqrt();
        let factor = if length > 1e-9 * whole { length.recip() } else { 0.0 };
        vector.iter_mut().for_each(|v| *v *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Poisson};

    fn axis() -> Axis {
        Axis::energy_loss(450.0, 0.5, 400)
    }

    /// Electrons per channel: a background and an edge with a near-edge peak.
    fn spectrum(shift: f64, amount: f64) -> Vec<f64> {
        let at = |e: f64| {
            let step = 1.0 / (1.0 + (-(e - shift - 532.0) / 0.8).exp());
            let peak = 1.2 * (-0.5 * ((e - shift - 537.0) / 2.0).powi(2)).exp();
            200.0 * (e / 450.0).powf(-2.9) + amount * (step * (e / 532.0).powi(-3) + peak)
        };
        axis().values().into_iter().map(at).collect()
    }

    #[test]
    fn known_shifts_come_back_from_noise() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let template = EdgeTemplate::new(&axis(), &spectrum(0.0, 60.0), [500.0, 570.0], 6.0).unwrap();
        let mut square = 0.0;
        for run in 0..200 {
            let shift = -4.0 + 0.04 * run as f64;
            // Nine pixels of another thickness and another amount than the mean.
            let noisy: Vec<f64> = spectrum(shift, 80.0)
                .iter()
                .map(|&m| Poisson::new(9.0 * 0.7 * m).unwrap().sample(&mut random) / 9.0)
                .collect();
            let found = template.shift_ev(&noisy, 9.0).expect("a strong edge");
            square += (found - shift).powi(2);
        }
        let rms = (square / 200.0f64).sqrt();
        println!("rms {rms:.3} eV, of one pixel {:.3} eV", template.error_ev());
        assert!(rms < 0.08, "{rms}");
        // The predicted error is about the actual one, though the amounts differ.
        assert!((0.4..2.5).contains(&(rms / (template.error_ev() / 3.0))), "{rms}");
    }

    #[test]
    fn without_structure_there_is_no_shift() {
        let background: Vec<f64> = axis().values().iter().map(|e| 200.0 * (e / 450.0f64).powi(-3)).collect();
        let flat = EdgeTemplate::new(&axis(), &background, [500.0, 570.0], 6.0);
        assert!(flat.is_none_or(|template| template.error_ev() > 10.0));
        assert!(EdgeTemplate::new(&axis(), &spectrum(0.0, 60.0), [451.0, 455.0], 6.0).is_none());
        let template = EdgeTemplate::new(&axis(), &spectrum(0.0, 60.0), [500.0, 570.0], 3.0).unwrap();
        assert_eq!(template.shift_ev(&spectrum(9.0, 60.0), 1.0), None);
        assert_eq!(template.shift_ev(&vec![0.0; 400], 1.0), None);
    }
}
