//! The results of all points in one table and its figures, whatever is missing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::status::state;
use super::{folders, repeats};
use crate::comm::Comm;
use crate::config::{METRICS, Made, Plot, Sweep};
use crate::durable;
use crate::ending::Ending;
use crate::output::{Column, Values, write_csv, write_tables};
use crate::report::{Line, comparison};
use crate::results::Summary;

/// A score of a method on a cube in a point; of a point without results, only what it was to be.
pub struct Row {
    pub point: usize,
    state: &'static str,
    /// Without the hash that a simulated cube carries.
    pub cube: String,
    /// As the run calls it.
    pub cube_id: String,
    pub method: String,
    pub score: String,
    /// The score that regions are drawn from.
    pub default_score: bool,
    /// In the order of [`METRICS`]; NaN where there is none.
    pub figures: [f64; METRICS.len()],
}

/// Writes `table.csv`, `table.h5` and a figure for each plot into the sweep's folder.
///
/// # Collective
/// # Errors
/// A folder that cannot be written.
pub fn collect(comm: &Comm, sweep: &Sweep) -> Result<Ending> {
    comm.on_root(|| write(sweep))?;
    Ok(Ending::Done)
}

fn write(sweep: &Sweep) -> Result<()> {
    let folder = &sweep.output;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut rows = Vec::new();
    for (point, folder) in folders(sweep).iter().enumerate() {
        rows.extend(read(sweep, point, folder)?);
    }
    let done = rows.iter().filter(|row| row.state == "done");
    let mut done: Vec<usize> = done.map(|row| row.point).collect();
    done.dedup();
    let path = |name: &str| folder.join(name);
    write_csv(&path("table.csv"), &table(sweep, &rows))?;
    write_tables(&path("table.h5"), &[("table", table(sweep, &rows))])?;
    println!(
        "{} of {} points, {} rows: {} and table.h5",
        done.len(),
        sweep.points.len(),
        rows.len(),
        path("table.csv").display()
    );
    let plots = match sweep.plots.is_empty() {
        true => usual(sweep).into_iter().collect(),
        false => sweep.plots.clone(),
    };
    if !sweep.repeats.is_empty() {
        let pooled = repeats::pool(sweep, &folders(sweep), &rows)?;
        write_csv(&path("medians.csv"), &pooled.table())?;
        print!("{}", pooled.text());
        println!("{}", path("medians.csv").display());
    }
    for plot in &plots {
        let target = path(&format!("{}.svg", figure(sweep, plot)?));
        durable::write(&target, draw(sweep, plot, &rows)?)?;
        println!("{}", target.display());
    }
    Ok(())
}

/// What the file of a plot is called: all that tells it from another of the sweep.
fn figure(sweep: &Sweep, plot: &Plot) -> Result<String> {
    let mut name = format!("{}_by_{}", plot.y, sweep.columns[sweep.column(&plot.x)?]);
    if let Some(by) = &plot.by {
        name += &format!("_and_{}", sweep.columns[sweep.column(by)?]);
    }
    for (word, chosen) in [("of", &plot.scores), ("for", &plot.methods)] {
        if let Some(chosen) = chosen {
            name += &format!("_{word}_{}", chosen.as_slice().join("_"));
        }
    }
    Ok(name)
}

/// The name of a cube without the hash that those `made` by the sweep carry, which says nothing to a reader.
fn plain<'a>(made: &[Made], cube: &'a str) -> &'a str {
    let is_own = |made: &Made| {
        let rest = cube.strip_suffix(made.name());
        rest.is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
    };
    match cube.rsplit_once('-') {
        Some((name, _)) if made.iter().any(is_own) => name,
        _ => cube,
    }
}

/// The rows of one point.
fn read(sweep: &Sweep, point: usize, folder: &Path) -> Result<Vec<Row>> {
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
        let name = plain(&sweep.points[point].made, &cube.name);
        // The largest region speaks for the cube.
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

fn table(sweep: &Sweep, rows: &[Row]) -> Vec<Column> {
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

/// F1 by the first key that has numbers.
fn usual(sweep: &Sweep) -> Option<Plot> {
    let is_number = |i: &usize| {
        let mut values = sweep.points.iter().map(|point| &point.values[*i]);
        values.all(|value| value.parse::<f64>().is_ok())
    };
    let column = (0..sweep.columns.len()).find(is_number)?;
    Some(Plot { x: sweep.columns[column].clone(), y: "f1".into(), by: None, methods: None, scores: None })
}

/// The figure of one plot: a line for each method and score, and for each value of `by`.
fn draw(sweep: &Sweep, plot: &Plot, rows: &[Row]) -> Result<String> {
    let x = sweep.column(&plot.x)?;
    let by = plot.by.as_ref().map(|by| sweep.column(by)).transpose()?;
    let y = METRICS.iter().position(|name| *name == plot.y).unwrap_or(0);
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let values = &sweep.points[row.point].values;
        let (Ok(at), value) = (values[x].parse::<f64>(), row.figures[y]) else {
            continue;
        };
        let wanted = plot.methods.as_ref().is_none_or(|m| m.as_slice().contains(&row.method))
            && plot.scores.as_ref().map_or(row.default_score, |s| s.as_slice().contains(&row.score));
        if !wanted || value.is_nan() {
            continue;
        }
        let mut name = format!("{} {}", row.method, row.score);
        if let Some(by) = by {
            name += &format!(", {} {}", sweep.columns[by], values[by]);
        }
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push((at, value)),
            None => lines.push(Line { name, points: vec![(at, value)] }),
        }
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    let title = format!("{} by {}", plot.y, sweep.columns[x]);
    comparison(&title, &sweep.columns[x], &plot.y, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CubeSpec, SweepFile};

    #[test]
    fn only_names_that_the_sweep_made_lose_their_hash() {
        let spec = |name: &str| CubeSpec { name: name.into(), scene: Default::default() };
        let made = [Made::Simulated(spec("test-0123456789"), 0)];
        assert_eq!(plain(&made, "test-0123456789"), "test");
        assert_eq!(plain(&made, "archive/test-0123456789"), "archive/test");
        for measured in ["scan-2023041512", "scan-2023041513", "latest-0123456789"] {
            assert_eq!(plain(&made, measured), measured);
        }
    }

    #[test]
    fn no_figure_overwrites_another() {
        let text = "output: o\ngrid: {model.latent: [2, 4], score.threshold: [otsu, pot]}\nplots:\n\
            - {x: latent, y: f1}\n- {x: latent, y: f1, by: score.threshold}\n- {x: latent, y: f1, methods: cvae}\n\
            - {x: latent, y: f1, methods: [pca_3]}\n- {x: latent, y: f1, scores: pcc}\n";
        let file = SweepFile::parse("sweep.yaml", text).unwrap();
        let sweep = file.expand("sweep.yaml", None, &[]).unwrap();
        let names: Vec<String> = sweep.plots.iter().map(|plot| figure(&sweep, plot).unwrap()).collect();
        let expected = ["", "_and_score.threshold", "_for_cvae", "_for_pca_3", "_of_pcc"];
        assert_eq!(names, expected.map(|end| format!("f1_by_latent{end}")));
    }
}
