//! The report of a run, gathered from the files that the run wrote.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ndarray::{Array2, Ix2};

use super::contents::{Component, Cube, LossPoint, Map, Property, Report, StepPoint};
use super::spectra::Spectra;
use super::write::write;
use crate::archive::{self, Microscope};
use crate::config::{Config, Window};
use crate::cube::{Axis, CubeInfo};
use crate::output::{
    LearningResults, read_learning_results, read_signal_f32, read_signal_plane, read_text, signal_axes, signal_titles,
};
use crate::results::titles::{
    COUNTS, ENERGY_SHIFT, LATENT, MEAN, PCA, RECONSTRUCTION, REGION_RECONSTRUCTIONS, REGION_SPECTRA, REGIONS,
    THICKNESS, map_title,
};
use crate::results::verdicts::{Judged, Verdicts};
use crate::results::{CubeSummary, Summary, cube_path, read_json, read_map, read_residuals};
use crate::spectrum::find_edges;

/// Writes `report.html` and its pictures into the output folder. Rank-local.
///
/// # Errors
/// Results that cannot be read; a folder that cannot be written.
pub fn write_run(config: &Config, summary: &Summary) -> Result<()> {
    write_noted(config, summary, None)
}

/// As [`write_run`], of a run whose network is still to be trained. Rank-local.
///
/// # Errors
/// Those of [`write_run`].
pub fn write_first_look(config: &Config, summary: &Summary) -> Result<()> {
    let note = "First look, without the network, which is still being trained. The report of the whole run will be in the \
                folder above.";
    write_noted(config, summary, Some(note))
}

fn write_noted(config: &Config, summary: &Summary, note: Option<&'static str>) -> Result<()> {
    let directory = &config.output.dir;
    // The highest scores first: the page shows only the first cubes in full.
    let mut cubes: Vec<&CubeSummary> = summary.cubes.iter().collect();
    let highest = |cube: &CubeSummary| {
        let scores = cube.regions.iter().map(|region| region.max_score);
        scores.fold(0.0, f32::max)
    };
    cubes.sort_by(|a, b| highest(b).total_cmp(&highest(a)));
    let verdicts = Verdicts::read("archive.verdicts", &config.archive.verdicts)?;
    let (loss, steps) = read_training(&directory.join("metrics.jsonl"))?;
    write(
        directory,
        &Report {
            title: format!("Anomalous spectra: {}", directory.display()),
            version: format!("{} ({})", summary.version, env!("CORELOSS_REVISION")),
            note,
            facts: facts(config, summary),
            loss,
            steps,
            failed_inputs: summary.failed_inputs.clone(),
            config_yaml: config.to_yaml(),
        },
        cubes.into_iter().map(|cube| read_cube(config, cube, &verdicts)),
    )
}

fn facts(config: &Config, summary: &Summary) -> Vec<(String, String)> {
    let seconds: f64 = summary.timings_s.values().sum();
    let stages: Vec<String> =
        summary.timings_s.iter().map(|(stage, seconds)| format!("{stage} {seconds:.1} s")).collect();
    let most = summary.peak_rss_mib.iter().fold(0f64, |a, &b| a.max(b));
    vec![
        ("Ranks x threads".into(), format!("{} x {}", summary.ranks, summary.threads)),
        ("Time".into(), format!("{seconds:.1} s ({})", stages.join(", "))),
        ("Most memory of a rank".into(), format!("{most:.0} MiB")),
        ("Seed".into(), config.seed.to_string()),
        ("Threshold".into(), format!("{:?}", config.score.threshold).to_lowercase()),
    ]
}

