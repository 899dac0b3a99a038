//! The edge of one window in the mean spectrum, and the residuals that it leaves if it moves or has another height.

use ndarray::Array1;

use crate::config::Window;
use crate::cube::Axis;
use crate::spectrum::{NOISY_SLOPES, PowerLaw, inverse_cube, shifted};

/// Beyond the next edge an edge goes on as `E^-3`, from its mean over this range before that edge, eV.
const BEFORE_NEXT_EV: f64 = 30.0;
/// Lines of an edge lie within this range from its onset, eV.
const LINES_EV: f64 = 20.0;
/// Standard deviation of the Gaussian that takes the noise of the mean spectrum out of an edge that moves: eV, but at least
/// some channels.
const SMOOTH_EV: f64 = 0.5;
const SMOOTH_CHANNELS: f64 = 0.3;

/// The edge of one window in the mean spectrum, above the power law fitted before it.
#[derive(Clone, Debug)]
pub struct EdgeProfile {
    /// eV per channel.
    pub scale_ev: f64,
    /// `[E]` shares of all electrons; 0 before the edge.
    height: Array1<f32>,
    /// The same, smoothed.
    smooth: Array1<f32>,
    /// `[E]`, the mean spectrum in shares.
    mean: Vec<f64>,
}

impl EdgeProfile {
    /// The edge of `window` in `mean` (`[E]` shares), where the window `next`, higher in energy, ends it; `None` where nothing
    /// rises above the power law.
    pub fn new(energy: &Axis, window: &Window, next: Option<&Window>, mean: &[f64]) -> Option<EdgeProfile> {
        let energies = energy.values();
        let [low, onset_ev] = window.background_ev;
        let before = energy.indices(low, onset_ev);
        let law = PowerLaw::fit(&energies[before.clone()], &mean[before.clone()], NOISY_SLOPES)?;
        let mut height: Array1<f32> = (0..energy.size)
            .map(|i| if i >= before.end && energies[i] > 0.0 { (mean[i] - law.at(energies[i])) as f32 } else { 0.0 })
            .collect();
        if let Some(next) = next {
            let next_ev = next.background_ev[1];
            let from = (next_ev - BEFORE_NEXT_EV).max(onset_ev + LINES_EV);
            let tail = energy.indices(from, next_ev);
            let end = energy.indices(next_ev, f64::INFINITY).start;
            let shape = inverse_cube(&energies);
            if !tail.is_empty() {
                let ratios: f64 = tail.clone().map(|i| f64::from(height[i]) / shape[i]).sum();
                let amount = ratios / tail.len() as f64;
                (end..energy.size).for_each(|i| height[i] = (amount * shape[i]) as f32);
            }
        }
        if height.iter().all(|&h| h <= 0.0) {
            return None;
        }
        let deviation = (SMOOTH_EV / energy.scale).max(SMOOTH_CHANNELS);
        Some(EdgeProfile { scale_ev: energy.scale, smooth: smoothed(&height, deviation), height, mean: mean.to_vec() })
    }

    /// The residual `[E]` of a pixel of one electron with more of the element: its own edge once more.
    pub fn higher(&self) -> Vec<f64> {
        self.residual(self.height.iter().map(|&h| f64::from(h)).collect())
    }

    /// The residual `[E]` of a pixel of one electron whose edge has moved by `shift_ev`.
    pub fn moved(&self, shift_ev: f64) -> Vec<f64> {
        let moved = shifted(self.smooth.view(), shift_ev / self.scale_ev, 0..self.smooth.len());
        self.residual(moved.iter().zip(&self.smooth).map(|(moved, &here)| moved - f64::from(here)).collect())
    }

    /// `change` of the shares in units of the noise; the total stays as it is counted.
    fn residual(&self, change: Vec<f64>) -> Vec<f64> {
        let sum: f64 = change.iter().sum();
        change.iter().zip(&self.mean).map(|(change, mean)| (change - mean * sum) / mean.sqrt()).collect()
    }
}

/// `values` under a Gaussian of `deviation` channels; the ends go on.
fn smoothed(values: &Array1<f32>, deviation: f64) -> Array1<f32> {
    let reach = (4.0 * deviation).ceil() as isize;
    let weight = |d: isize| (-0.5 * (d as f64 / deviation).powi(2)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    let last = values.len() as isize - 1;
    let at = |i: isize| f64::from(values[i.clamp(0, last) as usize]);
    let mean = |i: isize| (-reach..=reach).map(|d| weight(d) * at(i + d)).sum::<f64>() / total;
    (0..values.len() as isize).map(|i| mean(i) as f32).collect()
}
