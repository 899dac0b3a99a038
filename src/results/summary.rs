//! What a run found: `summary.json`, and its table on the terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::edge_change::EdgeChange;
use super::energy_summary::EnergySummary;
use super::set_aside::{FailedInput, SetAside};
use crate::comm::Comm;
use crate::config::Config;
use crate::durable;
use crate::memory::peak_rss_mib;
use crate::output::{Column, Values};

/// Which way of scoring results are of: another number for every change that moves scores or flags.
pub const SCORING: &str = "5";

/// What a run found, as in `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    pub version: String,
    /// As `SCORING`; none of older versions.
    #[serde(default)]
    pub scoring: String,
    pub ranks: usize,
    pub threads: usize,
    pub cubes: Vec<CubeSummary>,
    pub failed_inputs: Vec<FailedInput>,
    pub timings_s: BTreeMap<String, f64>,
    /// Peak resident memory of each rank, MiB.
    pub peak_rss_mib: Vec<f64>,
}

/// What was found in one cube.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CubeSummary {
    /// The cube id.
    pub name: String,
    /// `[y, x, energy]` as scored.
    pub shape: [usize; 3],
    /// What is doubtful about the file, such as a missing calibration.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Number of pixels that are not scored.
    pub ignored: usize,
    pub energy: EnergySummary,
    /// By method, then by score.
    pub methods: BTreeMap<String, BTreeMap<String, ScoreSummary>>,
    /// By method: how much worse it explains spectra than their noise allows, nats a pixel.
    #[serde(default)]
    pub excess_nats: BTreeMap<String, f64>,
    pub default: Choice,
    /// Of the default map, the highest score first.
    pub regions: Vec<RegionSummary>,
}

impl CubeSummary {
    /// Whether the CVAE scored it, not the linear methods alone.
    pub fn has_cvae(&self) -> bool {
        self.methods.contains_key("cvae")
    }
}

/// A method and a score: the map that regions are drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub method: String,
    pub score: String,
}

impl Choice {
    pub fn is(&self, method: &str, score: &str) -> bool {
        self.method == method && self.score == score
    }
}

/// One score map; the label metrics are null without truth.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ScoreSummary {
    /// Null where it is infinite.
    pub threshold: Option<f32>,
    pub flagged: usize,
    pub auroc: Option<f64>,
    pub average_precision: Option<f64>,
    pub best_f1: Option<f64>,
    pub f1: Option<f64>,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    /// As in [`Separation`](crate::evaluate::Separation).
    #[serde(default)]
    pub ashman_d: Option<f64>,
    #[serde(default)]
    pub overlap: Option<f64>,
}

/// A connected region above the threshold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RegionSummary {
    pub label: i32,
    /// Centroid in pixels.
    pub y: f64,
    pub x: f64,
    /// Pixels.
    pub area: usize,
    /// First and last line and column.
    pub rows: [usize; 2],
    pub columns: [usize; 2],
    pub max_score: f32,
    pub mean_score: f64,
    /// Energy by which the edge moved, where it did, and its standard error.
    pub estimated_shift_ev: Option<f64>,
    #[serde(default)]
    pub shift_error_ev: Option<f64>,
    /// None where no kind of anomaly was found in it.
    #[serde(default)]
    pub kind: Option<KindSummary>,
    /// Where its mean spectrum differs most from the reconstruction, the most significant first, eV.
    #[serde(default)]
    pub energies_ev: Vec<[f64; 2]>,
    /// Of the edge that shows its kind, where that differs in height and a reconstruction tells by how much.
    #[serde(default)]
    pub change: Option<EdgeChange>,
    /// Decimal logarithm of the number of maps like this one in which chance makes one such region.
    #[serde(default)]
    pub surprise: Option<f64>,
}