/// What a report shows of one cube. Rank-local.
fn read_cube(config: &Config, summary: &CubeSummary, verdicts: &Verdicts) -> Result<Cube> {
    let path = cube_path(&config.output.dir, &summary.name);
    let titles = signal_titles(&path)?;
    let optional = |title: &str| -> Result<Option<Array2<f32>>> {
        let there = titles.iter().any(|other| other == title);
        there.then(|| read_map(&path, title)).transpose()
    };
    let info: CubeInfo = read_json(&path, "cube")?;
    let windows: Vec<Window> = read_json(&path, "windows")?;
    let (axes, mean) = read_signal_f32(&path, MEAN)?;
    let energy: &Axis = &axes[0];
    let (learning_results, loadings) = read_learning_results(&path, PCA)?;
    let mut properties = Vec::new();
    for (title, name, note) in [
        (ENERGY_SHIFT, "energy shift", "eV, taken out before scoring"),
        (THICKNESS, "thickness", "in mean free paths (t/lambda)"),
    ] {
        if let Some(values) = optional(title)? {
            properties.push(Property { name: name.into(), note: note.into(), values });
        }
    }
    let mean: Vec<f64> = mean.iter().map(|&value| value as f64).collect();
    let edges = find_edges(energy, &mean).into_iter();
    // A truth that is gone or no longer fits must not cost the report.
    let truth = archive::truth(&info.path, [summary.shape[0], summary.shape[1]]).unwrap_or(None);
    let fingerprint = read_text(&path, "fingerprint")?;
    let residuals = read_residuals(&path)?;
    let recognised = summary.regions.iter().enumerate().filter_map(|(i, region)| {
        let judged = Judged { cube: &summary.name, fingerprint: &fingerprint, region, residual: residuals.get(i) };
        Some((region.label, verdicts.on(&judged)?))
    });
    let recognised = recognised.collect();
    Ok(Cube {
        fingerprint,
        residuals,
        recognised,
        name: summary.name.clone(),
        shape: summary.shape,
        pixel_size: (!info.x.units.is_empty()).then(|| (info.x.scale, info.x.units.clone())),
        // Per channel, as the report's image is labelled.
        mean_image: read_map(&path, COUNTS)? / summary.shape[2] as f32,
        properties,
        energy_ev: energy.values(),
        edges: edges.map(|edge| (edge.window.name, edge.onset_ev)).collect(),
        mean_spectrum: mean,
        windows: windows.into_iter().map(|window| (window.name, window.range_ev)).collect(),
        maps: score_maps(&path, summary)?,
        truth,
        problems: summary.problems.clone(),
        excess_nats: summary.excess_nats.clone(),
        regions: summary.regions.clone(),
        region_spectra: optional(REGION_SPECTRA)?,
        region_reconstructions: optional(REGION_RECONSTRUCTIONS)?,
        // Only the network reconstructs regions.
        reconstructed_by: "cvae".into(),
        spectra: spectra(config, &path, energy, &titles, (&learning_results, &loadings)),
        labels: read_map(&path, REGIONS)?.mapv(|label| label as i32),
        components: components(&learning_results, &loadings, summary.shape),
        scree: learning_results.explained_variance_ratio,
        latent: if titles.iter().any(|title| title == LATENT) { latent(&path)? } else { Vec::new() },
        provenance: provenance(&path, &info)?,
    })
}

/// The spectra of the cube whose results are at `path`; none, with a word in the log, where they cannot be read any more.
fn spectra(
    config: &Config,
    path: &Path,
    energy: &Axis,
    titles: &[String],
    (results, loadings): (&LearningResults, &Array2<f64>),
) -> Option<Spectra> {
    let is_reconstructed = titles.iter().any(|title| title == RECONSTRUCTION);
    let read = Spectra::read(config, path, energy, is_reconstructed, (results.factors.view(), loadings.view()));
    read.inspect_err(|error| log::warn!("no page to explore {}: {error:#}", path.display())).ok()
}

/// The maps of all scores. Rank-local.
fn score_maps(path: &Path, summary: &CubeSummary) -> Result<Vec<Map>> {
    let scores = summary.methods.iter().flat_map(|(method, scores)| scores.iter().map(move |found| (method, found)));
    scores
        .map(|(method, (score, found))| {
            Ok(Map {
                method: method.clone(),
                score: score.clone(),
                values: read_map(path, &map_title(method, score))?,
                found: found.clone(),
                is_default: summary.default.is(method, score),
            })
        })
        .collect()
}

