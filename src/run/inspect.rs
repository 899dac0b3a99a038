//! `coreloss inspect`: what a file holds, before a spectrum of it is read.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Ending;
use crate::archive::{self, Options, Summary};
use crate::comm::Comm;
use crate::config::Config;
use crate::cube::Axis;

/// Describes each of `files` on stdout, as text or as one line of JSON. Root alone reads and prints.
///
/// # Collective
/// # Errors
/// The first file that does not open, after all others were described; the rest of those are logged.
pub fn inspect(comm: &Comm, config: &Config, files: &[PathBuf], json: bool) -> Result<Ending> {
    let described = if comm.is_root() {
        describe_all(config, files, json)
    } else {
        Ok(())
    };
    comm.agree(described)?;
    Ok(Ending::Done)
}

fn describe_all(config: &Config, files: &[PathBuf], json: bool) -> Result<()> {
    let options = Options {
        dataset: config.archive.dataset.clone(),
        image: config.archive.image,
        ..Options::default()
    };
    let mut failed = None;
    for path in files {
        match archive::inspect(path, &options) {
            Ok(summary) if json => {
                let line = serde_json::to_string(&summary)
                    .with_context(|| format!("{}: cannot be put as JSON", path.display()))?;
                println!("{line}");
            }
            Ok(summary) => print!("{}", as_text(&summary)),
            Err(error) if failed.is_none() => failed = Some(error),
            Err(error) => log::error!("{error:#}"),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn as_text(summary: &Summary) -> String {
    let sizes = |shape: &[usize]| {
        let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
        sizes.join(" x ")
    };
    let mut text = format!(
        "{}: {}, {} {}",
        summary.path.display(),
        summary.format,
        sizes(&summary.shape),
        summary.dtype
    );
    if let Some(chunks) = &summary.chunks {
        let _ = write!(text, " in chunks of {}", sizes(chunks));
    }
    text.push('\n');
    let mut line = |what: &str, content: &str| {
        let _ = writeln!(text, "  {what:<12} {content}");
    };
    for axis in &summary.axes {
        let name = if axis.name.is_empty() {
            "-"
        } else {
            &axis.name
        };
        line(name, &range_of(axis));
    }
    for (what, content) in instrument(summary) {
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

/// Files calibrate in single precision: more digits are noise.
fn short(value: f64) -> String {
    // The sum turns -0 into 0.
    let digits = format!("{:.6}", value + 0.0);
    digits.trim_end_matches('0').trim_end_matches('.').into()
}

fn range_of(axis: &Axis) -> String {
    let last = axis.value(axis.size.saturating_sub(1));
    let range = format!(
        "{} from {} to {} by {} {}",
        axis.size,
        short(axis.offset),
        short(last),
        short(axis.scale),
        axis.units
    );
    range.trim_end().to_string()
}

/// What the file tells of the measurement, each with its name.
fn instrument(summary: &Summary) -> Vec<(&'static str, String)> {
    let about = &summary.microscope;
    let number =
        |value: Option<f64>, units: &str| value.map(|value| format!("{} {units}", short(value)));
    let intensity = match (about.gain_factor, &about.intensity_units) {
        (Some(factor), Some(units)) => Some(format!(
            "(stored - {}) * {} {units}",
            short(about.gain_offset.unwrap_or(0.0)),
            short(factor)
        )),
        _ => None,
    };
    [
        ("title", about.title.clone()),
        ("instrument", about.instrument.clone()),
        ("detector", about.detector.clone()),
        ("beam energy", number(about.beam_energy_kev, "keV")),
        ("convergence", number(about.convergence_angle_mrad, "mrad")),
        ("collection", number(about.collection_angle_mrad, "mrad")),
        ("exposure", number(about.exposure_s, "s")),
        ("intensity", intensity),
    ]
    .into_iter()
    .filter_map(|(what, content)| Some((what, content?)))
    .collect()
}
