//! Tells which elements' edges a set of onsets may be, on an axis that may be miscalibrated.
//!
//! Each reading of an onset has a cost: minus twice its log likelihood, as a chi-square. The cheapest reading of all
//! onsets together, with one error of the axis, wins.

use super::elements::{ElementEdge, edges};

/// Standard deviation of an onset read from a spectrum about the tabulated one, eV: valence, resolution, noise.
const ONSET_SD_EV: f64 = 2.5;
/// The same of a delayed one, whose start nobody sees.
const DELAYED_SD_EV: f64 = 8.0;
/// Standard deviations of the error of the energy axis, eV, and of its dispersion, as a fraction.
const AXIS_SD_EV: f64 = 6.0;
const DISPERSION_SD: f64 = 0.02;
/// The largest errors that are tried either way, in eV and as a fraction, and the number of steps to get there.
const MAX_AXIS_ERROR_EV: f64 = 14.0;
const AXIS_STEPS: i32 = 28;
const MAX_DISPERSION_ERROR: f64 = 0.05;
const DISPERSION_STEPS: i32 = 5;
/// Edges further than this from an onset, or from a delayed one, are no candidates, eV.
const REACH_EV: f64 = 6.0;
const DELAYED_REACH_EV: f64 = 16.0;
/// Cost of an onset that is no edge of the table.
const UNKNOWN: f64 = 12.0;
/// The same for a gentle rise within `STRUCTURE_EV` after another onset: most are near-edge structure of that edge.
const STRUCTURE: f64 = 2.5;
const STRUCTURE_EV: f64 = 60.0;
/// Extra cost of a minor edge, or of the second of a pair.
const MINOR: f64 = 7.0;
/// Extra cost of a white line that is not sharp, and of a sharp onset where the edge should rise slowly.
const NOT_SHARP: f64 = 8.0;
const TOO_SHARP: f64 = 4.0;
/// A name is clear where the next element costs this much more.
const CLEAR: f64 = 1.5;
/// Candidates that cost this much more than the best are not listed.
const CONSIDERED: f64 = 6.0;

/// In most specimens, or on them.
const EVERYDAY: &str = "C N O Al Si Ca Ti Mn Fe Co Ni Cu";
/// Rarely studied by one edge alone.
const RARE: &str = "Sc Se Br Rb Rh Cd Sb Cs Tb Ho Er Tm Yb Lu Re Os Ir Hg Tl Th U";
/// Gases that no specimen holds, and elements too radioactive for a microscope.
const ABSENT: &str = "He Ne Ar Kr Xe Tc Pm Po At Rn Fr Ra Ac Pa";

/// Where a spectrum rises over its background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Onset {
    /// Half way up the rise, eV.
    pub energy_ev: f64,
    /// Whether a narrow line follows at once, as the white lines of L3 and M5 do.
    pub is_sharp: bool,
    /// Whether it rises over tens of eV.
    pub is_delayed: bool,
}

/// What the onsets of one spectrum may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Identification {
    /// For each onset, how much too high the axis reads there (eV), in the likeliest reading of all onsets together.
    pub axis_error_ev: Vec<f64>,
    /// For each onset, the likeliest edge of each possible element, the likeliest element first.
    pub candidates: Vec<Vec<&'static ElementEdge>>,
    /// For each onset, whether the first candidate is clearly the best.
    pub is_clear: Vec<bool>,
}

/// One error of the axis: how much too high it reads at each onset (eV), and the cost.
struct AxisError {
    at_ev: Vec<f64>,
    cost: f64,
}

/// The edges that `onsets` may be.
///
/// The axis has one small error of offset and dispersion for all of them. Near edges, major edges, common elements, and
/// sharp onsets where there should be a white line are cheaper than others.
pub fn identify(onsets: &[Onset]) -> Identification {
    let errors = axis_errors(onsets);
    let unknown: Vec<f64> = onsets.iter().map(|onset| unknown(onset, onsets)).collect();
    // For each error of the axis: the cost of the best edge of each onset, then of all of them together.
    let best: Vec<Vec<f64>> = errors
        .iter()
        .map(|error| {
            (onsets.iter().zip(&error.at_ev).zip(&unknown))
                .map(|((onset, at), unknown)| {
                    let costs = edges().iter().filter_map(|edge| cost(edge, onset, *at));
                    costs.fold(*unknown, f64::min)
                })
                .collect()
        })
        .collect();
    let total: Vec<f64> =
        (errors.iter().zip(&best)).map(|(error, best)| error.cost + best.iter().sum::<f64>()).collect();
    let least = (0..errors.len()).min_by(|&a, &b| total[a].total_cmp(&total[b])).expect("some error is tried");
    let mut found =
        Identification { axis_error_ev: errors[least].at_ev.clone(), candidates: Vec::new(), is_clear: Vec::new() };
    for (i, onset) in onsets.iter().enumerate() {
        let without = |step: usize| total[step] - best[step][i];
        let ranked = ranked(|edge| {
            (errors.iter().enumerate())
                .filter_map(|(step, error)| Some(cost(edge, onset, error.at_ev[i])? + without(step)))
                .min_by(f64::total_cmp)
        });
        let unknown = (0..errors.len()).map(|step| without(step) + unknown[i]);
        let rival = (ranked.get(1).map(|(cost, _)| *cost).into_iter().chain(unknown)).fold(f64::INFINITY, f64::min);
        let first = ranked.first().map(|(cost, _)| *cost);
        found.is_clear.push(first.is_some_and(|first| rival - first > CLEAR));
        let possible = ranked.into_iter().filter(|(cost, _)| first.is_some_and(|first| *cost <= first + CONSIDERED));
        found.candidates.push(possible.map(|(_, edge)| edge).collect());
    }
    found
}