/// Principal components and latent dimensions that a report shows.
const SHOWN: usize = 4;

/// The first principal components of a cube of `shape`, whose loadings are `[pixels, k]`.
fn components(results: &LearningResults, loadings: &Array2<f64>, [rows, columns, _]: [usize; 3]) -> Vec<Component> {
    let shown = 0..loadings.ncols().min(SHOWN);
    shown
        .map(|k| Component {
            factor: results.factors.column(k).to_vec(),
            loading: Array2::from_shape_fn((rows, columns), |(y, x)| loadings[[y * columns + x, k]] as f32),
            share: results.explained_variance_ratio[k],
        })
        .collect()
}

/// The latent dimensions that vary most over the cube. Rank-local.
fn latent(path: &Path) -> Result<Vec<Property>> {
    let mut shown: Vec<(f64, Property)> = Vec::new();
    for index in 0..signal_axes(path, LATENT)?[0].size {
        let values = read_signal_plane(path, LATENT, index)?.into_dimensionality::<Ix2>()?;
        let known = || values.iter().filter(|value| value.is_finite());
        let count = known().count().max(1) as f64;
        let mean = known().map(|&value| f64::from(value)).sum::<f64>() / count;
        let square = |&value: &f32| (f64::from(value) - mean).powi(2);
        let deviation = (known().map(square).sum::<f64>() / count).sqrt();
        shown.push((
            deviation,
            Property {
                name: format!("latent dimension {}", index + 1),
                note: format!("standard deviation {deviation:.3}"),
                values,
            },
        ));
        shown.sort_by(|a, b| b.0.total_cmp(&a.0));
        shown.truncate(SHOWN);
    }
    Ok(shown.into_iter().map(|(_, property)| property).collect())
}

/// Where a cube comes from, by name.
fn provenance(path: &Path, info: &CubeInfo) -> Result<Vec<(String, String)>> {
    let microscope: Microscope = read_json(path, "microscope")?;
    let angles = [
        (microscope.beam_energy_kev, "keV"),
        (microscope.convergence_angle_mrad, "mrad convergence"),
        (microscope.collection_angle_mrad, "mrad collection"),
        (microscope.exposure_s, "s a pixel"),
    ];
    let figures = angles.into_iter().filter_map(|(value, what)| {
        // Single-precision calibrations have no more digits.
        value.map(|value| format!("{} {what}", (value * 1e4).round() / 1e4))
    });
    let instrument: Vec<String> = microscope.instrument.into_iter().chain(figures).collect();
    let moment: Vec<String> = [microscope.date, microscope.time].into_iter().flatten().collect();
    let all = [
        ("file", info.path.display().to_string()),
        ("format", format!("{}, {}", info.format, info.dtype)),
        ("title", microscope.title.unwrap_or_default()),
        ("instrument", instrument.join(", ")),
        ("detector", microscope.detector.unwrap_or_default()),
        ("specimen", microscope.specimen.unwrap_or_default()),
        ("acquired", moment.join(" ")),
        ("fingerprint", read_text(path, "fingerprint")?),
        ("results", path.display().to_string()),
    ];
    let told = all.into_iter().filter(|(_, value)| !value.is_empty());
    Ok(told.map(|(name, value)| (name.to_string(), value)).collect())
}

/// The losses of the epochs, and the other figures of the steps; none where nothing was trained.
fn read_training(path: &Path) -> Result<(Vec<LossPoint>, Vec<StepPoint>)> {
    if !path.exists() {
        return Ok((Vec::new(), Vec::new()));
    }
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (mut loss, mut steps) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let number = |name: &str| line.get(name).and_then(serde_json::Value::as_f64);
        let Some(step) = line.get("step").and_then(serde_json::Value::as_u64) else {
            continue;
        };
        if let Some(train) = number("train") {
            loss.push(LossPoint { step, train, validation: number("validation") });
        } else if let (Some(kl), Some(grad_norm)) = (number("kl"), number("grad_norm")) {
            steps.push(StepPoint { step, kl, grad_norm });
        }
    }
    Ok((loss, steps))
}
