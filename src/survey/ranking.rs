//! The ranking of a survey: cubes and regions by how surprising they are, whatever their size and kind.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::catalogue::{Catalogue, Entry};
use super::distribute::map_over_ranks;
use crate::comm::Comm;
use crate::config::Config;
use crate::durable;
use crate::output::{Column, Values, read_text, write_csv, write_tables};
use crate::report::{RankedCube, ranking_html};
use crate::results::verdicts::{Judged, Recognised, Verdicts};
use crate::results::{
    CubeSummary, RegionSummary, Thumbnail, cube_path, read_residuals, read_thumbnail, region_columns, scored_before,
    surprise,
};
use crate::stream::Cube;

/// What the ranking needs of a scored cube.
#[derive(Serialize, Deserialize)]
pub struct Found {
    /// As JSON, since maps have no fixed layout between ranks.
    summary: String,
    /// The highest score outside of what verdicts set apart.
    highest: f32,
    /// Pixels that are not ignored.
    pixels: usize,
    /// What verdicts say of each region.
    verdicts: Vec<Option<Recognised>>,
}

/// A scored cube with its surprise.
struct Ranked<'a> {
    entry: &'a Entry,
    summary: CubeSummary,
    /// Of the most surprising region that is not set apart; without one that of the highest pixel, not above 0.
    surprise: f64,
    /// Those that count, in their order.
    regions: Vec<RankedRegion>,
    /// Those that verdicts set apart.
    apart: Vec<RankedRegion>,
}

struct RankedRegion {
    summary: RegionSummary,
    surprise: f64,
    verdict: Option<Recognised>,
}

/// All verdicts that count for the ranking.
///
/// # Collective
/// # Errors
/// Files that are no verdicts.
pub fn verdicts(comm: &Comm, config: &Config) -> Result<Verdicts> {
    let of_training = Verdicts::on_all(comm, "archive.verdicts", &config.archive.verdicts)?;
    Ok(of_training.and(Verdicts::on_all(comm, "survey.verdicts", &config.survey.verdicts)?))
}

/// Reads the results of each cube of `catalogue`, and what `verdicts` say of them; sets aside those that cannot be read.
///
/// # Collective
pub fn read(comm: &Comm, config: &Config, catalogue: &mut Catalogue, verdicts: &Verdicts) -> Vec<Found> {
    let found = map_over_ranks(comm, &catalogue.entries, |entry| {
        read_one(config, entry, verdicts).map_err(|error| format!("{error:#}"))
    });
    catalogue.keep(found)
}

/// Reads the results of one cube. Rank-local.
fn read_one(config: &Config, entry: &Entry, verdicts: &Verdicts) -> Result<Found> {
    let path = entry.source.path.display();
    let cube = Cube::open(&entry.source, config)?;
    let summary = scored_before(config, &cube)
        .with_context(|| format!("{path}: its results are gone; start the survey again"))?;
    let Thumbnail { score, labels, .. } = read_thumbnail(config, &summary)?;
    let verdicts =
        if verdicts.is_empty() { vec![None; summary.regions.len()] } else { judge(config, &summary, verdicts)? };
    let is_apart = |label: i32| {
        let place = summary.regions.iter().position(|region| region.label == label);
        place.and_then(|place| verdicts[place].as_ref()).is_some_and(Recognised::is_set_apart)
    };
    let outside = score.iter().zip(&labels).filter(|(_, label)| !is_apart(**label));
    Ok(Found {
        highest: outside.map(|(score, _)| *score).fold(0.0, f32::max),
        pixels: score.iter().filter(|score| !score.is_nan()).count(),
        summary: serde_json::to_string(&summary)?,
        verdicts,
    })
}

/// What `verdicts` say of each region of a cube. Rank-local.
fn judge(config: &Config, summary: &CubeSummary, verdicts: &Verdicts) -> Result<Vec<Option<Recognised>>> {
    let path = cube_path(&config.output.dir, &summary.name);
    let (fingerprint, residuals) = (read_text(&path, "fingerprint")?, read_residuals(&path)?);
    let regions = summary.regions.iter().enumerate().map(|(i, region)| {
        let judged = Judged { cube: &summary.name, fingerprint: &fingerprint, region, residual: residuals.get(i) };
        verdicts.on(&judged)
    });
    Ok(regions.collect())
}

/// Writes `ranking.csv`, `regions.csv`, `set_apart.csv`, `ranking.h5` and `ranking.html` into the output folder, from what was `found` in
/// each cube of `catalogue`.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn write(comm: &Comm, config: &Config, catalogue: &Catalogue, found: &[Found]) -> Result<()> {
    comm.on_root(|| {
        let ranked = rank(catalogue, found);
        ranked.and_then(|ranked| write_on_root(config, catalogue, &ranked))
    })
}

/// The cubes from the most surprising down.
fn rank<'a>(catalogue: &'a Catalogue, found: &[Found]) -> Result<Vec<Ranked<'a>>> {
    let mut ranked = Vec::with_capacity(found.len());
    for (entry, found) in catalogue.entries.iter().zip(found) {
        let summary: CubeSummary = serde_json::from_str(&found.summary)?;
        let regions = summary.regions.iter().zip(&found.verdicts).map(|(region, verdict)| RankedRegion {
            surprise: surprise::of_region(region.mean_score, region.area, found.pixels),
            summary: region.clone(),
            verdict: verdict.clone(),
        });
        let is_apart = |region: &RankedRegion| region.verdict.as_ref().is_some_and(Recognised::is_set_apart);
        let (apart, regions): (Vec<_>, Vec<_>) = regions.partition(is_apart);
        let strongest = regions.iter().map(|region| region.surprise).reduce(f64::max);
        ranked.push(Ranked {
            entry,
            surprise: strongest.unwrap_or_else(|| surprise::of_nothing(found.highest.into(), found.pixels)),
            regions,
            apart,
            summary,
        });
    }
    ranked.sort_by(|a, b| b.surprise.total_cmp(&a.surprise));
    Ok(ranked)
}

