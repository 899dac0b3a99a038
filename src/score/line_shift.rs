//! The energy shift of a scan line against its model, measured on a reference edge.
//!
//! The beam energy drifts from line to line. A drift that the model does not follow looks like a shifted edge in every
//! pixel of the line. So one edge measures the drift, and another is scored.

use ndarray::{ArrayView1, ArrayView2};

use super::features::{Projection, Residual, dot, remove};
use crate::spectrum::{MAD_OF_SD, Middle, median, shifted, weighted_median};

/// The shift of a line counts as measured if its standard error (eV) is below this.
const MAX_ERROR_EV: f64 = 0.25;
/// Real drift between neighbouring lines is tenths of an eV; more than this is a model that does not fit.
const MAX_SHIFT_EV: f64 = 4.0;
/// Pixels further than this from the median of their line, in robust standard deviations, are left out.
const MAX_DEVIATION_SD: f64 = 2.5;
const ROUNDS: usize = 2;

/// The Fisher information (eV^-2) of a spectrum with the expectation `mu` (`[E]` counts) about its shift in the window.
pub fn information(projection: &Projection, mu: ArrayView1<f32>, scale_ev: f64) -> f64 {
    let model = shifted(mu, 0.0, projection.range.clone());
    let residual = Residual::new(model.iter().copied(), &model);
    let mut slope = slope(projection, mu, 0.0, scale_ev, &residual.root);
    projection.remove_background(&mut slope, &residual.root);
    dot(&slope, &slope)
}

/// The shift (eV, up in energy) of the edge in `projection` that fits a scan line `u` best to its `reconstruction`.
///
/// Both are `[x, E]` counts. Amount and background are free in every pixel. Pixels whose shift disagrees with the
/// others are left out, so that anomalies do not move their line. 0 where the edge is too weak to tell. Rank-local.
///
/// # Source
/// Weighted least squares with `g = -dmu/dE`, two rounds.
pub fn line_shift(
    projection: &Projection,
    u: ArrayView2<f32>,
    reconstruction: ArrayView2<f32>,
    valid: &[bool],
    scale_ev: f64,
) -> f64 {
    let mut shift_ev = 0.0;
    for _ in 0..ROUNDS {
        let estimates: Vec<Estimate> = (0..u.nrows())
            .filter(|&x| valid[x])
            .filter_map(|x| pixel_shift(projection, u.row(x), reconstruction.row(x), shift_ev, scale_ev))
            .collect();
        match agreed_shift(&estimates) {
            Some(step) => shift_ev += step,
            None => return 0.0,
        }
        if shift_ev.abs() > MAX_SHIFT_EV {
            return 0.0;
        }
    }
    shift_ev
}

/// The shift of one pixel, and its inverse variance up to a common factor.
struct Estimate {
    shift_ev: f64,
    weight: f64,
}

/// The derivative of the model by its shift in units of the noise, `-dmu/dE / sqrt(mu)`.
fn slope(projection: &Projection, spectrum: ArrayView1<f32>, shift: f64, scale_ev: f64, root: &[f64]) -> Vec<f64> {
    let range = projection.range.clone();
    let up = shifted(spectrum, shift + 0.5, range.clone());
    let down = shifted(spectrum, shift - 0.5, range);
    let pairs = up.iter().zip(&down).zip(root);
    pairs.map(|((up, down), root)| (up - down) / (scale_ev * root)).collect()
}

/// The shift that remains in one pixel once the model is moved by `shift_ev`.
fn pixel_shift(
    projection: &Projection,
    u: ArrayView1<f32>,
    reconstruction: ArrayView1<f32>,
    shift_ev: f64,
    scale_ev: f64,
) -> Option<Estimate> {
    let shift = shift_ev / scale_ev;
    let range = projection.range.clone();
    let mu = shifted(reconstruction, shift, range.clone());
    let mut residual = Residual::new(range.map(|i| f64::from(u[i])), &mu);
    let mut slope = slope(projection, reconstruction, shift, scale_ev, &residual.root);
    let background = projection.background_directions(&residual.root);
    remove(&mut slope, &background);
    remove(&mut residual.values, &background);
    let weight = dot(&slope, &slope);
    let shift_ev = dot(&slope, &residual.values) / weight;
    (weight > 0.0 && shift_ev.is_finite()).then_some(Estimate { shift_ev, weight })
}

/// The weighted mean of the estimates near their weighted median; `None` where its error is too large.
fn agreed_shift(estimates: &[Estimate]) -> Option<f64> {
    if estimates.is_empty() {
        return None;
    }
    let center = weighted_median(estimates.iter().map(|e| (e.shift_ev, e.weight)).collect());
    let deviation = |e: &Estimate| (e.shift_ev - center).abs() * e.weight.sqrt();
    let noise = median(estimates.iter().map(deviation), Middle::Upper) / MAD_OF_SD;
    let (mut sum, mut weights) = (0.0, 0.0);
    for e in estimates {
        if deviation(e) <= MAX_DEVIATION_SD * noise {
            sum += e.weight * e.shift_ev;
            weights += e.weight;
        }
    }
    // Neighbours overlap in their 3 x 3 means: only every third pixel of a line is independent.
    let error = noise * (3.0 / weights).sqrt();
    (weights > 0.0 && error < MAX_ERROR_EV).then(|| sum / weights)
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn edge(energy: f64) -> f64 {
        let step = 1.0 / (1.0 + (-(energy - 532.0) / 0.8).exp());
        3e9 * energy.powf(-2.9) + 20.0 * step + 25.0 * (-((energy - 538.0) / 2.0).powi(2)).exp()
    }

    #[test]
    fn finds_the_drift_of_a_line_despite_anomalous_pixels() {
        let energies: Vec<f64> = (0..240).map(|i| 450.0 + 0.8 * i as f64).collect();
        let projection = Projection::new(&energies, 90..150);
        let model = Array2::from_shape_fn((40, 240), |(_, i)| edge(energies[i]) as f32);
        let line = Array2::from_shape_fn((40, 240), |(x, i)| {
            let shift = if x % 5 == 0 { 5.4 } else { 0.37 };
            (1.2 * edge(energies[i] - shift)) as f32
        });
        let shift = line_shift(&projection, line.view(), model.view(), &[true; 40], 0.8);
        assert!((shift - 0.37).abs() < 0.03, "{shift}");
        let none = line_shift(&projection, line.view(), model.view(), &[false; 40], 0.8);
        assert_eq!(none, 0.0);
    }

    #[test]
    fn a_flat_reference_moves_nothing() {
        let energies: Vec<f64> = (0..100).map(|i| 450.0 + i as f64).collect();
        let projection = Projection::new(&energies, 10..60);
        let model = Array2::from_elem((6, 100), 50f32);
        let line = Array2::from_shape_fn((6, 100), |(x, i)| 50.0 + ((x * 7 + i * 13) % 11) as f32);
        let shift = line_shift(&projection, line.view(), model.view(), &[true; 6], 1.0);
        assert_eq!(shift, 0.0);
    }
}
