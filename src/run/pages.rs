//! The report of a run, from the files that the run wrote.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ndarray::{Array2, Ix2};

use super::summary::{CubeSummary, ScoreSummary, Summary};
use super::write::{
    map_title, path, COUNTS, MEAN, PCA, REGIONS, REGION_RECONSTRUCTIONS, REGION_SPECTRA,
};
use crate::archive;
use crate::config::{Config, Window};
use crate::cube::{Axis, CubeInfo};
use crate::output::{read_learning_results, read_signal_f32, read_text, signal_titles};
use crate::report::{self, Cube, LossPoint, Map, Metrics, Region, Report};

/// Writes `report.html` and its pictures into the output folder. Rank-local.
///
/// # Errors
/// Results that cannot be read; a folder that cannot be written.
pub fn write(config: &Config, summary: &Summary) -> Result<()> {
    let directory = &config.output.dir;
    let mut cubes = summary
        .cubes
        .iter()
        .map(|cube| read_cube(config, cube))
        .collect::<Result<Vec<Cube>>>()?;
    // The report shows the first in full: those with the highest scores.
    let highest = |cube: &Cube| cube.regions.iter().map(|r| r.max_score).fold(0.0, f64::max);
    cubes.sort_by(|a, b| highest(b).total_cmp(&highest(a)));
    report::write(
        directory,
        &Report {
            title: format!("Anomalous spectra: {}", directory.display()),
            version: format!("{} ({})", summary.version, env!("CORELOSS_REVISION")),
            facts: facts(config, summary),
            loss: read_loss(&directory.join("metrics.jsonl"))?,
            cubes,
            failed_inputs: summary
                .failed_inputs
                .iter()
                .map(|failed| (failed.path.clone(), failed.reason.clone()))
                .collect(),
            config_yaml: config.to_yaml(),
        },
    )
}

fn facts(config: &Config, summary: &Summary) -> Vec<(String, String)> {
    let seconds: f64 = summary.timings_s.values().sum();
    let stages: Vec<String> = summary
        .timings_s
        .iter()
        .map(|(stage, seconds)| format!("{stage} {seconds:.1} s"))
        .collect();
    let most = summary.peak_rss_mib.iter().fold(0f64, |a, &b| a.max(b));
    vec![
        (
            "Ranks x threads".into(),
            format!("{} x {}", summary.ranks, summary.threads),
        ),
        (
            "Time".into(),
            format!("{seconds:.1} s ({})", stages.join(", ")),
        ),
        ("Most memory of a rank".into(), format!("{most:.0} MiB")),
        ("Seed".into(), config.seed.to_string()),
        (
            "Threshold".into(),
            format!("{:?}", config.score.threshold).to_lowercase(),
        ),
    ]
}

fn read_cube(config: &Config, summary: &CubeSummary) -> Result<Cube> {
    let path = path(config, &summary.name);
    let context = || path.display().to_string();
    let map = |title: &str| -> Result<Array2<f32>> {
        let (_, values) = read_signal_f32(&path, title).with_context(context)?;
        Ok(values.into_dimensionality::<Ix2>()?)
    };
    let titles = signal_titles(&path)?;
    let spectra = |title: &str| -> Result<Option<Array2<f32>>> {
        let there = titles.iter().any(|other| other == title);
        there.then(|| map(title)).transpose()
    };
    let info: CubeInfo = serde_json::from_str(&read_text(&path, "cube")?)?;
    let windows: Vec<Window> = serde_json::from_str(&read_text(&path, "windows")?)?;
    let (axes, mean) = read_signal_f32(&path, MEAN)?;
    let energy: &Axis = &axes[0];
    let measured = spectra(REGION_SPECTRA)?;
    let explained = spectra(REGION_RECONSTRUCTIONS)?;
    let row = |table: &Option<Array2<f32>>, label: i32| {
        let table = table.as_ref()?;
        let index = label as usize - 1;
        (index < table.nrows()).then(|| table.row(index).to_vec())
    };
    let (learning_results, _) = read_learning_results(&path, PCA)?;
    let mut maps = Vec::new();
    for (method, scores) in &summary.methods {
        for (score, found) in scores {
            maps.push(Map {
                method: method.clone(),
                score: score.clone(),
                values: map(&map_title(method, score))?,
                threshold: found.threshold.unwrap_or(f32::INFINITY),
                flagged: found.flagged,
                is_default: summary.default.method == *method && summary.default.score == *score,
                metrics: metrics(found),
            });
        }
    }
    // A truth that is gone or no longer fits is no reason to lose the report.
    let truth = archive::truth(&info.path, [summary.shape[0], summary.shape[1]]).unwrap_or(None);
    Ok(Cube {
        name: summary.name.clone(),
        shape: summary.shape,
        pixel_size: (!info.x.units.is_empty()).then(|| (info.x.scale, info.x.units.clone())),
        // Per channel, as the report's image is labelled.
        mean_image: map(COUNTS)? / summary.shape[2] as f32,
        energy_ev: energy.values(),
        mean_spectrum: mean.iter().map(|&value| value as f64).collect(),
        windows: windows
            .into_iter()
            .map(|window| (window.name, window.range_ev))
            .collect(),
        maps,
        truth,
        regions: summary
            .regions
            .iter()
            .map(|region| Region {
                label: region.label,
                y: region.y,
                x: region.x,
                area: region.area,
                max_score: region.max_score as f64,
                mean_score: region.mean_score,
                estimated_shift_ev: region.estimated_shift_ev,
                spectrum: row(&measured, region.label).unwrap_or_default(),
                reconstruction: row(&explained, region.label).unwrap_or_default(),
            })
            .collect(),
        labels: map(REGIONS)?.mapv(|label| label as i32),
        scree: learning_results.explained_variance_ratio,
    })
}

/// The maps of a cube that a list of cubes shows.
pub struct Thumbnail {
    /// Mean counts of each spectrum.
    pub mean_image: Array2<f32>,
    /// The default score.
    pub score: Array2<f32>,
    /// Region of each pixel, 0 for none.
    pub labels: Array2<i32>,
}

/// Reads the maps of a scored cube. Rank-local.
///
/// # Errors
/// A file that is gone or damaged.
pub fn read_thumbnail(config: &Config, summary: &CubeSummary) -> Result<Thumbnail> {
    let path = path(config, &summary.name);
    let map = |title: &str| -> Result<Array2<f32>> {
        let (_, values) = read_signal_f32(&path, title)?;
        Ok(values.into_dimensionality::<Ix2>()?)
    };
    Ok(Thumbnail {
        mean_image: map(COUNTS)? / summary.shape[2] as f32,
        score: map(&map_title(&summary.default.method, &summary.default.score))?,
        labels: map(REGIONS)?.mapv(|label| label as i32),
    })
}

fn metrics(found: &ScoreSummary) -> Option<Metrics> {
    let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
    found.auroc.map(|auroc| Metrics {
        auroc,
        average_precision: number(found.average_precision),
        best_f1: number(found.best_f1),
        f1: number(found.f1),
        precision: number(found.precision),
        recall: number(found.recall),
    })
}

/// The epochs' losses; none where nothing was trained.
fn read_loss(path: &Path) -> Result<Vec<LossPoint>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(LossPoint {
                step: line.get("step")?.as_u64()?,
                train: line.get("train")?.as_f64()?,
                validation: line.get("validation")?.as_f64(),
            })
        })
        .collect())
}