/// The columns of a table with a row for each of `regions`.
pub fn region_columns(regions: &[&RegionSummary]) -> Vec<Column> {
    let float = |of: &dyn Fn(&RegionSummary) -> Option<f64>| {
        let values = regions.iter().map(|region| of(region).unwrap_or(f64::NAN));
        Values::Float(values.collect())
    };
    let integer = |of: &dyn Fn(&RegionSummary) -> usize| {
        Values::Integer(regions.iter().map(|region| of(region) as i64).collect())
    };
    let text = |of: &dyn Fn(&KindSummary) -> String| {
        let kinds = regions.iter().map(|region| region.kind.as_ref());
        Values::Text(kinds.map(|kind| kind.map_or(String::new(), of)).collect())
    };
    vec![
        Column::new("label", integer(&|region| region.label as usize)),
        Column::new("y", float(&|region| Some(region.y))),
        Column::new("x", float(&|region| Some(region.x))),
        Column::new("area_px", integer(&|region| region.area)),
        Column::new("first_row", integer(&|region| region.rows[0])),
        Column::new("last_row", integer(&|region| region.rows[1])),
        Column::new("first_column", integer(&|region| region.columns[0])),
        Column::new("last_column", integer(&|region| region.columns[1])),
        Column::new("max_score", float(&|region| Some(region.max_score.into()))),
        Column::new("mean_score", float(&|region| Some(region.mean_score))),
        Column::new("window", text(&|kind| kind.window.clone())),
        Column::new("differs", text(&|kind| kind.differs.to_string())),
        Column::new("sigma", float(&|region| Some(region.kind.as_ref()?.sigma))),
        Column::new("change_percent", float(&|region| Some(region.change?.percent))),
        Column::new("change_error_percent", float(&|region| Some(region.change?.error_percent))),
        Column::new("estimated_shift_ev", float(&|region| region.estimated_shift_ev)),
        Column::new("shift_error_ev", float(&|region| region.shift_error_ev)),
    ]
}

/// The kind of anomaly that most pixels of a region belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindSummary {
    /// Name of the window that shows it.
    pub window: String,
    pub differs: Difference,
    /// Norm of one pixel's residual in units of its noise.
    pub sigma: f64,
}

/// How an edge differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    Energy,
    Shape,
    Height,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Difference::Energy => "energy",
            Difference::Shape => "shape",
            Difference::Height => "height",
        })
    }
}

impl Summary {
    /// Of a run on all ranks.
    ///
    /// # Collective
    pub fn new(comm: &Comm, cubes: Vec<CubeSummary>, set_aside: &SetAside, timings: &[(String, f64)]) -> Summary {
        Summary {
            version: env!("CARGO_PKG_VERSION").into(),
            scoring: SCORING.into(),
            ranks: comm.size(),
            threads: rayon::current_num_threads(),
            cubes,
            failed_inputs: set_aside.list().to_vec(),
            timings_s: timings.iter().cloned().collect(),
            peak_rss_mib: comm.all_gather(&peak_rss_mib()),
        }
    }

    /// Writes `summary.json`; its presence says that the run is finished. Rank-local.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join("summary.json");
        let text = serde_json::to_string_pretty(self)? + "\n";
        durable::write(&path, text).context("make room, or choose another `output`")
    }

    /// Reads `summary.json`. Rank-local.
    ///
    /// # Errors
    /// A folder without a finished run.
    pub fn read(directory: &Path) -> Result<Summary> {
        let path = directory.join("summary.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} holds no finished run: run `coreloss run` first", directory.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Prints what was found, and where the results are. Rank-local.
    pub fn print(&self, config: &Config) {
        for cube in &self.cubes {
            println!("{}  {:?}, {} pixels ignored", cube.name, cube.shape, cube.ignored);
            cube.problems.iter().for_each(|problem| println!("  doubtful: {problem}"));
            println!("  method  score        flagged   best F1        F1  precision    recall");
            for (method, scores) in &cube.methods {
                for (score, found) in scores {
                    let chosen = cube.default.is(method, score);
                    let metric = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.3}"));
                    println!(
                        "{} {method:<7} {score:<12} {:>7} {:>9} {:>9} {:>10} {:>9}",
                        if chosen { ">" } else { " " },
                        found.flagged,
                        metric(found.best_f1),
                        metric(found.f1),
                        metric(found.precision),
                        metric(found.recall)
                    );
                }
            }
        }
        for cube in &self.cubes {
            let excess = cube.excess_nats.iter().map(|(method, nats)| format!("{method} {nats:.1}"));
            println!("{}: nats a pixel above the noise floor: {}", cube.name, excess.collect::<Vec<_>>().join(", "));
        }
        for failed in &self.failed_inputs {
            println!("set aside: {}: {}", failed.path, failed.reason);
        }
        let directory = config.output.dir.display();
        println!("report: {directory}/report.html");
        println!("maps:   {directory}/*.coreloss.hspy (open them with hyperspy.api.load)");
    }
}