fn write_on_root(config: &Config, catalogue: &Catalogue, cubes: &[Ranked]) -> Result<()> {
    let folder = &config.output.dir;
    let path = |name: &str| folder.join(name);
    write_csv(&path("ranking.csv"), &cube_table(cubes))?;
    let regions = || region_table(cubes, |cube| &cube.regions);
    let apart = || region_table(cubes, |cube| &cube.apart);
    write_csv(&path("regions.csv"), &regions())?;
    write_csv(&path("set_apart.csv"), &apart())?;
    let tables = [("cubes", cube_table(cubes)), ("regions", regions()), ("set_apart", apart())];
    write_tables(&path("ranking.h5"), &tables)?;
    let mut shown = Vec::new();
    for (i, ranked) in cubes.iter().enumerate() {
        let (entry, summary) = (ranked.entry, &ranked.summary);
        let result = cube_path(folder, &summary.name);
        let is_shown = i < config.survey.shown;
        shown.push(RankedCube {
            fingerprint: if is_shown { read_text(&result, "fingerprint")? } else { String::new() },
            residuals: if is_shown { read_residuals(&result)? } else { Vec::new() },
            name: summary.name.clone(),
            group: entry.group.clone(),
            input: entry.source.path.display().to_string(),
            output: format!("{}.coreloss.hspy", summary.name),
            shape: summary.shape,
            surprise: ranked.surprise,
            maps: is_shown.then(|| read_thumbnail(config, summary)).transpose()?,
            regions: ranked.regions.iter().map(|region| (region.summary.clone(), region.surprise)).collect(),
            apart: ranked.apart.iter().filter_map(|r| Some((r.summary.clone(), r.verdict.clone()?))).collect(),
        });
    }
    let page = ranking_html(&format!("Survey: {}", folder.display()), &shown, catalogue.set_aside.list())?;
    durable::write(&path("ranking.html"), page)?;
    for (rank, cube) in shown.iter().take(10).enumerate() {
        println!("{:>3}  {:>8.1}  {} regions  {}", rank + 1, cube.surprise, cube.regions.len(), cube.name);
    }
    let apart: usize = shown.iter().map(|cube| cube.apart.len()).sum();
    if apart > 0 {
        println!("set apart by verdicts: {apart} regions: {}", path("set_apart.csv").display());
    }
    for failed in catalogue.set_aside.list() {
        println!("set aside: {}: {}", failed.path, failed.reason);
    }
    println!("ranking of {} cubes: {}", shown.len(), path("ranking.html").display());
    Ok(())
}

fn cube_table(cubes: &[Ranked]) -> Vec<Column> {
    let text = |of: &dyn Fn(&Ranked) -> String| Values::Text(cubes.iter().map(of).collect());
    let integer = |of: &dyn Fn(&Ranked) -> usize| Values::Integer(cubes.iter().map(|cube| of(cube) as i64).collect());
    let flagged = |cube: &Ranked| cube.summary.regions.iter().map(|region| region.area).sum();
    vec![
        Column::new("rank", Values::Integer((1..=cubes.len() as i64).collect())),
        Column::new("cube", text(&|cube| cube.summary.name.clone())),
        Column::new("surprise", Values::Float(cubes.iter().map(|cube| cube.surprise).collect())),
        Column::new("regions", integer(&|cube| cube.regions.len())),
        Column::new("set_apart", integer(&|cube| cube.apart.len())),
        Column::new("flagged_px", integer(&flagged)),
        Column::new("rows", integer(&|cube| cube.summary.shape[0])),
        Column::new("columns", integer(&|cube| cube.summary.shape[1])),
        Column::new("channels", integer(&|cube| cube.summary.shape[2])),
        Column::new("group", text(&|cube| cube.entry.group.clone())),
        Column::new("method", text(&|cube| cube.summary.default.method.clone())),
        Column::new("score", text(&|cube| cube.summary.default.score.clone())),
        Column::new("input", text(&|cube| cube.entry.source.path.display().to_string())),
    ]
}

/// A row for each of the regions that `of` takes from a cube, the most surprising first.
fn region_table(cubes: &[Ranked], of: impl for<'a> Fn(&'a Ranked<'_>) -> &'a [RankedRegion]) -> Vec<Column> {
    let regions = cubes.iter().flat_map(|cube| of(cube).iter().map(|region| (cube.summary.name.clone(), region)));
    let mut rows: Vec<(String, &RankedRegion)> = regions.collect();
    rows.sort_by(|a, b| b.1.surprise.total_cmp(&a.1.surprise));
    let said = |of: fn(&Recognised) -> String| {
        Values::Text(rows.iter().map(|row| row.1.verdict.as_ref().map_or(String::new(), of)).collect())
    };
    let mut table = vec![
        Column::new("rank", Values::Integer((1..=rows.len() as i64).collect())),
        Column::new("cube", Values::Text(rows.iter().map(|row| row.0.clone()).collect())),
        Column::new("surprise", Values::Float(rows.iter().map(|row| row.1.surprise).collect())),
    ];
    table.push(Column::new("verdict", said(|found| found.verdict.to_string())));
    table.push(Column::new("reason", said(|found| found.reason.clone())));
    let regions: Vec<&RegionSummary> = rows.iter().map(|row| &row.1.summary).collect();
    table.extend(region_columns(&regions));
    table
}
