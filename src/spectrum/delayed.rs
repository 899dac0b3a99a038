//! Delayed edges, which rise over tens of eV: L3 of Cu and Zn, M5 of the heavy elements.
//!
//! What bends the background rises as slowly. So the background may bend here, and around each channel the spectrum is fitted
//! once with an edge that starts there, of each of some widths.

use nalgebra::{Matrix4, Vector4};

use super::background::channel_noise;
use super::excess::{EDGE_EXTENT_EV, LOWEST_EV, margin};
use crate::cube::Axis;

/// The fit reaches this far before and behind the onset, eV, or these shares of the onset's energy.
const BEFORE_EV: f64 = 80.0;
const BEHIND_EV: f64 = 56.0;
const BEFORE: f64 = 0.45;
const BEHIND: f64 = 0.4;
/// Below this energy (eV) plural scattering by plasmons looks like edges.
const LOWEST_ONSET_EV: f64 = 90.0;
/// Widths of the rise, eV.
const WIDTHS_EV: [f64; 3] = [4.0, 15.0, 40.0];
/// How much the slope of the background changes over a factor of e in energy: the standard deviation of what is expected.
const BEND_SD: f64 = 0.6;
/// The least noise of a channel that is believed in, relative to its counts.
const LEAST_NOISE: f64 = 0.001;
const MIN_JUMP: f64 = 0.04;
const MIN_SIGNIFICANCE: f64 = 7.0;
/// What deviates over this width (eV) is structure, and counts as noise.
const STRUCTURE_EV: f64 = 5.0;
/// A sharp edge and its near-edge structure leave no background from the first to the second of these before and behind its
/// onset, eV.
const BEFORE_SHARP_EV: f64 = 6.0;
const BEHIND_SHARP_EV: f64 = EDGE_EXTENT_EV + 5.0;
/// Delayed edges are at least this far apart, eV.
const APART_EV: f64 = 80.0;

/// A delayed edge.
pub(super) struct DelayedEdge {
    pub onset_ev: f64,
    pub significance: f64,
}

/// The delayed edges of `mean` (`[E]` counts at `energies`), clear of the edges at `sharp_ev`, the most significant first.
pub(super) fn delayed_edges(energy: &Axis, energies: &[f64], mean: &[f64], sharp_ev: &[f64]) -> Vec<DelayedEdge> {
    let ends = margin(mean.len());
    let steps = (1.0 / energy.scale).round().max(1.0) as usize;
    let within = ends..mean.len().saturating_sub(ends);
    let mut found: Vec<DelayedEdge> = within
        .clone()
        .step_by(steps)
        .filter_map(|channel| {
            let onset_ev = energies[channel];
            let [first, last] = reach(onset_ev, [energies[within.start], energies[within.end - 1]], sharp_ev)?;
            let reach = energy.indices(first, last);
            let significance = significance(energy, &energies[reach.clone()], &mean[reach], onset_ev)?;
            Some(DelayedEdge { onset_ev, significance })
        })
        .collect();
    found.sort_by(|a, b| b.significance.total_cmp(&a.significance));
    let mut edges: Vec<DelayedEdge> = Vec::new();
    for edge in found {
        if edges.iter().all(|other| (other.onset_ev - edge.onset_ev).abs() >= APART_EV) {
            edges.push(edge);
        }
    }
    edges
}

/// The energies (eV) that are fitted for an edge at `onset_ev`, on an axis of `ends` and clear of the edges at `sharp_ev`; none
/// where too little is left.
fn reach(onset_ev: f64, ends: [f64; 2], sharp_ev: &[f64]) -> Option<[f64; 2]> {
    let (before, behind) = (BEFORE_EV.min(BEFORE * onset_ev), BEHIND_EV.min(BEHIND * onset_ev));
    let mut first = (onset_ev - before).max(LOWEST_EV).max(ends[0]);
    let mut last = (onset_ev + behind).min(ends[1]);
    for sharp in sharp_ev {
        let occupied = [sharp - BEFORE_SHARP_EV, sharp + BEHIND_SHARP_EV];
        if onset_ev > occupied[1] {
            first = first.max(occupied[1]);
        } else if onset_ev < occupied[0] {
            last = last.min(occupied[0]);
        } else {
            return None;
        }
    }
    let is_enough = onset_ev - first >= 0.5 * before && last - onset_ev >= 0.5 * behind;
    (onset_ev >= LOWEST_ONSET_EV && is_enough).then_some([first, last])
}

