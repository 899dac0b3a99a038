//! The tables of a survey: its cubes, their regions, and the kinds across cubes.

use super::ranked::{Ranked, RankedRegion};
use crate::output::{Column, Values};
use crate::report::RankedKind;
use crate::results::verdicts::Recognised;
use crate::results::{RegionSummary, region_columns};

/// A row for each cube.
pub fn cube_table(cubes: &[Ranked]) -> Vec<Column> {
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
pub fn region_table(cubes: &[Ranked], of: impl for<'a> Fn(&'a Ranked<'_>) -> &'a [RankedRegion]) -> Vec<Column> {
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
    table.push(Column::new("kind", Values::Integer(rows.iter().map(|row| row.1.kind as i64).collect())));
    table.push(Column::new("verdict", said(|found| found.verdict.to_string())));
    table.push(Column::new("reason", said(|found| found.reason.clone())));
    let regions: Vec<&RegionSummary> = rows.iter().map(|row| &row.1.summary).collect();
    table.extend(region_columns(&regions));
    table
}

/// A row for each kind; the regions of `regions.csv` have its number.
pub fn kind_table(kinds: &[RankedKind]) -> Vec<Column> {
    let text = |of: &dyn Fn(&RankedKind) -> String| Values::Text(kinds.iter().map(of).collect());
    let integer =
        |of: &dyn Fn(&RankedKind) -> usize| Values::Integer(kinds.iter().map(|kind| of(kind) as i64).collect());
    let float = |of: &dyn Fn(&RankedKind) -> f64| Values::Float(kinds.iter().map(of).collect());
    let named = |kind: &RankedKind| kind.strongest[0].region.kind.clone();
    vec![
        Column::new("kind", Values::Integer((1..=kinds.len() as i64).collect())),
        Column::new("window", text(&|kind| named(kind).map_or(String::new(), |named| named.window))),
        Column::new("differs", text(&|kind| named(kind).map_or(String::new(), |named| named.differs.to_string()))),
        Column::new("cubes", integer(&|kind| kind.cubes)),
        Column::new("share_of_cubes", float(&|kind| kind.share)),
        Column::new("regions", integer(&|kind| kind.regions)),
        Column::new("first_seen", text(&|kind| kind.first_seen.clone().unwrap_or_default())),
        Column::new("strongest_cube", text(&|kind| kind.strongest[0].cube.clone())),
        Column::new("strongest_region", integer(&|kind| kind.strongest[0].region.label as usize)),
        Column::new("highest_surprise", float(&|kind| kind.strongest[0].surprise)),
    ]
}
