//! The problems of a cube, in words, with what to do about each.

use super::measure::Measured;
use crate::archive::Description;

/// Shares of the voxels above which something is a problem.
const MANY_SPIKES: f64 = 1e-4;
const MANY_NEGATIVES: f64 = 0.05;
const MANY_ZEROS: f64 = 0.5;
/// Valence alone does not shift an edge by more than this, eV.
const AXIS_ERROR_EV: f64 = 4.0;
/// More drift than this blurs averages over lines, eV.
const DRIFT_EV: f64 = 1.0;
/// Dispersions of real spectrometers, eV per channel, and the reach of their axes, eV.
const DISPERSIONS_EV: std::ops::RangeInclusive<f64> = 1e-3..=10.0;
const FARTHEST_EV: f64 = 20_000.0;
/// Most values that are listed.
const NAMED: usize = 5;

/// The problems of the axes, known before a spectrum is read.
pub fn of_axes(summary: &Description) -> Vec<String> {
    let Some(energy) = summary.axes.last().filter(|axis| axis.units == "eV") else {
        return Vec::new();
    };
    let last = energy.value(energy.size.saturating_sub(1));
    let mut problems = Vec::new();
    if !DISPERSIONS_EV.contains(&energy.scale.abs()) {
        problems.push(format!(
            "the dispersion is {} eV per channel, which no spectrometer has: correct the scale or the units of the \
             energy axis",
            energy.scale
        ));
    } else if energy.offset.abs().max(last.abs()) > FARTHEST_EV {
        problems.push(format!(
            "the energies are {:.0} to {last:.0} eV, which are no energy losses: correct the offset or the units of the \
             energy axis",
            energy.offset
        ));
    }
    problems
}

/// The problems of the spectra.
pub fn of_spectra(measured: &Measured) -> Vec<String> {
    let mut problems = of_counts(measured);
    problems.extend(of_defects(measured));
    if measured.noise.as_ref().is_some_and(|noise| !noise.fitted) {
        problems.push(
            "the noise could not be fitted, the data are too few or too flat: give preprocess.gain where it is known"
                .into(),
        );
    }
    if let Some(spikes) = measured.spikes.as_ref().filter(|s| s.share > MANY_SPIKES) {
        problems.push(format!(
            "{} spikes: a run replaces them; look whether they are cosmic rays (preprocess.despike: false keeps them)",
            share_of_voxels(spikes.share)
        ));
    }
    let edges = measured.edges.as_deref().unwrap_or_default();
    if measured.edges.is_some() && edges.is_empty() {
        problems.push(
            "no edge stands out of the mean spectrum: scores look at the whole range unless score.windows names some"
                .into(),
        );
    }
    let off: Vec<(&str, f64)> = edges
        .iter()
        .filter_map(|edge| Some((&edge.name[..], edge.axis_error_ev?)))
        .filter(|(_, error)| error.abs() > AXIS_ERROR_EV)
        .collect();
    if !off.is_empty() {
        let names: Vec<String> = off
            .iter()
            .map(|(name, error)| {
                let way = if *error > 0.0 { "high" } else { "low" };
                format!("{name} some {:.0} eV {way}", error.abs())
            })
            .collect();
        let errors = || off.iter().map(|(_, error)| *error);
        let spread = errors().fold(f64::NEG_INFINITY, f64::max) - errors().fold(f64::INFINITY, f64::min);
        let what = if spread > AXIS_ERROR_EV { "offset and dispersion" } else { "offset" };
        problems.push(format!(
            "the energy axis seems to be off ({}): calibrate its {what} before windows are given by hand; scores do not mind",
            names.join(", ")
        ));
    }
    if let Some(drift) = measured.drift.as_ref().filter(|d| d.peak_to_peak_ev > DRIFT_EV) {
        problems.push(format!(
            "{} moves by {:.1} eV over the scan: align the spectra before they are averaged",
            drift.edge, drift.peak_to_peak_ev
        ));
    }
    problems
}

fn of_counts(measured: &Measured) -> Vec<String> {
    let Some(counts) = &measured.counts else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    if counts.not_finite > 0.0 {
        problems
            .push(format!("{} no numbers (NaN or infinite): they are left out", share_of_voxels(counts.not_finite)));
    }
    if counts.saturated > 0.0 {
        problems.push(format!(
            "{} at the detector's limit of {}: what lies above is lost; leave these energies out by \
             archive.energy_range_ev, or expose less",
            share_of_voxels(counts.saturated),
            counts.max
        ));
    }
    if counts.negatives > MANY_NEGATIVES {
        problems.push(format!(
            "{} negative: the dark reference took too much, or a background was subtracted; counts are needed",
            share_of_voxels(counts.negatives)
        ));
    }
    if counts.zeros == 1.0 {
        problems.push("every voxel is 0: there are no spectra in it".into());
    } else if counts.zeros > MANY_ZEROS {
        problems.push(format!(
            "{} 0: a sparse measurement; average pixels first where spectra are needed",
            share_of_voxels(counts.zeros)
        ));
    }
    problems
}

fn of_defects(measured: &Measured) -> Vec<String> {
    let Some(defects) = &measured.defects else {
        return Vec::new();
    };
    let ev = |values: &[f64]| listed(values.iter().map(|ev| format!("{ev:.2}")));
    let places = |values: &[usize]| listed(values.iter().map(usize::to_string));
    let channels = "leave them out by archive.energy_range_ev, or replace them in the data";
    let pixels = "ignore them by archive.regions or a mask file";
    let mut problems = Vec::new();
    for (values, what, mend) in [
        (ev(&defects.dead_channels_ev), "dead channels (eV)", channels),
        (ev(&defects.hot_channels_ev), "hot channels (eV)", channels),
        (places(&defects.dark_columns), "dark columns (x)", pixels),
        (places(&defects.dark_lines), "dark lines (y)", pixels),
    ] {
        if let Some(values) = values {
            problems.push(format!("{what}: {values}; {mend}"));
        }
    }
    problems
}

/// The first few of `values` and how many more there are; none where there are no values.
fn listed(values: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let count = values.len();
    let first: Vec<String> = values.take(NAMED).collect();
    match count {
        0 => None,
        count if count > NAMED => Some(format!("{} and {} more", first.join(", "), count - NAMED)),
        _ => Some(first.join(", ")),
    }
}

fn share_of_voxels(share: f64) -> String {
    if share < 1e-3 {
        format!("{share:.1e} of the voxels are")
    } else {
        format!("{:.1} % of the voxels are", 100.0 * share)
    }
}
