//! The page: overview, the cubes' sections, training, configuration.

use anyhow::{Context, Result};
use maud::{Markup, html};

use super::chart;
use super::contents::{Cube, Report, StepPoint};
use super::figure::{chart_figure, css, key};
use super::frame;
use super::plot::{BLUE, VERMILLION};
use super::section;
use super::text::{counted, number};

/// Cubes that the page shows in full: it must open in a browser for an archive of thousands too.
pub const MOST_CUBES: usize = 40;

/// The page of the cubes so far.
#[derive(Default)]
pub struct Page {
    /// A row of the overview for each cube.
    rows: Vec<Markup>,
    /// A list item for each of the first cubes.
    found: Vec<Markup>,
    /// A section for each of the first cubes.
    sections: Vec<Markup>,
}

impl Page {
    /// Shows one more cube.
    pub fn add(&mut self, cube: &Cube) -> Result<()> {
        let index = self.rows.len();
        if index >= MOST_CUBES {
            self.rows.push(row(cube, &html! { (cube.name) }));
            return Ok(());
        }
        let link = html! { a href={ "#cube-" (index) } { (cube.name) } };
        self.rows.push(row(cube, &link));
        self.found.push(html! { li { (link) ": " (section::sentence(cube)) } });
        let section = section::section(cube, index);
        self.sections.push(section.with_context(|| format!("drawing the report's section on {}", cube.name))?);
        Ok(())
    }

    /// The whole document.
    pub fn html(&self, report: &Report) -> Result<String> {
        let title = if report.title.is_empty() { "coreloss" } else { &report.title };
        let body = html! {
            @if let Some(note) = report.note { p.note { (note) } }
            (self.found(report))
            @if !report.facts.is_empty() {
                dl.facts {
                    @for (name, value) in &report.facts { div { dt { (name) } dd { (value) } } }
                }
            }
            @if self.rows.len() > 1 { (self.overview()) }
            @for section in &self.sections { (section) }
            @if !report.loss.is_empty() { (training(report)?) }
            @if !report.failed_inputs.is_empty() { (failed_inputs(report)) }
            @if !report.config_yaml.is_empty() {
                details { summary { "Configuration" } pre { (report.config_yaml) } }
            }
            footer { "coreloss " (report.version) ". Each map lies beside this page as a PNG." }
        };
        Ok(frame::page(title, &body))
    }

    /// What was found, one sentence for each cube.
    fn found(&self, report: &Report) -> Markup {
        let cubes = self.rows.len();
        html! {
            @if cubes == 0 {
                p.found { "No cube was scored." }
            } @else {
                ul.found { @for item in &self.found { (item) } }
            }
            @if cubes > MOST_CUBES {
                p.note {
                    "The first " (MOST_CUBES) " of " (cubes) " cubes are shown in full; the table has all of them."
                }
            }
            @if !report.failed_inputs.is_empty() {
                p.warning { a href="#failed" { (counted(report.failed_inputs.len(), "input")) " set aside." } }
            }
        }
    }

    /// The table of all cubes.
    fn overview(&self) -> Markup {
        html! {
            h2 { "Cubes" }
            table {
                thead {
                    tr {
                        th { "cube" }
                        @for name in
                            ["y × x × energy", "regions", "flagged", "strongest region", "threshold", "AUROC"]
                        { th.n { (name) } }
                    }
                }
                tbody { @for row in &self.rows { (row) } }
            }
        }
    }
}

/// A cube's row of the overview.
fn row(cube: &Cube, name: &Markup) -> Markup {
    let [rows, columns, channels] = cube.shape;
    let highest = cube.regions.iter().map(|region| f64::from(region.max_score));
    let map = cube.default_map();
    let dash_unless_finite = |value: Option<f64>| value.filter(|value| value.is_finite()).map_or("–".into(), number);
    html! {
        tr {
            td { (name) }
            td.n { (rows) " × " (columns) " × " (channels) }
            td.n { (cube.regions.len()) }
            td.n { (map.map_or("–".into(), |map| map.found.flagged.to_string())) }
            td.n { (dash_unless_finite(highest.reduce(f64::max))) }
            td.n { (dash_unless_finite(map.map(|map| map.threshold().into()))) }
            td.n { (dash_unless_finite(map.and_then(|map| map.found.auroc))) }
        }
    }
}

fn training(report: &Report) -> Result<Markup> {
    let validated = report.loss.iter().any(|point| point.validation.is_some());
    let keys = html! {
        (key(&css(BLUE), "", "training"))
        @if validated { (key(&css(VERMILLION), "", "validation")) }
    };
    let steps = |title: &str, words: &str, value: fn(&StepPoint) -> f64| -> Result<Markup> {
        let points: Vec<(f64, f64)> = report.steps.iter().map(|point| (point.step as f64, value(point))).collect();
        Ok(chart_figure(title, html! {}, chart::training(words, &points)?))
    };
    Ok(html! {
        section {
            h2 { "Training" }
            (chart_figure("Loss", keys, chart::loss(&report.loss)?))
            @if report.steps.len() > 1 {
                .charts {
                    (steps("Latent information", "nats per pixel", |point| point.kl)?)
                    (steps("Gradient", "norm of the gradient", |point| point.grad_norm)?)
                }
            }
        }
    })
}

fn failed_inputs(report: &Report) -> Markup {
    html! {
        section #failed {
            h2 { "Inputs set aside" }
            table {
                thead { tr { th { "input" } th { "reason" } } }
                tbody {
                    @for failed in &report.failed_inputs { tr { td { (failed.path) } td { (failed.reason) } } }
                }
            }
        }
    }
}
