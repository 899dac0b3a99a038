//! The figures of a sweep: a metric over a key, a line for each method and score.

use anyhow::Result;

use super::rows::Row;
use crate::config::{METRICS, Plot, Sweep};
use crate::report::{Line, comparison};

/// The name of the file of a plot: everything in which the plots of a sweep may differ.
///
/// # Errors
/// A column that the sweep does not have.
pub fn figure_name(sweep: &Sweep, plot: &Plot) -> Result<String> {
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

/// The plot of a sweep that names none: F1 by the first key with numbers alone.
pub fn default_plot(sweep: &Sweep) -> Option<Plot> {
    let is_number = |i: &usize| {
        let mut values = sweep.points.iter().map(|point| &point.values[*i]);
        values.all(|value| value.parse::<f64>().is_ok())
    };
    let column = (0..sweep.columns.len()).find(is_number)?;
    Some(Plot { x: sweep.columns[column].clone(), y: "f1".into(), by: None, methods: None, scores: None })
}

/// The SVG of one plot: a line for each method and score, and for each value of `by`.
///
/// # Errors
/// A column that the sweep does not have.
pub fn draw(sweep: &Sweep, plot: &Plot, rows: &[Row]) -> Result<String> {
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
    use crate::config::SweepFile;

    #[test]
    fn no_figure_overwrites_another() {
        let text = "output: o\ngrid: {model.latent: [2, 4], score.threshold: [otsu, pot]}\nplots:\n\
            - {x: latent, y: f1}\n- {x: latent, y: f1, by: score.threshold}\n- {x: latent, y: f1, methods: cvae}\n\
            - {x: latent, y: f1, methods: [pca_3]}\n- {x: latent, y: f1, scores: pcc}\n";
        let file = SweepFile::parse("sweep.yaml", text).unwrap();
        let sweep = file.expand("sweep.yaml", None, &[]).unwrap();
        let names: Vec<String> = sweep.plots.iter().map(|plot| figure_name(&sweep, plot).unwrap()).collect();
        let expected = ["", "_and_score.threshold", "_for_cvae", "_for_pca_3", "_of_pcc"];
        assert_eq!(names, expected.map(|end| format!("f1_by_latent{end}")));
    }
}
