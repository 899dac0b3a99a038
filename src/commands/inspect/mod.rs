//! `coreloss inspect`: what a file holds, and what is wrong with it.

mod counts;
mod measure;
mod problems;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::startup::by_default;
use crate::archive::{self, Description, Options, Source};
use crate::comm::Comm;
use crate::config::{Config, Overrides};
use crate::ending::Ending;

pub use measure::{Measured, measure};

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss inspect cube.dm4
  coreloss inspect *.dm3 --quick                          headers only
  coreloss inspect cube.dm4 --json | jq .edges            onsets in eV, likely elements
  coreloss inspect cube.dm4 --set archive.image=1         another image of the file")]
pub struct InspectArguments {
    /// HyperSpy, HDF5, NeXus, EMD, DM3 and DM4 files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One line of JSON for each file.
    #[arg(long)]
    json: bool,
    /// Only reads headers, no spectra.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// What is printed for a file as JSON.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    summary: &'a Description,
    #[serde(flatten)]
    measured: &'a Measured,
}

/// Describes each file on stdout, as text or as one line of JSON.
///
/// Ranks share the lines of each cube; root prints.
///
/// # Collective
/// # Errors
/// The first file that does not open, after all others were described; further ones are logged.
pub fn inspect(comm: &Comm, arguments: &InspectArguments) -> Result<Ending> {
    let config = by_default(comm, "inspect", &arguments.overrides)?;
    let mut failed = None;
    for path in &arguments.files {
        match describe(comm, &config, path, arguments.quick, arguments.json) {
            Ok(()) => (),
            Err(error) if failed.is_none() => failed = Some(error),
            Err(error) if comm.is_root() => log::error!("{error:#}"),
            Err(_) => (),
        }
    }
    failed.map_or(Ok(Ending::Done), Err)
}

/// Describes one file.
///
/// # Collective
fn describe(comm: &Comm, config: &Config, path: &Path, quick: bool, json: bool) -> Result<()> {
    let options =
        Options { dataset: config.archive.dataset.clone(), image: config.archive.image, ..Options::default() };
    let summary = comm.on_root(|| archive::inspect(path, &options).map(Some))?;
    let mut measured = Measured::default();
    let mut obstacle = None;
    if !quick {
        let source = Source { path: path.to_path_buf(), id: String::new(), named: true };
        match measure(comm, config, &source) {
            Ok(found) => (measured, obstacle) = found,
            Err(error) => obstacle = Some(format!("{error:#}")),
        }
    }
    let printed = summary.map_or(Ok(()), |mut summary| {
        summary.problems.extend(problems::of_axes(&summary));
        // The obstacle is no news if the header's problems name it already.
        let is_told = |obstacle: &String| {
            let told = |problem: &String| obstacle.contains(problem.trim_start_matches("no EELS spectrum image: "));
            summary.problems.iter().any(told)
        };
        let news = obstacle.filter(|obstacle| !is_told(obstacle));
        let file = format!("{}: ", path.display());
        let news = news.map(|news| news.trim_start_matches(&file).to_string());
        summary.problems.extend(news);
        summary.problems.extend(problems::of_spectra(&measured));
        print(&summary, &measured, json)
    });
    comm.agree(printed)
}

fn print(summary: &Description, measured: &Measured, json: bool) -> Result<()> {
    if json {
        let line = serde_json::to_string(&Described { summary, measured })
            .with_context(|| format!("{}: cannot be put as JSON", summary.path.display()))?;
        println!("{line}");
    } else {
        print!("{}", text::as_text(summary, measured));
    }
    Ok(())
}
