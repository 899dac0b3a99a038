//! The page: overview, the cubes' sections, training, configuration.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::figure::{css, key};
use super::frame;
use super::plot::{BLUE, VERMILLION};
use super::section::{self, chart_figure};
use super::text::{counted, escape, number};
use super::{Cube, MOST_CUBES, Report, StepPoint, chart};

/// What is shown of the cubes so far, as HTML.
#[derive(Default)]
pub struct Page {
    cubes: usize,
    /// What was found, one item for each of the first.
    found: String,
    /// A row of the overview for each.
    rows: String,
    /// A section for each of the first.
    sections: String,
}

impl Page {
    /// Shows one more cube.
    pub fn add(&mut self, cube: &Cube) -> Result<()> {
        let index = self.cubes;
        self.cubes += 1;
        let name = escape(&cube.name);
        if index >= MOST_CUBES {
            self.rows.push_str(&row(cube, &name));
            return Ok(());
        }
        let link = format!("<a href=\"#cube-{index}\">{name}</a>");
        let sentence = section::sentence(cube);
        let _ = writeln!(self.found, "<li>{link}: {sentence}</li>");
        self.rows.push_str(&row(cube, &link));
        let section =
            section::html(cube, index).with_context(|| format!("drawing the report's section on {}", cube.name))?;
        self.sections.push_str(&section);
        Ok(())
    }

    /// The whole document.
    pub fn html(&self, report: &Report) -> Result<String> {
        let title = if report.title.is_empty() { "coreloss" } else { &report.title };
        let mut html = String::new();
        self.found(&mut html, report);
        facts(&mut html, report);
        self.overview(&mut html);
        html.push_str(&self.sections);
        training(&mut html, report)?;
        failed_inputs(&mut html, report);
        if !report.config_yaml.is_empty() {
            let _ = writeln!(
                html,
                "<details><summary>Configuration</summary><pre>{}</pre></details>",
                escape(&report.config_yaml)
            );
        }
        let _ = writeln!(
            html,
            "<footer>coreloss {}. Each map lies beside this page as a PNG.</footer>",
            escape(&report.version)
        );
        Ok(frame::page(title, &html))
    }

    /// What was found, one sentence for each cube.
    fn found(&self, html: &mut String, report: &Report) {
        if self.cubes == 0 {
            html.push_str("<p class=\"found\">No cube was scored.</p>\n");
        } else {
            let _ = writeln!(html, "<ul class=\"found\">\n{}</ul>", self.found);
        }
        if self.cubes > MOST_CUBES {
            let _ = writeln!(
                html,
                "<p class=\"note\">The first {MOST_CUBES} of {} cubes are shown in full; the table has all of them.</p>",
                self.cubes
            );
        }
        if !report.failed_inputs.is_empty() {
            let _ = writeln!(
                html,
                "<p class=\"warning\"><a href=\"#failed\">{} set aside.</a></p>",
                counted(report.failed_inputs.len(), "input")
            );
        }
    }

    /// All cubes in a table, where there is more than one.
    fn overview(&self, html: &mut String) {
        if self.cubes < 2 {
            return;
        }
        let _ = writeln!(
            html,
            "<h2>Cubes</h2>\n<table><thead><tr><th>cube</th><th class=\"n\">y &times; x &times; energy</th>\
             <th class=\"n\">regions</th><th class=\"n\">flagged</th><th class=\"n\">strongest region</th>\
             <th class=\"n\">threshold</th><th class=\"n\">AUROC</th></tr></thead><tbody>\n{}</tbody></table>",
            self.rows
        );
    }
}

fn facts(html: &mut String, report: &Report) {
    if report.facts.is_empty() {
        return;
    }
    html.push_str("<dl class=\"facts\">\n");
    for (name, value) in &report.facts {
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    html.push_str("</dl>\n");
}

/// A cube's row of the overview, with `name` as HTML.
fn row(cube: &Cube, name: &str) -> String {
    let [rows, columns, channels] = cube.shape;
    let highest = cube.regions.iter().map(|region| region.max_score);
    let strongest = highest.fold(f64::NAN, f64::max);
    let map = section::default_map(cube);
    let auroc = map.and_then(|map| map.metrics).map_or(f64::NAN, |m| m.auroc);
    format!(
        "<tr><td>{name}</td><td class=\"n\">{rows} &times; {columns} &times; {channels}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
        cube.regions.len(),
        map.map_or("&ndash;".into(), |map| map.flagged.to_string()),
        figure_or_dash(strongest),
        figure_or_dash(map.map_or(f64::NAN, |map| map.threshold as f64)),
        figure_or_dash(auroc),
    )
}

fn figure_or_dash(value: f64) -> String {
    if value.is_finite() { number(value) } else { "&ndash;".into() }
}

fn training(html: &mut String, report: &Report) -> Result<()> {
    if report.loss.is_empty() {
        return Ok(());
    }
    html.push_str("<section>\n<h2>Training</h2>\n");
    let mut keys = key(&css(BLUE), "", "training");
    if report.loss.iter().any(|point| point.validation.is_some()) {
        keys.push_str(&key(&css(VERMILLION), "", "validation"));
    }
    chart_figure(html, "Loss", &keys, &chart::loss(&report.loss)?);
    let steps = &report.steps;
    if steps.len() > 1 {
        let of = |value: fn(&StepPoint) -> f64| -> Vec<(f64, f64)> {
            let points = steps.iter().map(|point| (point.step as f64, value(point)));
            points.collect()
        };
        html.push_str("<div class=\"charts\">\n");
        for (title, words, points) in [
            ("Latent information", "nats per pixel", of(|point| point.kl)),
            ("Gradient", "norm of the gradient", of(|point| point.grad_norm)),
        ] {
            chart_figure(html, title, "", &chart::training(words, &points)?);
        }
        html.push_str("</div>\n");
    }
    html.push_str("</section>\n");
    Ok(())
}

fn failed_inputs(html: &mut String, report: &Report) {
    if report.failed_inputs.is_empty() {
        return;
    }
    html.push_str(
        "<section id=\"failed\">\n<h2>Inputs set aside</h2>\n<table><thead><tr><th>input</th><th>reason</th></tr></thead><tbody>\n",
    );
    for (path, reason) in &report.failed_inputs {
        let _ = writeln!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(path), escape(reason));
    }
    html.push_str("</tbody></table>\n</section>\n");
}
