//! How far an edge of one spectrum lies from that of the mean spectrum.

use std::ops::Range;

use crate::cube::Axis;

/// A shift is believed if its standard error (eV) is below this.
const MAX_ERROR_EV: f64 = 0.3;
/// Amplitude, and two shapes of background that the mean spectrum does not explain.
const TERMS: usize = 3;

/// The mean spectrum about one edge, at every whole-channel shift within a bound.
pub struct EdgeTemplate {
    range: Range<usize>,
    scale_ev: f64,
    /// `1 / sqrt(mean)`, `[range]`.
    weights: Vec<f64>,
    /// For each shift, from the lowest: what the mean spectrum and the backgrounds span, orthonormal, `[range]` each.
    spans: Vec<[Vec<f64>; TERMS]>,
    /// Standard error (eV) of the shift of one pixel with the mean spectrum's electrons.
    error_ev: f64,
}

impl EdgeTemplate {
    /// Of `mean` `[energy]`, electrons per pixel, between two energies (eV), for shifts up to `bound_ev`.
    ///
    /// None where the axis has no room for such shifts, or nothing there fixes an energy.
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
        let middle = energy.value((range.start + range.end) / 2).abs().max(1.0);
        let weighted = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let values = range.clone().map(value);
            values.zip(&weights).map(|(v, w)| v * w).collect()
        };
        let spans: Vec<[Vec<f64>; TERMS]> = (0..=2 * most)
            .map(|shift| {
                let mut span = [
                    weighted(&|i| mean[i + most - shift]),
                    weighted(&|i| (energy.value(i).max(1.0) / middle).powi(-3)),
                    weighted(&|_| 1.0),
                ];
                orthonormalise(&mut span);
                span
            })
            .collect();
        let mut template = EdgeTemplate { scale_ev: energy.scale, weights, spans, range, error_ev: f64::INFINITY };
        let own = weighted_part(&template, mean);
        let bend = template.bend(&own, most);
        template.error_ev = (2.0 / bend).sqrt() * energy.scale;
        (bend > 0.0 && template.error_ev.is_finite()).then_some(template)
    }

    /// The channels that are looked at.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Standard error (eV) of the shift of one pixel.
    pub fn error_ev(&self) -> f64 {
        self.error_ev
    }

    /// How far (eV) the edge of `spectrum` `[energy]`, a mean over `pixels` of electrons, lies above the mean one's.
    ///
    /// None at and beyond the bound, and where the noise leaves it open.
    pub fn shift_ev(&self, spectrum: &[f64], pixels: f64) -> Option<f64> {
        let own = weighted_part(self, spectrum);
        let explained: Vec<f64> = self.spans.iter().map(|span| explained(span, &own)).collect();
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
        let bend = 2.0 * b - a - c;
        let error_ev = (2.0 / (bend * pixels)).sqrt() * self.scale_ev;
        let part = 0.5 * (c - a) / bend;
        let middle = (self.spans.len() / 2) as f64;
        let shift = (best as f64 - middle + part) * self.scale_ev;
        (bend > 0.0 && error_ev < MAX_ERROR_EV && shift.is_finite()).then_some(shift)
    }

    /// How sharply the explained part of `own` falls off about the shift of index `at`, per squared channel.
    fn bend(&self, own: &[f64], at: usize) -> f64 {
        let [a, b, c] = [at - 1, at, at + 1].map(|i| explained(&self.spans[i], own));
        2.0 * b - a - c
    }
}

/// The channels that count, in units of the mean spectrum's noise.
fn weighted_part(template: &EdgeTemplate, spectrum: &[f64]) -> Vec<f64> {
    let values = spectrum[template.range.clone()].iter();
    values.zip(&template.weights).map(|(v, w)| v * w).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The squared length of the part of `values` that lies in `span`.
fn explained(span: &[Vec<f64>; TERMS], values: &[f64]) -> f64 {
    span.iter().map(|vector| dot(vector, values).powi(2)).sum()
}

/// Gram-Schmidt, twice for accuracy; a vector that adds nothing becomes 0.
fn orthonormalise(span: &mut [Vec<f64>; TERMS]) {
    for i in 0..TERMS {
        let (before, rest) = span.split_at_mut(i);
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
            // Another thickness and another amount than the mean's, nine pixels of it.
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
        // The error that is told is the error that is made, the other amounts aside.
        assert!((0.4..2.5).contains(&(rms / (template.error_ev() / 3.0))), "{rms}");
    }

    #[test]
    fn what_fixes_no_energy_gives_none() {
        let background: Vec<f64> = axis().values().iter().map(|e| 200.0 * (e / 450.0f64).powi(-3)).collect();
        let flat = EdgeTemplate::new(&axis(), &background, [500.0, 570.0], 6.0);
        assert!(flat.is_none_or(|template| template.error_ev() > 10.0));
        assert!(EdgeTemplate::new(&axis(), &spectrum(0.0, 60.0), [451.0, 455.0], 6.0).is_none());
        let template = EdgeTemplate::new(&axis(), &spectrum(0.0, 60.0), [500.0, 570.0], 3.0).unwrap();
        assert_eq!(template.shift_ev(&spectrum(9.0, 60.0), 1.0), None);
        assert_eq!(template.shift_ev(&vec![0.0; 400], 1.0), None);
    }
}
