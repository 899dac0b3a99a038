//! `coreloss verdict`: lists, merges and checks files of verdicts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::comm::Comm;
use crate::config::{Verdict, VerdictFile};
use crate::durable;
use crate::ending::Ending;
use crate::invalid::Invalid;
use crate::output::read_text;
use crate::results::{CubeSummary, cube_path, read_json};

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss verdict out/run                      what is said in out/run/verdicts*.yaml
  coreloss verdict ~/Downloads -o all.yaml      merges what the pages saved there into one file")]
pub struct VerdictArguments {
    /// Folder with files verdicts*.yaml; where it holds results, the verdicts are checked against them.
    directory: PathBuf,
    /// Writes all verdicts into one file; of several on one region the newest.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// A verdict, and the file that it was read from.
struct Said {
    verdict: Verdict,
    file: String,
}

/// Lists the verdicts of a folder, says what conflicts and what is of no region any more, and merges them.
///
/// # Collective
/// # Errors
/// No file of verdicts, one that cannot be read, or an output that cannot be written.
pub fn verdict(comm: &Comm, arguments: &VerdictArguments) -> Result<Ending> {
    comm.on_root(|| on_root(&arguments.directory, arguments.output.as_deref()))?;
    Ok(Ending::Done)
}

fn on_root(directory: &Path, output: Option<&Path>) -> Result<()> {
    let said = read(directory, output)?;
    let mut by_region: BTreeMap<String, Vec<&Said>> = BTreeMap::new();
    for one in &said {
        by_region.entry(region_of(&one.verdict)).or_default().push(one);
    }
    let mut merged = Vec::new();
    for (region, all) in &by_region {
        // Dates are written so that their order is that of letters; of one day the last counts.
        let newest = all.iter().max_by(|a, b| a.verdict.date.cmp(&b.verdict.date)).expect("a region was judged");
        println!("{}", line(region, &newest.verdict));
        for other in all.iter().filter(|other| other.verdict.verdict != newest.verdict.verdict) {
            let (file, verdict) = (&other.file, &other.verdict);
            println!("  conflict: {file} says {} {}; {} counts", verdict.verdict, verdict.date, newest.file);
        }
        if let Some(problem) = problem(directory, &newest.verdict) {
            println!("  {problem}");
        }
        merged.push(newest.verdict.clone());
    }
    println!("{} verdicts on {} regions", said.len(), by_region.len());
    if let Some(path) = output {
        durable::write(path, VerdictFile { verdicts: merged }.to_yaml())?;
        println!("merged: {}", path.display());
    }
    Ok(())
}

/// The verdicts of all files of the folder, but not of `output`, in the order of their names.
fn read(directory: &Path, output: Option<&Path>) -> Result<Vec<Said>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // As browsers name a second download: `verdicts (1).yaml`.
        name.starts_with("verdicts") && name.ends_with(".yaml") && output != Some(path)
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
    paths.sort();
    if paths.is_empty() {
        return Err(Invalid(format!("{} holds no verdicts*.yaml: save one in a report", directory.display())).into());
    }
    let mut said = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let verdicts = VerdictFile::parse(&path.display().to_string(), &text)?.verdicts;
        said.extend(verdicts.into_iter().map(|verdict| Said { verdict, file: file.clone() }));
    }
    Ok(said)
}

/// What a verdict is of: its cube and, by place, its region.
fn region_of(verdict: &Verdict) -> String {
    let place = verdict.rows.zip(verdict.columns);
    match (place, verdict.region) {
        (Some(([top, bottom], [left, right])), _) => format!("{}: y {top}-{bottom}, x {left}-{right}", verdict.cube),
        (None, Some(region)) => format!("{}: region {region}", verdict.cube),
        (None, None) => format!("{}: its residual spectrum", verdict.cube),
    }
}

fn line(region: &str, verdict: &Verdict) -> String {
    let kind = verdict.kind.as_ref().map(|kind| format!("{} ({})", kind.window, kind.differs));
    let parts = [Some(verdict.verdict.to_string()), kind, Some(verdict.date.clone()), Some(verdict.note.clone())];
    let told: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    format!("{region}: {}", told.join(", "))
}

/// What is wrong with a verdict, where the folder has results of its cube.
fn problem(directory: &Path, verdict: &Verdict) -> Option<String> {
    let path = cube_path(directory, &verdict.cube);
    if !path.exists() {
        return None;
    }
    let summary: CubeSummary = match read_json(&path, "summary") {
        Ok(summary) => summary,
        Err(error) => return Some(format!("cannot be checked: {error:#}")),
    };
    let file = |fingerprint: &str| fingerprint.split('-').next().map(str::to_owned);
    let own = read_text(&path, "fingerprint").ok();
    if verdict.fingerprint.is_some() && verdict.fingerprint.as_deref().map(file) != own.as_deref().map(file) {
        return Some("is of another file of this name".into());
    }
    let is_there = summary.regions.iter().any(|region| match verdict.rows.zip(verdict.columns) {
        Some(place) => place == (region.rows, region.columns),
        None => verdict.region.is_none_or(|label| label == region.label),
    });
    (!is_there).then(|| "no region is at its place any more; it is still held against others".into())
}
