//! Finds the core-loss edges of a cube in its mean spectrum, and the windows to score them in.

use super::background::{NATURAL_SLOPES, PowerLaw, channel_noise};
use super::delayed::delayed_edges;
use super::excess::{EDGE_EXTENT_EV, FIT_EV, GAP_EV, LOWEST_EV, RISE_EV, channels, excess, margin};
use super::naming::{FoundEdge, named};
use crate::config::Window;
use crate::cube::Axis;

/// What an edge is looked for by.
struct Search {
    /// Width of the background fit, of the rise looked for, and the gap between them, eV.
    fit_ev: f64,
    rise_ev: f64,
    gap_ev: f64,
    /// Smaller jumps, relative to the background, are near-edge structure or curvature of the background.
    min_jump: f64,
    min_significance: f64,
    /// Structure up to this far past an onset (eV) belongs to its edge: white lines and near-edge peaks.
    extent_ev: f64,
    /// A rise up to this far before an onset (eV) is a pre-edge peak.
    pre_peak_ev: f64,
    /// An onset is at most this far before the largest jump (eV), leaves a background fitted over so many eV, and is where the
    /// spectrum exceeds that by this share of the edge's height.
    lead_ev: f64,
    foot_fit_ev: f64,
    foot: f64,
}

/// Edges that rise within a few channels.
const SHARP: Search = Search {
    fit_ev: FIT_EV,
    rise_ev: RISE_EV,
    gap_ev: GAP_EV,
    min_jump: 0.06,
    min_significance: 8.0,
    extent_ev: EDGE_EXTENT_EV,
    pre_peak_ev: 15.0,
    lead_ev: 10.0,
    foot_fit_ev: FIT_EV,
    foot: 0.1,
};
/// Delayed and all other edges on a coarse axis: a longer rise is averaged, so that a smaller one stands out.
const SLOW: Search = Search {
    fit_ev: 80.0,
    rise_ev: 48.0,
    gap_ev: 16.0,
    min_jump: 0.04,
    min_significance: 6.0,
    extent_ev: 80.0,
    pre_peak_ev: 30.0,
    lead_ev: 24.0,
    // Short, as the edge before may be near.
    foot_fit_ev: 40.0,
    foot: 0.25,
};
/// On an axis with wider channels (eV), sharp edges rise within one.
const COARSE_EV: f64 = 4.0;
/// A window starts this far before the onset, and ends so far behind its lines that a shift of `MARGIN_EV` stays
/// inside.
const LEAD_EV: f64 = 8.0;
const MARGIN_EV: f64 = 13.0;
const MAX_WINDOWS: usize = 6;
/// Channels that a window needs: scoring projects two background directions out of them.
pub const MIN_CHANNELS: usize = 4;

/// A channel that an edge may start at.
struct Rise {
    channel: usize,
    /// Mean of `ln(counts / background)` over the next `RISE_EV`.
    ln_jump: f64,
    significance: f64,
}

/// An accepted edge.
struct AcceptedEdge {
    onset_ev: f64,
    /// Past its last white line.
    end_ev: f64,
    significance: f64,
    is_slow: bool,
}

/// The window to score in where a spectrum has no edge: the whole axis, with its first fifth as background.
pub fn whole_axis(energy: &Axis) -> Window {
    let (first, last) = (energy.value(0), energy.value(energy.size.max(1) - 1));
    Window { name: "all".into(), range_ev: [first, last], background_ev: [first, first + 0.2 * (last - first)] }
}

/// The windows of the edges of [`find_edges`].
pub fn find_windows(energy: &Axis, mean: &[f64]) -> Vec<Window> {
    windows_of(energy, find_edges(energy, mean))
}

/// The windows of `edges` that have enough channels to score in.
pub fn windows_of(energy: &Axis, edges: Vec<FoundEdge>) -> Vec<Window> {
    let windows = edges.into_iter().map(|edge| edge.window);
    let width = |window: &Window| energy.indices(window.range_ev[0], window.range_ev[1]).len();
    windows.filter(|window| width(window) >= MIN_CHANNELS).collect()
}

