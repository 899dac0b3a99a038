//! The table of a sweep: a row for each score of each method on each cube of each point.

use std::path::Path;

use anyhow::Result;

use super::status::state;
use crate::config::{METRICS, Made, Sweep};
use crate::output::{Column, Values};
use crate::results::Summary;

/// One score of a method on a cube in a point. A point without results has one row, without cube, method and score.
pub struct Row {
    pub point: usize,
    pub state: &'static str,
    /// Without the hash that a simulated cube carries.
    pub cube: String,
    /// Its id in the run.
    pub cube_id: String,
    pub method: String,
    pub score: String,
    /// Whether regions are drawn from this score.
    pub default_score: bool,
    /// In the order of [`METRICS`]; NaN where there is none.
    pub figures: [f64; METRICS.len()],
}

/// The rows of one point. Rank-local.
///
/// # Errors
/// A folder that cannot be read.
pub fn read_rows(sweep: &Sweep, point: usize, folder: &Path) -> Result<Vec<Row>> {
    let state = state(folder)?.word();
    let row = |cube: &str, method: &str, score: &str| Row {
        point,
        state,
        cube: cube.into(),
        cube_id: String::new(),
        method: method.into(),
        score: score.into(),
        default_score: false,
        figures: [f64::NAN; METRICS.len()],
    };
    let Ok(summary) = Summary::read(folder) else {
        return Ok(vec![row("", "", "")]);
    };
    let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let mut rows = Vec::new();
    for cube in &summary.cubes {
        let name = without_hash(&sweep.points[point].made, &cube.name);
        // The shift of a cube is that of its largest region.
        let largest = cube.regions.iter().max_by_key(|region| region.area);
        let shift = largest.and_then(|region| region.estimated_shift_ev);
        for (method, scores) in &cube.methods {
            for (score, found) in scores {
                rows.push(Row {
                    default_score: *score == cube.default.score,
                    cube_id: cube.name.clone(),
                    figures: [
                        number(found.threshold.map(f64::from)),
                        found.flagged as f64,
                        number(found.auroc),
                        number(found.average_precision),
                        number(found.best_f1),
                        number(found.f1),
                        number(found.precision),
                        number(found.recall),
                        number(found.ashman_d),
                        number(found.overlap),
                        number(shift.filter(|_| cube.default.is(method, score))),
                    ],
                    ..row(name, method, score)
                });
            }
        }
    }
    Ok(rows)
}

/// The name of a cube without the hash that the cubes `made` by the sweep carry: it tells a reader nothing.
fn without_hash<'a>(made: &[Made], cube: &'a str) -> &'a str {
    let is_own = |made: &Made| {
        let rest = cube.strip_suffix(made.name());
        rest.is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
    };
    match cube.rsplit_once('-') {
        Some((name, _)) if made.iter().any(is_own) => name,
        _ => cube,
    }
}

/// The columns of the table. Rank-local.
pub fn table(sweep: &Sweep, rows: &[Row]) -> Vec<Column> {
    let text = |of: &dyn Fn(&Row) -> String| Values::Text(rows.iter().map(of).collect());
    let integer = |of: &dyn Fn(&Row) -> i64| Values::Integer(rows.iter().map(of).collect());
    let mut table = vec![
        Column::new("point", integer(&|row| row.point as i64)),
        Column::new("state", text(&|row| row.state.into())),
    ];
    for (i, column) in sweep.columns.iter().enumerate() {
        let value = |row: &Row| sweep.points[row.point].values[i].clone();
        let numbers: Option<Vec<f64>> = rows.iter().map(|row| value(row).parse().ok()).collect();
        let values = numbers.map_or_else(|| text(&value), Values::Float);
        table.push(Column::new(column, values));
    }
    table.push(Column::new("cube", text(&|row| row.cube.clone())));
    table.push(Column::new("method", text(&|row| row.method.clone())));
    table.push(Column::new("score", text(&|row| row.score.clone())));
    table.push(Column::new("default_score", integer(&|row| row.default_score as i64)));
    for (i, name) in METRICS.iter().enumerate() {
        let values = rows.iter().map(|row| row.figures[i]).collect();
        table.push(Column::new(name, Values::Float(values)));
    }
    table.push(Column::new("hash", text(&|row| sweep.points[row.point].hash.clone())));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CubeSpec;

    #[test]
    fn only_names_that_the_sweep_made_lose_their_hash() {
        let spec = |name: &str| CubeSpec { name: name.into(), scene: Default::default() };
        let made = [Made::Simulated(spec("test-0123456789").into(), 0)];
        assert_eq!(without_hash(&made, "test-0123456789"), "test");
        assert_eq!(without_hash(&made, "archive/test-0123456789"), "archive/test");
        for measured in ["scan-2023041512", "scan-2023041513", "latest-0123456789"] {
            assert_eq!(without_hash(&made, measured), measured);
        }
    }
}
