//! What rises above the background: a mean spectrum less the power law fitted before an edge.

use super::background::{NATURAL_SLOPES, PowerLaw};
use crate::cube::{Axis, neighbourhood};

/// Width of the background fit, of the rise looked for, and the gap between them, eV.
pub const FIT_EV: f64 = 20.0;
pub const RISE_EV: f64 = 8.0;
pub const GAP_EV: f64 = 2.0;
/// How far past the onset of a sharp edge its white lines are looked for, eV.
pub const EDGE_EXTENT_EV: f64 = 40.0;
/// Below this energy loss (eV) the zero-loss and plasmon tails hide or mimic edges.
pub const LOWEST_EV: f64 = 50.0;

/// Channels at either end of the axis that a detector often spoils.
pub fn margin(num_channels: usize) -> usize {
    (num_channels / 100).max(6)
}

/// How many channels `ev` spans, at least `least`.
pub fn channels(energy: &Axis, ev: f64, least: usize) -> usize {
    ((ev / energy.scale).round() as usize).max(least)
}

/// `mean` `[E]` less the power law fitted in `background`, smoothed over about 1 eV, from `from` to `to` (eV).
///
/// Returns the first channel and the values from there on; `None` where no background can be fitted.
pub fn excess(
    energy: &Axis,
    energies: &[f64],
    mean: &[f64],
    background: [f64; 2],
    [from, to]: [f64; 2],
) -> Option<(usize, Vec<f64>)> {
    let before = energy.indices(background[0], background[1]);
    let law = PowerLaw::fit(&energies[before.clone()], &mean[before], NATURAL_SLOPES)?;
    let half = channels(energy, 0.5, 0);
    let range = energy.indices(from.max(energy.scale), to);
    let values = range
        .clone()
        .map(|i| {
            let near = neighbourhood(i, half, mean.len());
            let count = near.len() as f64;
            mean[near].iter().sum::<f64>() / count - law.at(energies[i])
        })
        .collect();
    Some((range.start, values))
}