/// Finds at most six edges in `mean` (`[E]` counts, on `energy` in eV), the most significant first.
///
/// An edge is a rise over the power law fitted before it that is large compared with both the noise and the background. Delayed
/// ones come after sharp ones.
/// Empty where nothing rises. Rank-local and pure.
pub fn find_edges(energy: &Axis, mean: &[f64]) -> Vec<FoundEdge> {
    let energies = energy.values();
    let mut edges: Vec<AcceptedEdge> = Vec::new();
    add_edges(energy, &energies, mean, &SHARP, &mut edges);
    if energy.scale > COARSE_EV {
        add_edges(energy, &energies, mean, &SLOW, &mut edges);
    }
    edges.sort_by(|a, b| b.significance.total_cmp(&a.significance));
    edges.truncate(MAX_WINDOWS);
    let num_others = edges.len();
    if energy.scale <= COARSE_EV {
        let sharp_ev: Vec<f64> = edges.iter().map(|e| e.onset_ev).collect();
        let delayed = delayed_edges(energy, &energies, mean, &sharp_ev).into_iter();
        edges.extend(delayed.map(|edge| AcceptedEdge {
            onset_ev: edge.onset_ev,
            end_ev: edge.onset_ev + SLOW.extent_ev,
            significance: edge.significance,
            is_slow: true,
        }));
    }
    edges.truncate(MAX_WINDOWS);
    let onsets: Vec<f64> = edges.iter().map(|e| e.onset_ev).collect();
    let windows: Vec<Window> = edges.iter().map(|e| window(energy, e, &onsets)).collect();
    named(energy, mean, &onsets, edges.len() - num_others, windows)
}

/// Adds the edges that `search` finds to `edges`, unless they belong to one of these.
fn add_edges(energy: &Axis, energies: &[f64], mean: &[f64], search: &Search, edges: &mut Vec<AcceptedEdge>) {
    let is_slow = search.rise_ev > RISE_EV;
    // As many channels as a rise has, where these are wide.
    let [before, after] = match is_slow {
        true => [search.pre_peak_ev, search.extent_ev].map(|ev| ev.max(4.0 * energy.scale)),
        false => [search.pre_peak_ev, search.extent_ev],
    };
    // Whether a rise at `at` is part of the edge that starts at `onset`.
    let belongs = |at: f64, onset: f64| (onset - before..onset + after).contains(&at);
    let mut rises = rises(energy, energies, mean, search);
    rises.sort_by(|a, b| b.ln_jump.total_cmp(&a.ln_jump).then(a.channel.cmp(&b.channel)));
    for rise in rises {
        let at = energies[rise.channel];
        // The largest jump lies just before the peak, which may be past the onset.
        if edges.iter().any(|e| belongs(at, e.onset_ev)) {
            continue;
        }
        let onset_ev = onset(energy, energies, mean, search, at);
        if edges.iter().any(|e| belongs(onset_ev, e.onset_ev) || belongs(e.onset_ev, onset_ev)) {
            continue;
        }
        let end_ev = match is_slow {
            true => onset_ev + search.extent_ev,
            false => end_of_white_lines(energy, energies, mean, onset_ev),
        };
        edges.push(AcceptedEdge { onset_ev, end_ev, significance: rise.significance, is_slow });
    }
}

/// Every channel at which the spectrum rises enough to start an edge.
fn rises(energy: &Axis, energies: &[f64], mean: &[f64], search: &Search) -> Vec<Rise> {
    let (fit, rise) = (channels(energy, search.fit_ev, 10), channels(energy, search.rise_ev, 4));
    let gap = channels(energy, search.gap_ev, 1);
    let margin = margin(mean.len());
    let first = fit + gap + margin;
    let last = mean.len().saturating_sub(rise + margin);
    (first..last.max(first))
        .filter(|&i| energies[i - gap - fit] >= LOWEST_EV)
        .filter_map(|i| {
            let before = i - gap - fit..i - gap;
            let law = PowerLaw::fit(&energies[before.clone()], &mean[before.clone()], NATURAL_SLOPES)?;
            let after = i..i + rise;
            let ln_jump =
                after.clone().map(|j| mean[j].max(f64::MIN_POSITIVE).ln() - law.ln_at(energies[j])).sum::<f64>()
                    / rise as f64;
            let middle = 0.5 * (energies[i] + energies[i + rise - 1]);
            // The curvature of the background counts as noise, since it misleads the extrapolation as noise does.
            let noise = law.residual_sd().max(channel_noise(&mean[before.start..after.end]));
            let sd = noise * (1.0 / rise as f64 + law.leverage(middle)).sqrt();
            let significance = ln_jump / sd.max(1e-9);
            (ln_jump.exp() - 1.0 > search.min_jump && significance > search.min_significance).then_some(Rise {
                channel: i,
                ln_jump,
                significance,
            })
        })
        .collect()
}

