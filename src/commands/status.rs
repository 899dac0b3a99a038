//! `coreloss status`: how far a run is, from the files that it has written so far.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::comm::Comm;
use crate::config::Config;
use crate::ending::Ending;
use crate::invalid::Invalid;
use crate::results::Summary;
use crate::results::folder::run_files;
use crate::train::step_of;

#[derive(Args)]
pub struct StatusArguments {
    /// Output folder of a run.
    directory: PathBuf,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

/// What a run has done.
#[derive(Debug, Default, Serialize)]
struct Status {
    /// `finished`, `training`, `scoring` or `started`.
    state: &'static str,
    step: Option<u64>,
    epoch: Option<u64>,
    steps: Option<u64>,
    loss: Option<f64>,
    /// Of the training, at its latest speed.
    seconds_left: Option<f64>,
    /// The step of the newest checkpoint.
    checkpoint: Option<u64>,
    cubes_scored: usize,
    regions: Option<usize>,
    set_aside: Option<usize>,
    /// Seconds since a file was last written.
    silent_s: u64,
}

/// Shows how far a run is; only reads.
///
/// # Collective
/// # Errors
/// A folder that holds no run.
pub fn status(comm: &Comm, arguments: &StatusArguments) -> Result<Ending> {
    comm.on_root(|| print(&arguments.directory, arguments.json))?;
    Ok(Ending::Done)
}

fn print(directory: &Path, json: bool) -> Result<()> {
    let path = directory.join("config.yaml");
    let text = fs::read_to_string(&path).map_err(|_| {
        Invalid(format!(
            "{} holds no run: there is no config.yaml in it; a sweep has `coreloss sweep status CONFIG`",
            directory.display()
        ))
    })?;
    let config = Config::parse(&path.display().to_string(), &text, &[])?;
    let status = look(directory, &config)?;
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        println!("{}: {}", directory.display(), status.text());
    }
    Ok(())
}

fn look(directory: &Path, config: &Config) -> Result<Status> {
    let written = run_files(directory)?;
    let ends = |path: &&PathBuf, ending: &str| path.to_string_lossy().ends_with(ending);
    let now = SystemTime::now();
    let ages = written.iter().filter_map(|path| {
        let changed = fs::metadata(path).ok()?.modified().ok()?;
        Some(now.duration_since(changed).unwrap_or(Duration::ZERO))
    });
    let checkpoints = written.iter().filter_map(|path| step_of(path));
    let mut status = Status {
        state: "started",
        checkpoint: checkpoints.max().map(|step| step as u64),
        cubes_scored: written.iter().filter(|path| ends(path, ".coreloss.hspy")).count(),
        silent_s: ages.min().unwrap_or_default().as_secs(),
        ..Status::default()
    };
    let metrics = fs::read_to_string(directory.join("metrics.jsonl")).unwrap_or_default();
    for line in metrics.lines() {
        // The last line may be half written.
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let number = |name: &str| line.get(name).and_then(serde_json::Value::as_f64);
        let Some(loss) = number("loss") else { continue };
        status.state = "training";
        (status.loss, status.step) = (Some(loss), line["step"].as_u64());
        (status.epoch, status.steps) = (line["epoch"].as_u64(), line["steps"].as_u64());
        status.seconds_left = status.steps.zip(status.step).and_then(|(steps, step)| {
            let patches = steps.saturating_sub(step) * config.pace().global_batch as u64;
            Some(patches as f64 / number("patches_per_s").filter(|rate| *rate > 0.0)?)
        });
    }
    let began = |path: &&PathBuf| ends(path, ".coreloss.hspy") || ends(path, ".coreloss.hspy.partial");
    if written.iter().any(|path| began(&path)) || (status.step.is_some() && status.step == status.steps) {
        status.state = "scoring";
    }
    if directory.join("summary.json").exists() {
        let summary = Summary::read(directory)?;
        status.state = "finished";
        status.regions = Some(summary.cubes.iter().map(|cube| cube.regions.len()).sum());
        status.set_aside = Some(summary.failed_inputs.len());
        status.cubes_scored = summary.cubes.len();
    }
    Ok(status)
}

impl Status {
    fn text(&self) -> String {
        let mut parts = vec![self.state.to_string()];
        if let Some(regions) = self.regions {
            parts.push(format!("{} cubes scored, {regions} regions", self.cubes_scored));
            parts.extend(self.set_aside.filter(|&n| n > 0).map(|n| format!("{n} inputs set aside")));
            return parts.join(", ");
        }
        if let Some(step) = self.step {
            let of = self.steps.map_or(String::new(), |steps| format!(" of {steps}"));
            parts.push(format!("step {step}{of}"));
            parts.extend(self.epoch.map(|epoch| format!("epoch {epoch}")));
            parts.extend(self.loss.map(|loss| format!("loss {loss:.4}")));
        }
        if self.state == "training" {
            parts.extend(self.seconds_left.map(|left| format!("{left:.0} s of training left")));
        }
        parts.extend(self.checkpoint.map(|step| format!("checkpoint at step {step}")));
        if self.cubes_scored > 0 {
            parts.push(format!("{} cubes scored", self.cubes_scored));
        }
        parts.push(format!("last heard of {} s ago", self.silent_s));
        parts.join(", ")
    }
}