/// How many standard deviations an edge at `onset_ev` rises over a background that bends, of the width that fits best; none where
/// it is too small.
fn significance(energy: &Axis, energies: &[f64], counts: &[f64], onset_ev: f64) -> Option<f64> {
    if energies.len() < 9 || counts.iter().any(|&n| n <= 0.0) {
        return None;
    }
    let noise = channel_noise(counts).max(LEAST_NOISE);
    let last_ev = energies[energies.len() - 1];
    let mut best = (0.0, 0.0);
    for width in WIDTHS_EV {
        let rise = |e: f64| 1.0 - (-(e - onset_ev).max(0.0) / width).exp();
        if width > 0.8 * BEHIND_EV.min(BEHIND * onset_ev) {
            continue;
        }
        let Some(fit) = Fit::new(energy, energies, counts, noise, |e| [(e / onset_ev).ln(), rise(e)]) else { continue };
        if fit.significance > best.0 {
            best = (fit.significance, fit.height * rise(last_ev));
        }
    }
    let (significance, ln_jump) = best;
    (significance > MIN_SIGNIFICANCE && ln_jump.exp() - 1.0 > MIN_JUMP).then_some(significance)
}

/// A bent background with an edge, fitted to `ln counts`.
struct Fit {
    height: f64,
    significance: f64,
}

impl Fit {
    /// Fits `counts` with what `shape` makes of each energy: the logarithm that the background is a parabola of, and the edge.
    fn new(
        energy: &Axis,
        energies: &[f64],
        counts: &[f64],
        noise: f64,
        shape: impl Fn(f64) -> [f64; 2],
    ) -> Option<Fit> {
        let rows: Vec<Vector4<f64>> = (energies.iter())
            .map(|&e| {
                let [ln_energy, edge] = shape(e);
                Vector4::new(1.0, ln_energy, ln_energy * ln_energy, edge)
            })
            .collect();
        let values: Vec<f64> = counts.iter().map(|n| n.ln()).collect();
        let mut normal = Matrix4::zeros();
        let mut right = Vector4::zeros();
        for (row, value) in rows.iter().zip(&values) {
            normal += row * row.transpose();
            right += row * *value;
        }
        // What is known of the bend beforehand: the second derivative is twice the coefficient.
        normal[(2, 2)] += (noise / (0.5 * BEND_SD)).powi(2);
        let covariance = normal.try_inverse()?;
        let solution = covariance * right;
        let residuals: Vec<f64> = rows.iter().zip(&values).map(|(row, value)| value - row.dot(&solution)).collect();
        let sd = |sum: f64, count: usize| (sum / count.saturating_sub(4).max(1) as f64).sqrt();
        let of_channels = sd(residuals.iter().map(|r| r * r).sum(), residuals.len());
        let width = ((STRUCTURE_EV / energy.scale).round() as usize).max(1);
        let blocks: Vec<f64> =
            residuals.chunks_exact(width).map(|block| block.iter().sum::<f64>() / width as f64).collect();
        let of_blocks = match blocks.len() {
            0..=6 => 0.0,
            count => sd(blocks.iter().map(|b| b * b).sum(), count) * (width as f64).sqrt(),
        };
        let sd = of_channels.max(of_blocks).max(noise) * covariance[(3, 3)].max(0.0).sqrt();
        Some(Fit { height: solution[3], significance: solution[3] / sd.max(1e-9) })
    }
}