/// Where the edge that rises about `at` (eV) leaves its background, eV.
fn onset(energy: &Axis, energies: &[f64], mean: &[f64], search: &Search, at: f64) -> f64 {
    let first = at - search.lead_ev;
    let background = [first - search.gap_ev - search.foot_fit_ev, first - search.gap_ev];
    let Some((start, excess)) = excess(energy, energies, mean, background, [first, at + search.rise_ev]) else {
        return at;
    };
    let highest = excess.iter().copied().fold(0.0, f64::max);
    let peak = excess.iter().position(|&v| v == highest).unwrap_or(0);
    let below = excess[..peak].iter().rposition(|&v| v < search.foot * highest);
    energies[start + below.map_or(0, |i| i + 1)]
}

/// The end of a window past the last white line of the edge at `onset_ev`, with room for a shift, eV.
fn end_of_white_lines(energy: &Axis, energies: &[f64], mean: &[f64], onset_ev: f64) -> f64 {
    let background = [onset_ev - GAP_EV - FIT_EV, onset_ev - GAP_EV];
    let reach = [onset_ev, onset_ev + EDGE_EXTENT_EV - MARGIN_EV];
    let Some((start, excess)) = excess(energy, energies, mean, background, reach) else {
        return onset_ev + EDGE_EXTENT_EV;
    };
    let highest = excess.iter().copied().fold(0.0, f64::max);
    let near = channels(energy, 2.0, 1);
    let last_line = (near..excess.len().saturating_sub(near)).rfind(|&i| {
        let around = &excess[i - near..=i + near];
        let lowest = around.iter().copied().fold(f64::INFINITY, f64::min);
        around.iter().all(|&v| v <= excess[i]) && excess[i] - lowest > 0.04 * highest
    });
    let line_ev = last_line.map_or(onset_ev, |i| energies[start + i]);
    (line_ev + MARGIN_EV).max(onset_ev + 27.0)
}

