//! The table of a sweep with repetitions taken together: medians of their metrics, and metrics of all their pixels.

use std::path::PathBuf;

use anyhow::Result;

use super::rows::Row;
use super::text_table::aligned;
use crate::config::{METRICS, Sweep};
use crate::evaluate::{detection, ranking};
use crate::output::{Column, Values};
use crate::results::ScoredPixels;
use crate::spectrum::{Middle, median};

/// Metrics in the printed table, and the names of their columns.
const PRINTED: [(&str, &str); 3] = [("f1", "F1"), ("best_f1", "best F1"), ("average_precision", "AP")];

/// The repetitions of one score of a method on a cube.
struct Group<'a> {
    /// Of the columns that are no repetition.
    values: Vec<String>,
    cube: String,
    method: String,
    score: String,
    default_score: bool,
    /// One for each repetition.
    rows: Vec<&'a Row>,
    pooled: Pooled,
}

/// Metrics over all pixels of all repetitions; NaN where there is none.
struct Pooled {
    f1: f64,
    best_f1: f64,
    average_precision: f64,
    /// Flagged pixels among the normal ones, in percent.
    false_alarms_percent: f64,
}

/// The groups of a sweep, in the order of its points.
pub struct Repeats<'a> {
    columns: Vec<String>,
    groups: Vec<Group<'a>>,
}

/// Groups `rows`, whose points lie in `folders`, by the columns that are no repetition. Rank-local.
///
/// # Errors
/// Results that are damaged.
pub fn pool<'a>(sweep: &Sweep, folders: &[PathBuf], rows: &'a [Row]) -> Result<Repeats<'a>> {
    let kept: Vec<usize> = (0..sweep.columns.len()).filter(|column| !sweep.repeats.contains(column)).collect();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for row in rows.iter().filter(|row| !row.method.is_empty()) {
        let values: Vec<String> = kept.iter().map(|&column| sweep.points[row.point].values[column].clone()).collect();
        let is_same = |group: &&mut Group| {
            (&group.values, &group.cube, &group.method, &group.score) == (&values, &row.cube, &row.method, &row.score)
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group::new(values, row)),
        }
    }
    for group in &mut groups {
        group.pooled = Pooled::of(&group.pixels(folders)?);
    }
    Ok(Repeats { columns: kept.iter().map(|&i| sweep.columns[i].clone()).collect(), groups })
}

impl<'a> Group<'a> {
    fn new(values: Vec<String>, row: &'a Row) -> Group<'a> {
        Group {
            values,
            cube: row.cube.clone(),
            method: row.method.clone(),
            score: row.score.clone(),
            default_score: row.default_score,
            rows: vec![row],
            pooled: Pooled::of(&ScoredPixels::default()),
        }
    }

    /// The pixels of all repetitions with truth. Read for one group at a time: a sweep has many.
    fn pixels(&self, folders: &[PathBuf]) -> Result<ScoredPixels> {
        let mut pixels = ScoredPixels::default();
        for row in &self.rows {
            let folder = &folders[row.point];
            let found = ScoredPixels::read(folder, &row.cube_id, &row.method, &row.score)?;
            pixels.extend(found.unwrap_or_default());
        }
        Ok(pixels)
    }

    /// The metric at `place` of [`METRICS`] in all repetitions that have it, ascending.
    fn sorted(&self, place: usize) -> Vec<f64> {
        let values = self.rows.iter().map(|row| row.figures[place]);
        let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

impl Pooled {
    fn of(pixels: &ScoredPixels) -> Pooled {
        let ranked = ranking(&pixels.scores, &pixels.truth);
        let detected = detection(&pixels.scores, &pixels.truth, &pixels.flagged);
        let counted = pixels.scores.iter().zip(&pixels.truth);
        let normal = counted.zip(&pixels.flagged).filter(|&((score, &truth), _)| !score.is_nan() && truth == 0);
        let (count, flagged) =
            normal.fold((0.0, 0.0), |(count, flagged), (_, &flag)| (count + 1.0, flagged + f64::from(u8::from(flag))));
        let nan = f64::NAN;
        Pooled {
            f1: detected.map_or(nan, |found| found.f1),
            best_f1: ranked.as_ref().map_or(nan, |found| found.best_f1),
            average_precision: ranked.map_or(nan, |found| found.average_precision),
            // 0 / 0 is NaN, as it should be.
            false_alarms_percent: 100.0 * flagged / count,
        }
    }
}

impl Repeats<'_> {
    /// A row for each group: medians of all metrics, the range of F1, and the metrics of the pooled pixels.
    pub fn table(&self) -> Vec<Column> {
        let text = |of: &dyn Fn(&Group) -> String| Values::Text(self.groups.iter().map(of).collect());
        let float = |of: &dyn Fn(&Group) -> f64| Values::Float(self.groups.iter().map(of).collect());
        let integer = |of: &dyn Fn(&Group) -> i64| Values::Integer(self.groups.iter().map(of).collect());
        let mut table: Vec<Column> = (self.columns.iter().enumerate())
            .map(|(i, column)| Column::new(column, text(&|group| group.values[i].clone())))
            .collect();
        table.push(Column::new("cube", text(&|group| group.cube.clone())));
        table.push(Column::new("method", text(&|group| group.method.clone())));
        table.push(Column::new("score", text(&|group| group.score.clone())));
        table.push(Column::new("default_score", integer(&|group| i64::from(group.default_score))));
        table.push(Column::new("runs", integer(&|group| group.rows.len() as i64)));
        for (place, name) in METRICS.iter().enumerate() {
            table.push(Column::new(name, float(&|group| median(group.sorted(place), Middle::Mean))));
            if *name == "f1" {
                let end = |group: &Group, last: bool| {
                    let sorted = group.sorted(place);
                    let end = if last { sorted.last() } else { sorted.first() };
                    end.copied().unwrap_or(f64::NAN)
                };
                table.push(Column::new("f1_lowest", float(&|group| end(group, false))));
                table.push(Column::new("f1_highest", float(&|group| end(group, true))));
            }
        }
        table.push(Column::new("pooled_f1", float(&|group| group.pooled.f1)));
        table.push(Column::new("pooled_best_f1", float(&|group| group.pooled.best_f1)));
        let average_precision = float(&|group| group.pooled.average_precision);
        table.push(Column::new("pooled_average_precision", average_precision));
        let false_alarms = float(&|group| group.pooled.false_alarms_percent);
        table.push(Column::new("false_alarms_percent", false_alarms));
        table
    }

    /// The main figures of the default score, for a terminal.
    pub fn text(&self) -> String {
        let mut heads = self.columns.clone();
        heads.extend(["method", "runs"].map(String::from));
        heads.extend(PRINTED.map(|(_, head)| head.into()));
        heads.extend(["pooled F1", "pooled AP", "false alarms %"].map(String::from));
        let mut lines = vec![heads];
        for group in self.groups.iter().filter(|group| group.default_score) {
            let mut line = group.values.clone();
            line.extend([group.method.clone(), group.rows.len().to_string()]);
            for (name, _) in PRINTED {
                let place = METRICS.iter().position(|metric| *metric == name);
                line.push(
                    place.map_or(String::new(), |place| format!("{:.3}", median(group.sorted(place), Middle::Mean))),
                );
            }
            let pooled = &group.pooled;
            let figures = [pooled.f1, pooled.average_precision, pooled.false_alarms_percent];
            line.extend(figures.map(|value| format!("{value:.3}")));
            lines.push(line);
        }
        aligned(&lines)
    }
}
