//! The energy shift of one scan line's model, measured on a reference edge.
//!
//! The beam energy drifts from line to line. A drift that the model did not follow looks like a shifted
//! edge in every pixel of the line; one edge measures it, another is scored.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2};

use super::features::{Projection, Residual, dot, remove};

/// A line's shift is believed if its standard error (eV) is below this.
const MAX_ERROR_EV: f64 = 0.25;
/// Real drift between neighbouring lines is tenths of an eV; more is a model that explains nothing.
const MAX_SHIFT_EV: f64 = 4.0;
const ROUNDS: usize = 2;

/// `spectrum` moved up in energy by `shift` channels, at the channels `range`.
///
/// # Source
/// Catmull-Rom cubic interpolation (Keys 1981, a = -1/2); the spectrum is continued by its end values.
pub fn shifted(spectrum: ArrayView1<f32>, shift: f64, range: Range<usize>) -> Vec<f64> {
    let count = range.len();
    let below = (-shift).floor();
    let t = -shift - below;
    let (first, last) = (range.start as isize + below as isize - 1, spectrum.len() as isize - 1);
    let at = |i: isize| f64::from(spectrum[i.clamp(0, last) as usize]);
    let near: Vec<f64> = (first..first + count as isize + 3).map(at).collect();
    let moved = near.windows(4).map(|near| {
        let (a, b, c, d) = (near[0], near[1], near[2], near[3]);
        let cubic = 3.0 * (b - c) + d - a;
        let square = 2.0 * a - 5.0 * b + 4.0 * c - d;
        b + 0.5 * t * ((c - a) + t * (square + t * cubic))
    });
    moved.collect()
}

/// How well the pixel's spectrum `mu` (`[E]` counts) fixes its own shift in the window: Fisher information, eV^-2.
pub fn information(projection: &Projection, mu: ArrayView1<f32>, scale_ev: f64) -> f64 {
    let model = shifted(mu, 0.0, projection.range.clone());
    let residual = Residual::new(model.iter().copied(), &model);
    let mut slope = slope(projection, mu, 0.0, scale_ev, &residual.root);
    projection.remove_background(&mut slope, &residual.root);
    dot(&slope, &slope)
}

/// The shift (eV, up in energy) of the line's model on the edge in `projection` that explains the line best.
///
/// `u` and `reconstruction` are `[x, E]` counts. Amplitude and background are free in every pixel, and
/// pixels whose own shift disagrees with the rest do not count: anomalies must not move their line.
/// 0 where the edge is too weak to tell. Rank-local.
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

/// One pixel's shift and its weight (inverse variance but for a common factor).
struct Estimate {
    shift_ev: f64,
    weight: f64,
}

/// The change of the model with its shift, `-dmu/dE / sqrt(mu)`.
fn slope(projection: &Projection, spectrum: ArrayView1<f32>, shift: f64, scale_ev: f64, root: &[f64]) -> Vec<f64> {
    let range = projection.range.clone();
    let up = shifted(spectrum, shift + 0.5, range.clone());
    let down = shifted(spectrum, shift - 0.5, range);
    let pairs = up.iter().zip(&down).zip(root);
    pairs.map(|((up, down), root)| (up - down) / (scale_ev * root)).collect()
}

/// The shift that is left in one pixel after the model moved by `shift_ev`.
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

/// The weighted mean of the estimates that agree with their weighted median; `None` if it is not worth its noise.
fn agreed_shift(estimates: &[Estimate]) -> Option<f64> {
    if estimates.is_empty() {
        return None;
    }
    let median = weighted_median(estimates);
    let mut deviations: Vec<f64> = estimates.iter().map(|e| (e.shift_ev - median).abs() * e.weight.sqrt()).collect();
    deviations.sort_by(f64::total_cmp);
    let noise = deviations[deviations.len() / 2] / 0.6745;
    let (mut sum, mut weights) = (0.0, 0.0);
    for e in estimates {
        if (e.shift_ev - median).abs() * e.weight.sqrt() <= 2.5 * noise {
            sum += e.weight * e.shift_ev;
            weights += e.weight;
        }
    }
    // Neighbours share their 3 x 3 mean: only every third pixel of a line is news.
    let error = noise * (3.0 / weights).sqrt();
    (weights > 0.0 && error < MAX_ERROR_EV).then(|| sum / weights)
}

/// The estimate at which half of the weight is reached.
fn weighted_median(estimates: &[Estimate]) -> f64 {
    let mut order: Vec<&Estimate> = estimates.iter().collect();
    order.sort_by(|a, b| a.shift_ev.total_cmp(&b.shift_ev));
    let half = 0.5 * order.iter().map(|e| e.weight).sum::<f64>();
    let mut reached = 0.0;
    for estimate in &order {
        reached += estimate.weight;
        if reached >= half {
            return estimate.shift_ev;
        }
    }
    order[order.len() - 1].shift_ev
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;

    fn edge(energy: f64) -> f64 {
        let step = 1.0 / (1.0 + (-(energy - 532.0) / 0.8).exp());
        3e9 * energy.powf(-2.9) + 20.0 * step + 25.0 * (-((energy - 538.0) / 2.0).powi(2)).exp()
    }

    #[test]
    fn moves_a_parabola_exactly_and_keeps_ends() {
        let spectrum: Array1<f32> = (0..20).map(|i| (i * i) as f32).collect();
        let moved = shifted(spectrum.view(), 0.25, 4..8);
        for (i, value) in (4..8).zip(moved) {
            assert!((value - (i as f64 - 0.25).powi(2)).abs() < 1e-9);
        }
        assert!(shifted(spectrum.view(), -100.0, 0..20).iter().all(|v| *v == 361.0));
    }

    #[test]
    fn finds_the_drift_of_a_line_despite_anomalous_pixels() {
        let energies: Vec<f64> = (0..240).map(|i| 450.0 + 0.8 * i as f64).collect();
        let projection = Projection::new(&energies, 90..150, 24);
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
        let projection = Projection::new(&energies, 10..60, 24);
        let model = Array2::from_elem((6, 100), 50f32);
        let line = Array2::from_shape_fn((6, 100), |(x, i)| 50.0 + ((x * 7 + i * 13) % 11) as f32);
        let shift = line_shift(&projection, line.view(), model.view(), &[true; 6], 1.0);
        assert_eq!(shift, 0.0);
    }
}