/// The window of `edge`, kept clear of the other `onsets`.
fn window(energy: &Axis, edge: &AcceptedEdge, onsets: &[f64]) -> Window {
    let onset = edge.onset_ev;
    let spoiled = margin(energy.size);
    let first = energy.value(spoiled).max(LOWEST_EV);
    let last = energy.value(energy.size - 1 - spoiled);
    let next = onsets.iter().copied().filter(|&o| o > onset).fold(f64::INFINITY, f64::min);
    let previous = onsets.iter().copied().filter(|&o| o < onset).fold(f64::NEG_INFINITY, f64::max);
    // A coarse axis needs as many channels.
    let (lead, gap, fit) = match edge.is_slow {
        true => (LEAD_EV.max(2.0 * energy.scale), SLOW.gap_ev, SLOW.fit_ev),
        false => (LEAD_EV, 5.0, 40.0),
    };
    let background_end = onset - gap;
    // The tail of the previous edge is not a power law, but a part of it is better than too short a fit.
    let background_start = (background_end - fit).max(previous + 25.0).min(background_end - 15.0).max(first);
    Window {
        name: format!("edge_{onset:.0}eV"),
        range_ev: [(onset - lead).max(first), edge.end_ev.min(next - 3.0).min(last)],
        background_ev: [background_start, background_end],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(offset: f64, scale: f64, size: usize) -> Axis {
        Axis::energy_loss(offset, scale, size)
    }

    /// O K, Fe L3 and L2, and a weak delayed Bi N, as in the simulated scenes.
    fn bismuth_ferrite(energy: f64) -> f64 {
        let background = |e: f64| (e / 420.0).powf(-2.9);
        let line = |at: f64, sd: f64, h: f64| h * (-0.5 * ((energy - at) / sd).powi(2)).exp();
        let step = |at: f64, width: f64| 1.0 / (1.0 + (-(energy - at) / width).exp());
        let oxygen = 0.9 * background(532.0);
        let iron = 0.35 * background(708.0);
        background(energy)
            + oxygen * (step(532.0, 1.0) * (energy / 532.0).powi(-3))
            + oxygen * (line(531.0, 1.0, 0.3) + line(537.0, 2.0, 0.6) + line(543.0, 3.0, 0.4))
            + oxygen * line(563.0, 5.0, 0.2)
            + iron * (step(709.5, 1.0) * 2.0 / 3.0 + step(722.6, 1.0) / 3.0)
            + iron * 3.2 * (line(708.6, 1.0, 0.5) + line(710.3, 1.2, 0.6))
            + iron * 3.2 * (line(722.0, 1.2, 0.25) + line(724.0, 1.5, 0.2))
            + 0.1 * background(440.0) * step(450.0, 6.0) * (energy / 440.0).powi(-3)
    }

    /// Relative noise of a mean over some 10,000 pixels of 85,000 electrons.
    fn noise(i: usize) -> f64 {
        let hash = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        1.0 + 1e-3 * ((hash >> 40) as f64 / (1u64 << 23) as f64 - 1.0)
    }

    fn near(windows: &[Window], onset: f64) -> &Window {
        windows
            .iter()
            .find(|w| w.range_ev[0] < onset && onset < w.range_ev[0] + 14.0)
            .unwrap_or_else(|| panic!("no edge near {onset} eV in {windows:?}"))
    }

    #[test]
    fn finds_oxygen_and_iron_of_bismuth_ferrite() {
        for axis in [axis(420.0, 0.305, 1312), axis(420.0, 1.67, 240), axis(400.0, 1.0, 480)] {
            let energies = axis.values();
            let mean: Vec<f64> =
                energies.iter().enumerate().map(|(i, &e)| 200.0 * bismuth_ferrite(e) * noise(i)).collect();
            let found = find_windows(&axis, &mean);
            let oxygen = near(&found, 531.0);
            assert!(oxygen.range_ev[1] > 555.0 && oxygen.range_ev[1] < 600.0, "{oxygen:?}");
            let iron = near(&found, 707.0);
            assert!(iron.range_ev[1] > 731.0 && iron.range_ev[1] < 745.0, "{iron:?}");
            assert!(iron.background_ev[0] > 600.0 && iron.background_ev[1] < 706.0, "{iron:?}");
            assert!(found.len() <= 3, "{found:?}");
            assert_eq!((&oxygen.name[..], &iron.name[..]), ("O K", "Fe L3"));
            // The others begin too near to it.
            if axis.offset < 420.0 {
                near(&found, 446.0);
            }
            let clear = found.iter().filter(|w| !w.name.starts_with("edge_"));
            assert_eq!(clear.count(), 2, "{found:?}");
        }
    }

    #[test]
    fn an_axis_coarser_than_an_edge_has_no_window_of_a_channel_or_two() {
        for scale in [15.0, 30.0, 50.0] {
            let coarse = axis(100.0, scale, 60);
            let onset = coarse.value(30);
            let step = |e: f64| 1e9 * e.powf(-2.9) * if e < onset { 1.0 } else { 2.0 };
            let mean: Vec<f64> = coarse.values().into_iter().map(step).collect();
            assert!(!find_edges(&coarse, &mean).is_empty());
            for window in find_windows(&coarse, &mean) {
                let channels = coarse.indices(window.range_ev[0], window.range_ev[1]);
                assert!(channels.len() >= MIN_CHANNELS, "{window:?} at {scale} eV");
            }
        }
    }

    #[test]
    fn slow_edges_and_coarse_axes_have_a_search_of_their_own() {
        // Cu and Zn as in a measured map of 8 eV channels: some percent of the background, with a foot of 20 eV.
        let slow = |e: f64, at: f64, height: f64| height / (1.0 + (-(e - at - 10.0) / 5.0).exp());
        let copper = |e: f64| 1e12 * e.powf(-2.9) * (1.0 + slow(e, 931.0, 0.07) + slow(e, 1020.0, 0.06));
        // Delayed by 30 eV, as M5 of the heavy elements, in fine channels.
        let lanthanum = |e: f64| 1e12 * e.powf(-2.9) * (1.0 + slow(e, 870.0, 0.08));
        type Spectrum<'s> = &'s dyn Fn(f64) -> f64;
        for (axis, spectrum, onsets) in [
            (axis(700.0, 8.0, 162), &copper as Spectrum, &[931.0, 1020.0][..]),
            (axis(700.0, 0.5, 800), &lanthanum, &[870.0]),
        ] {
            let mean: Vec<f64> = axis.values().iter().enumerate().map(|(i, &e)| spectrum(e) * noise(i)).collect();
            let found = find_windows(&axis, &mean);
            assert_eq!(found.len(), onsets.len(), "{found:?}");
            for &onset in onsets {
                let near = |w: &&Window| (w.range_ev[0]..w.range_ev[0] + 40.0).contains(&onset);
                assert!(found.iter().any(|w| near(&w)), "no edge near {onset} eV in {found:?}");
            }
        }
    }

    #[test]
    fn delayed_edges_are_found_beside_sharp_ones() {
        let step = |e: f64, at: f64| 1.0 / (1.0 + (-(e - at) / 0.7).exp());
        let line = |e: f64, at: f64| (-0.5 * ((e - at) / 1.2f64).powi(2)).exp();
        // Oxygen with the oscillations behind it, and zinc without white lines.
        let oxygen = |e: f64| {
            let beyond = (e - 532.0).max(0.0);
            let oscillation = 0.04 * (1.2 * beyond.sqrt()).sin() * (-beyond / 80.0).exp();
            (step(e, 533.0) * (1.0 + oscillation) + 0.5 * line(e, 538.0)) * (e / 532.0).powi(-3)
        };
        let zinc = |e: f64| 1.0 - (-(e - 1020.0).max(0.0) / 25.0).exp();
        let background = |e: f64| e.powf(-2.9);
        let axis = axis(430.0, 0.5, 1600);
        let spectrum = |e: f64, height: f64| {
            1e12 * (background(e) + 0.6 * background(532.0) * oxygen(e) + height * background(1020.0) * zinc(e))
        };
        let mean = |height: f64| -> Vec<f64> {
            axis.values().iter().enumerate().map(|(i, &e)| spectrum(e, height) * noise(i)).collect()
        };
        let found = find_edges(&axis, &mean(0.25));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].window.name, "O K");
        assert!((found[1].onset_ev - 1020.0).abs() < 12.0, "{found:?}");
        assert_eq!(find_edges(&axis, &mean(0.0)).len(), 1);
    }

    #[test]
    fn a_background_that_bends_has_no_edge() {
        // The slope falls from 5 to 3 within the range, as behind the plasmons of a thick specimen.
        let axis = axis(60.0, 0.5, 1000);
        let bent = |e: f64| 1e12 * (e.powf(-3.0) + 1e4 * e.powf(-5.0) * (1.0 + 0.3 * (-e / 60.0).exp()));
        let mean: Vec<f64> = axis.values().iter().enumerate().map(|(i, &e)| bent(e) * noise(i)).collect();
        assert_eq!(find_windows(&axis, &mean), vec![]);
    }

    #[test]
    fn a_background_alone_and_tiny_axes_have_no_edge() {
        let long = axis(420.0, 0.4, 1000);
        let mean: Vec<f64> = long.values().iter().enumerate().map(|(i, e)| 1e9 * e.powf(-2.9) * noise(i)).collect();
        assert_eq!(find_windows(&long, &mean), vec![]);
        assert_eq!(find_windows(&long, &[0.0; 1000]), vec![]);
        for size in [0, 1, 2, 40] {
            assert_eq!(find_windows(&axis(0.0, 1.0, size), &vec![1.0; size]), vec![]);
        }
    }
}