/// The cost of reading `onset`, one of `onsets`, as no edge of the table.
fn unknown(onset: &Onset, onsets: &[Onset]) -> f64 {
    let follows = |other: &Onset| {
        let distance = onset.energy_ev - other.energy_ev;
        distance > 0.0 && distance < STRUCTURE_EV
    };
    if !onset.is_sharp && onsets.iter().any(follows) { STRUCTURE } else { UNKNOWN }
}

/// The errors of the axis to try; of its dispersion only where several onsets can tell.
fn axis_errors(onsets: &[Onset]) -> Vec<AxisError> {
    let middle = onsets.iter().map(|onset| onset.energy_ev).sum::<f64>() / onsets.len().max(1) as f64;
    let steps = if onsets.len() > 1 { DISPERSION_STEPS } else { 0 };
    let offsets = -AXIS_STEPS..=AXIS_STEPS;
    offsets
        .flat_map(|i| (-steps..=steps).map(move |j| (i, j)))
        .map(|(i, j)| {
            let offset = MAX_AXIS_ERROR_EV * f64::from(i) / f64::from(AXIS_STEPS);
            let stretch = MAX_DISPERSION_ERROR * f64::from(j) / f64::from(DISPERSION_STEPS);
            let at = |onset: &Onset| offset + stretch * (onset.energy_ev - middle);
            AxisError {
                at_ev: onsets.iter().map(at).collect(),
                cost: (offset / AXIS_SD_EV).powi(2) + (stretch / DISPERSION_SD).powi(2),
            }
        })
        .collect()
}

/// The best edge of each element that has one, cheapest first.
fn ranked(cost: impl Fn(&'static ElementEdge) -> Option<f64>) -> Vec<(f64, &'static ElementEdge)> {
    let mut ranked: Vec<(f64, &'static ElementEdge)> = Vec::new();
    for edge in edges() {
        let Some(cost) = cost(edge) else { continue };
        match ranked.iter_mut().find(|(_, own)| own.element == edge.element) {
            Some(own) if cost < own.0 => *own = (cost, edge),
            Some(_) => (),
            None => ranked.push((cost, edge)),
        }
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranked
}

/// The cost of reading `onset` as `edge` where the axis reads `error` eV too high; none where it lies too far away.
fn cost(edge: &ElementEdge, onset: &Onset, error: f64) -> Option<f64> {
    let misfit = onset.energy_ev - error - edge.onset_ev;
    let (sd, reach) = match onset.is_delayed {
        true => (DELAYED_SD_EV, DELAYED_REACH_EV),
        false => (ONSET_SD_EV, REACH_EV),
    };
    if misfit.abs() > reach {
        return None;
    }
    let is = |list: &str| list.split(' ').any(|element| element == edge.element);
    let rarity = match () {
        () if is(EVERYDAY) => 0.0,
        () if is(RARE) => 5.0,
        () if is(ABSENT) => 8.0,
        () => 2.0,
    };
    let is_leading = edge.is_major && !matches!(edge.shell, "L2" | "M4" | "N4" | "O4");
    let minor = if is_leading { 0.0 } else { MINOR };
    let shape = match (edge.has_white_line(), onset.is_sharp) {
        (true, false) => NOT_SHARP,
        // K edges may begin with a narrow pi* line.
        (false, true) if edge.shell != "K" => TOO_SHARP,
        _ => 0.0,
    };
    Some((misfit / sd).powi(2) + rarity + minor + shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(onsets: &[(f64, bool)]) -> Vec<String> {
        let onsets: Vec<Onset> =
            (onsets.iter()).map(|&(energy_ev, is_sharp)| Onset { energy_ev, is_sharp, is_delayed: false }).collect();
        let found = identify(&onsets);
        (found.candidates.iter().zip(&found.is_clear))
            .map(|(edges, &clear)| match edges.first() {
                Some(edge) if clear => edge.name(),
                Some(edge) => format!("{}?", edge.name()),
                None => "?".into(),
            })
            .collect()
    }

    #[test]
    fn the_usual_edges_have_one_name() {
        for (onset, is_sharp, name) in [
            (284.0, true, "C K"),
            (532.0, false, "O K"),
            (707.0, true, "Fe L3"),
            (455.0, true, "Ti L3"),
            (778.0, true, "Co L3"),
            (1840.0, false, "Si K"),
        ] {
            assert_eq!(names(&[(onset, is_sharp)]), [name], "{onset}");
        }
    }

    #[test]
    fn edges_agree_on_an_axis_that_is_wrong() {
        assert_eq!(names(&[(522.0, true), (698.0, true)]), ["O K", "Fe L3"]);
        // Ten eV too low, and four per cent too wide.
        let map = names(&[(287.0, true), (352.5, true), (546.0, false)]);
        assert_eq!(map, ["C K", "Ca L3", "O K"]);
    }

    #[test]
    fn structure_without_a_white_line_is_no_chromium() {
        let scene = names(&[(531.0, true), (707.5, true), (575.0, false)]);
        assert_eq!(&scene[..2], ["O K", "Fe L3"]);
        assert!(scene[2].ends_with('?'), "{scene:?}");
    }

    #[test]
    fn what_nothing_explains_has_no_name() {
        assert_eq!(names(&[]), [""; 0]);
        assert_eq!(names(&[(9000.0, false)]), ["?"]);
    }
}
