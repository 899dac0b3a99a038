//! The description of a file as aligned lines of text.

use std::fmt::Write as _;

use super::measure::{EdgeReport, Measured};
use crate::archive::Description;
use crate::cube::Axis;

/// All that is known of a file, a line each.
pub fn as_text(summary: &Description, measured: &Measured) -> String {
    let sizes = |shape: &[usize]| {
        let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
        sizes.join(" x ")
    };
    let mut text =
        format!("{}: {}, {} {}", summary.path.display(), summary.format, sizes(&summary.shape), summary.dtype);
    if let Some(chunks) = &summary.chunks {
        let _ = write!(text, " in chunks of {}", sizes(chunks));
    }
    text.push('\n');
    let mut line = |what: &str, content: &str| {
        let _ = writeln!(text, "  {what:<12} {content}");
    };
    for axis in &summary.axes {
        let name = if axis.name.is_empty() { "-" } else { &axis.name };
        line(name, &range_of(axis));
    }
    for (what, content) in instrument(summary) {
        line(what, &content);
    }
    for (what, content) in spectra(measured) {
        line(what, &content);
    }
    for (index, image) in summary.images.iter().enumerate() {
        line(&format!("image {index}"), image);
    }
    for problem in &summary.problems {
        line("problem:", problem);
    }
    text
}

/// Six decimals: files hold calibrations in single precision, and more digits are noise.
fn short(value: f64) -> String {
    // The sum turns -0 into 0.
    let digits = format!("{:.6}", value + 0.0);
    digits.trim_end_matches('0').trim_end_matches('.').into()
}

/// Counts to four digits, whatever their size.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 1e7 => format!("{value:.3e}"),
        size if size >= 1e3 => format!("{value:.0}"),
        _ => {
            let digits = format!("{value:.2}");
            digits.trim_end_matches('0').trim_end_matches('.').into()
        }
    }
}

/// In per cent; what is too little for that as it is.
fn percent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0 %".into(),
        percent if percent < 0.01 => format!("{share:.1e}"),
        percent => format!("{} %", rounded(percent)),
    }
}

fn range_of(axis: &Axis) -> String {
    let last = axis.value(axis.size.saturating_sub(1));
    let range =
        format!("{} from {} to {} by {} {}", axis.size, short(axis.offset), short(last), short(axis.scale), axis.units);
    range.trim_end().to_string()
}

/// What the file says about the measurement, each with its name.
fn instrument(summary: &Description) -> Vec<(&'static str, String)> {
    let about = &summary.microscope;
    let number = |value: Option<f64>, units: &str| value.map(|value| format!("{} {units}", short(value)));
    let intensity = match (about.gain_factor, &about.intensity_units) {
        (Some(factor), Some(units)) => {
            Some(format!("(stored - {}) * {} {units}", short(about.gain_offset.unwrap_or(0.0)), short(factor)))
        }
        _ => None,
    };
    let acquired: Vec<&str> = [&about.date, &about.time].into_iter().filter_map(|text| text.as_deref()).collect();
    let acquired = (!acquired.is_empty()).then(|| acquired.join(" "));
    [
        ("title", about.title.clone()),
        ("instrument", about.instrument.clone()),
        ("detector", about.detector.clone()),
        ("beam energy", number(about.beam_energy_kev, "keV")),
        ("convergence", number(about.convergence_angle_mrad, "mrad")),
        ("collection", number(about.collection_angle_mrad, "mrad")),
        ("exposure", number(about.exposure_s, "s")),
        ("intensity", intensity),
        ("specimen", about.specimen.clone()),
        ("acquired", acquired),
    ]
    .into_iter()
    .filter_map(|(what, content)| Some((what, content?)))
    .collect()
}

/// What was measured, each with its name.
fn spectra(measured: &Measured) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(counts) = measured.counts.as_ref().filter(|c| c.mean.is_finite()) {
        let mut text = format!("mean {}, {} to {}", rounded(counts.mean), rounded(counts.min), rounded(counts.max));
        for (share, what) in [
            (counts.zeros, "zero"),
            (counts.negatives, "negative"),
            (counts.not_finite, "NaN or infinite"),
            (counts.saturated, "saturated"),
        ] {
            if share > 0.0 {
                let _ = write!(text, "; {} {what}", percent(share));
            }
        }
        lines.push(("counts", text));
    }
    if let Some(noise) = &measured.noise {
        let how = if noise.fitted { "" } else { ", not fitted" };
        let text = format!(
            "gain {} (variance / mean of a channel), read noise {} e, {} e per pixel{how}",
            rounded(noise.gain),
            rounded(noise.read_noise),
            rounded(noise.electrons_per_pixel)
        );
        lines.push(("noise", text));
    }
    if let Some(spikes) = &measured.spikes {
        let text = match spikes.count {
            0 => "none".into(),
            count => format!("{count}, {} of the voxels", percent(spikes.share)),
        };
        lines.push(("spikes", text));
    }
    if let Some(vacuum) = &measured.vacuum {
        let text = match vacuum.pixels {
            0 => "none".into(),
            pixels => format!("{pixels} pixels, {}", percent(vacuum.share)),
        };
        lines.push(("vacuum", text));
    }
    let edges = measured.edges.iter().flatten();
    lines.extend(edges.map(|edge| ("edge", describe(edge))));
    if let Some(drift) = &measured.drift {
        let known = drift.lines_ev.iter().flatten().count();
        let text = format!(
            "{:.2} eV sd, {:.2} eV peak to peak, of {} at {known} of {} places",
            drift.sd_ev,
            drift.peak_to_peak_ev,
            drift.edge,
            drift.lines_ev.len()
        );
        lines.push(("drift", text));
    }
    lines
}

fn describe(edge: &EdgeReport) -> String {
    let from = format!("from {:.1} eV", edge.onset_ev);
    match (edge.axis_error_ev, &edge.candidates[..]) {
        (Some(_), _) => format!("{} {from}", edge.name),
        (None, []) => format!("unknown {from}"),
        (None, candidates) => {
            let first: Vec<&str> = candidates.iter().take(4).map(String::as_str).collect();
            format!("perhaps {} {from}", first.join(" or "))
        }
    }
}
