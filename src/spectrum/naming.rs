//! Names the edges found in a mean spectrum: after an element where that is clear.

use super::excess::{FIT_EV, GAP_EV, RISE_EV, channels, excess};
use super::identify::{Onset, identify};
use crate::config::Window;
use crate::cube::Axis;

/// A line is narrow if it falls to this share of its height within this many eV of its peak.
const LINE_DROP: f64 = 0.75;
const LINE_WIDTH_EV: f64 = 6.0;

/// An edge of a mean spectrum, and the window to score it in.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundEdge {
    /// Named after the element and shell where they are clear, else after the onset.
    pub window: Window,
    /// Where it leaves the background, eV.
    pub onset_ev: f64,
    /// The edges that it may be (`Fe L3`), one of each element, the likeliest first.
    pub candidates: Vec<String>,
    /// How much too high the axis seems to read here, eV; none where the name is not clear.
    pub axis_error_ev: Option<f64>,
}

/// Names `windows`, whose edges leave their backgrounds at `onsets_ev` in `mean` (`[E]` counts), the last of them delayed.
pub fn named(
    energy: &Axis,
    mean: &[f64],
    onsets_ev: &[f64],
    num_delayed: usize,
    windows: Vec<Window>,
) -> Vec<FoundEdge> {
    let energies = energy.values();
    let num_others = onsets_ev.len() - num_delayed;
    let others = onsets_ev[..num_others].iter().map(|&onset_ev| shape_of_rise(energy, &energies, mean, onset_ev));
    let delayed =
        onsets_ev[num_others..].iter().map(|&energy_ev| Onset { energy_ev, is_sharp: false, is_delayed: true });
    let rises: Vec<Onset> = others.chain(delayed).collect();
    let identified = identify(&rises);
    let mut found: Vec<FoundEdge> = Vec::new();
    for (i, mut window) in windows.into_iter().enumerate() {
        let candidates: Vec<String> = (identified.candidates[i].iter()).map(|edge| edge.name()).collect();
        // A second window of the same name is near-edge structure of the first.
        let is_new = |name: &&String| found.iter().all(|other| other.window.name != **name);
        let name = candidates.first().filter(|_| identified.is_clear[i]).filter(is_new);
        let axis_error_ev = name.map(|_| identified.axis_error_ev[i]);
        if let Some(name) = name {
            window.name = name.clone();
        }
        found.push(FoundEdge { window, onset_ev: onsets_ev[i], candidates, axis_error_ev });
    }
    found
}

/// Where the edge that starts at `onset_ev` is half way up its first rise, and whether a narrow line follows at once.
fn shape_of_rise(energy: &Axis, energies: &[f64], mean: &[f64], onset_ev: f64) -> Onset {
    let background = [onset_ev - GAP_EV - FIT_EV, onset_ev - GAP_EV];
    let reach = [onset_ev - GAP_EV, onset_ev + RISE_EV + LINE_WIDTH_EV];
    let rise = excess(energy, energies, mean, background, reach);
    let flat = Onset { energy_ev: onset_ev, is_sharp: false, is_delayed: false };
    let Some((start, excess)) = rise else {
        return flat;
    };
    let first = channels(energy, GAP_EV + RISE_EV, 1).min(excess.len());
    let highest = excess[..first].iter().copied().fold(0.0, f64::max);
    let Some(peak) = excess.iter().position(|&v| v == highest && v > 0.0) else {
        return flat;
    };
    let half = excess[..peak].iter().rposition(|&v| v < 0.5 * highest);
    let after = peak..(peak + channels(energy, LINE_WIDTH_EV, 1) + 1).min(excess.len());
    let lowest = excess[after].iter().copied().fold(highest, f64::min);
    Onset {
        energy_ev: energies[start + half.map_or(0, |i| i + 1)],
        is_sharp: lowest < LINE_DROP * highest,
        is_delayed: false,
    }
}
