//! The ranking of a survey: cubes and regions by how surprising they are, whatever their size and kind.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::catalogue::{share, Catalogue, Entry};
use crate::comm::Comm;
use crate::config::Config;
use crate::output::{write_csv, write_tables, Column, Values};
use crate::report::{ranking_html, RankedCube, RankedRegion};
use crate::run::{read_thumbnail, scored_before, CubeSummary, RegionSummary};
use crate::score::Surprise;
use crate::stream::Cube;

/// A scored cube with what its place in the ranking follows from.
#[derive(Serialize, Deserialize)]
struct Ranked {
    /// Place in the catalogue.
    entry: usize,
    /// As JSON, since maps have no fixed layout between ranks.
    summary: String,
    /// Of the strongest region, or of the highest pixel where none is flagged; see [`Surprise::decades`].
    surprise: f64,
    /// Of each region, in their order.
    regions: Vec<f64>,
}

/// Writes `ranking.csv`, `regions.csv`, `ranking.h5` and `ranking.html` into the output folder.
///
/// # Collective
/// # Errors
/// Results that cannot be read, a folder that cannot be written.
pub fn write(comm: &Comm, config: &Config, catalogue: &Catalogue) -> Result<()> {
    let places: Vec<usize> = (0..catalogue.entries.len()).collect();
    let read = share(comm, &places, |&i| {
        rank(config, &catalogue.entries[i], i).map_err(|error| format!("{error:#}"))
    });
    let read: Result<Vec<Ranked>> = read
        .into_iter()
        .map(|ranked| ranked.map_err(anyhow::Error::msg))
        .collect();
    let mut ranked = read?;
    ranked.sort_by(|a, b| b.surprise.total_cmp(&a.surprise));
    comm.agree(if comm.is_root() {
        write_on_root(config, catalogue, &ranked)
    } else {
        Ok(())
    })
}

/// Rank-local.
fn rank(config: &Config, entry: &Entry, place: usize) -> Result<Ranked> {
    let path = entry.source.path.display();
    let cube = Cube::open(&entry.source, config)?;
    let summary = scored_before(config, &cube)
        .with_context(|| format!("{path}: its results are gone; start the survey again"))?;
    let score = read_thumbnail(config, &summary)?.score;
    let surprise = Surprise::of(score.iter().copied());
    let decades = |score: f64| {
        surprise
            .as_ref()
            .map_or(f64::NEG_INFINITY, |s| s.decades(score))
    };
    let regions: Vec<f64> = summary
        .regions
        .iter()
        .map(|region| decades(region.mean_score))
        .collect();
    let highest = score.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let strongest = regions.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(Ranked {
        entry: place,
        surprise: match regions.is_empty() {
            // What is not flagged ranks below what is.
            true => decades(highest.into()).min(0.0),
            false => strongest,
        },
        regions,
        summary: serde_json::to_string(&summary)?,
    })
}

fn write_on_root(config: &Config, catalogue: &Catalogue, ranked: &[Ranked]) -> Result<()> {
    let folder = &config.output.dir;
    let mut cubes = Vec::with_capacity(ranked.len());
    for ranked in ranked {
        let summary: CubeSummary = serde_json::from_str(&ranked.summary)?;
        cubes.push((ranked, &catalogue.entries[ranked.entry], summary));
    }
    let path = |name: &str| folder.join(name);
    write_csv(&path("ranking.csv"), &cube_table(&cubes))?;
    write_csv(&path("regions.csv"), &region_table(&cubes))?;
    let tables = [
        ("cubes", cube_table(&cubes)),
        ("regions", region_table(&cubes)),
    ];
    write_tables(&path("ranking.h5"), &tables)?;
    let mut shown = Vec::new();
    for (i, (ranked, entry, summary)) in cubes.iter().enumerate() {
        let regions = summary.regions.iter().zip(&ranked.regions);
        let maps = match i < config.survey.shown {
            true => Some(read_thumbnail(config, summary)?),
            false => None,
        };
        shown.push(RankedCube {
            name: summary.name.clone(),
            group: entry.group.clone(),
            input: entry.source.path.display().to_string(),
            output: format!("{}.coreloss.hspy", summary.name),
            shape: summary.shape,
            surprise: ranked.surprise,
            maps: maps.map(|maps| (maps.mean_image, maps.score, maps.labels)),
            regions: regions
                .map(|(region, &surprise)| RankedRegion {
                    y: region.y,
                    x: region.x,
                    area: region.area,
                    surprise,
                    estimated_shift_ev: region.estimated_shift_ev,
                })
                .collect(),
        });
    }
    let page = ranking_html(
        &format!("Survey: {}", folder.display()),
        &shown,
        &catalogue.set_aside,
    )?;
    std::fs::write(path("ranking.html"), page)
        .with_context(|| format!("cannot write {}", path("ranking.html").display()))?;
    for (rank, cube) in shown.iter().take(10).enumerate() {
        println!(
            "{:>3}  {:>8.1}  {} regions  {}",
            rank + 1,
            cube.surprise,
            cube.regions.len(),
            cube.name
        );
    }
    for (path, reason) in &catalogue.set_aside {
        println!("set aside: {path}: {reason}");
    }
    println!(
        "ranking of {} cubes: {}",
        shown.len(),
        path("ranking.html").display()
    );
    Ok(())
}

