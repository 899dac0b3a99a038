//! The ranking of a survey: cubes and regions by how surprising they are, whatever their size and kind.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::catalogue::{Catalogue, Entry};
use super::distribute::map_over_ranks;
use super::surprise;
use crate::comm::Comm;
use crate::config::Config;
use crate::durable;
use crate::output::{Column, Values, write_csv, write_tables};
use crate::report::{RankedCube, ranking_html};
use crate::results::{CubeSummary, RegionSummary, read_thumbnail, region_columns, scored_before};
use crate::stream::Cube;

/// What the ranking needs of a scored cube.
#[derive(Serialize, Deserialize)]
pub struct Found {
    /// As JSON, since maps have no fixed layout between ranks.
    summary: String,
    /// The highest score.
    highest: f32,
    /// Pixels that are not ignored.
    pixels: usize,
}

/// A scored cube with its surprise.
struct Ranked<'a> {
    entry: &'a Entry,
    summary: CubeSummary,
    /// Of the most surprising region; without regions that of the highest pixel, not above 0.
    surprise: f64,
    /// The surprise of each region, in their order.
    regions: Vec<f64>,
}

/// Reads the results of each cube of `catalogue`; sets aside those that cannot be read.
///
/// # Collective
pub fn read(comm: &Comm, config: &Config, catalogue: &mut Catalogue) -> Vec<Found> {
    let found =
        map_over_ranks(comm, &catalogue.entries, |entry| read_one(config, entry).map_err(|error| format!("{error:#}")));
    catalogue.keep(found)
}

/// Reads the results of one cube. Rank-local.
fn read_one(config: &Config, entry: &Entry) -> Result<Found> {
    let path = entry.source.path.display();
    let cube = Cube::open(&entry.source, config)?;
    let summary = scored_before(config, &cube)
        .with_context(|| format!("{path}: its results are gone; start the survey again"))?;
    let score = read_thumbnail(config, &summary)?.score;
    Ok(Found {
        summary: serde_json::to_string(&summary)?,
        highest: score.iter().copied().fold(0.0, f32::max),
        pixels: score.iter().filter(|score| !score.is_nan()).count(),
    })
}

/// Writes `ranking.csv`, `regions.csv`, `ranking.h5` and `ranking.html` into the output folder, from what was `found` in
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
        let regions: Vec<f64> = summary
            .regions
            .iter()
            .map(|region| surprise::of_region(region.mean_score, region.area, found.pixels))
            .collect();
        let strongest = regions.iter().copied().reduce(f64::max);
        ranked.push(Ranked {
            entry,
            surprise: strongest.unwrap_or_else(|| surprise::of_nothing(found.highest.into(), found.pixels)),
            regions,
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
    write_csv(&path("regions.csv"), &region_table(cubes))?;
    let tables = [("cubes", cube_table(cubes)), ("regions", region_table(cubes))];
    write_tables(&path("ranking.h5"), &tables)?;
    let mut shown = Vec::new();
    for (i, ranked) in cubes.iter().enumerate() {
        let (entry, summary) = (ranked.entry, &ranked.summary);
        shown.push(RankedCube {
            name: summary.name.clone(),
            group: entry.group.clone(),
            input: entry.source.path.display().to_string(),
            output: format!("{}.coreloss.hspy", summary.name),
            shape: summary.shape,
            surprise: ranked.surprise,
            maps: (i < config.survey.shown).then(|| read_thumbnail(config, summary)).transpose()?,
            regions: summary.regions.iter().cloned().zip(ranked.regions.iter().copied()).collect(),
        });
    }
    let page = ranking_html(&format!("Survey: {}", folder.display()), &shown, catalogue.set_aside.list())?;
    durable::write(&path("ranking.html"), page)?;
    for (rank, cube) in shown.iter().take(10).enumerate() {
        println!("{:>3}  {:>8.1}  {} regions  {}", rank + 1, cube.surprise, cube.regions.len(), cube.name);
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
        Column::new("regions", integer(&|cube| cube.summary.regions.len())),
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

fn region_table(cubes: &[Ranked]) -> Vec<Column> {
    let mut rows: Vec<_> = cubes
        .iter()
        .flat_map(|cube| {
            let regions = cube.summary.regions.iter().zip(&cube.regions);
            regions.map(|(region, &surprise)| (cube.summary.name.clone(), region, surprise))
        })
        .collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut table = vec![
        Column::new("rank", Values::Integer((1..=rows.len() as i64).collect())),
        Column::new("cube", Values::Text(rows.iter().map(|row| row.0.clone()).collect())),
        Column::new("surprise", Values::Float(rows.iter().map(|row| row.2).collect())),
    ];
    let regions: Vec<&RegionSummary> = rows.iter().map(|row| row.1).collect();
    table.extend(region_columns(&regions));
    table
}