type Scored<'a> = (&'a Ranked, &'a Entry, CubeSummary);

fn cube_table(cubes: &[Scored]) -> Vec<Column> {
    let text = |of: &dyn Fn(&Scored) -> String| Values::Text(cubes.iter().map(of).collect());
    let integer = |of: &dyn Fn(&Scored) -> usize| {
        Values::Integer(cubes.iter().map(|cube| of(cube) as i64).collect())
    };
    let flagged = |cube: &Scored| cube.2.regions.iter().map(|region| region.area).sum();
    vec![
        Column::new("rank", Values::Integer((1..=cubes.len() as i64).collect())),
        Column::new("cube", text(&|cube| cube.2.name.clone())),
        Column::new(
            "surprise",
            Values::Float(cubes.iter().map(|cube| cube.0.surprise).collect()),
        ),
        Column::new("regions", integer(&|cube| cube.2.regions.len())),
        Column::new("flagged_px", integer(&flagged)),
        Column::new("rows", integer(&|cube| cube.2.shape[0])),
        Column::new("columns", integer(&|cube| cube.2.shape[1])),
        Column::new("channels", integer(&|cube| cube.2.shape[2])),
        Column::new("group", text(&|cube| cube.1.group.clone())),
        Column::new("method", text(&|cube| cube.2.default.method.clone())),
        Column::new("score", text(&|cube| cube.2.default.score.clone())),
        Column::new(
            "input",
            text(&|cube| cube.1.source.path.display().to_string()),
        ),
    ]
}

fn region_table(cubes: &[Scored]) -> Vec<Column> {
    let mut rows: Vec<_> = cubes
        .iter()
        .flat_map(|(ranked, _, summary)| {
            let regions = summary.regions.iter().zip(&ranked.regions);
            regions.map(|(region, &surprise)| (summary.name.clone(), region, surprise))
        })
        .collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    let float = |of: &dyn Fn(&RegionSummary) -> f64| {
        Values::Float(rows.iter().map(|row| of(row.1)).collect())
    };
    let integer = |of: &dyn Fn(&RegionSummary) -> i64| {
        Values::Integer(rows.iter().map(|row| of(row.1)).collect())
    };
    vec![
        Column::new("rank", Values::Integer((1..=rows.len() as i64).collect())),
        Column::new(
            "cube",
            Values::Text(rows.iter().map(|row| row.0.clone()).collect()),
        ),
        Column::new("label", integer(&|region| region.label.into())),
        Column::new(
            "surprise",
            Values::Float(rows.iter().map(|row| row.2).collect()),
        ),
        Column::new("y", float(&|region| region.y)),
        Column::new("x", float(&|region| region.x)),
        Column::new("area_px", integer(&|region| region.area as i64)),
        Column::new("max_score", float(&|region| region.max_score.into())),
        Column::new("mean_score", float(&|region| region.mean_score)),
        Column::new(
            "estimated_shift_ev",
            float(&|region| region.estimated_shift_ev.unwrap_or(f64::NAN)),
        ),
    ]
}
