//! The page: overview, the cubes' sections, training, configuration.

use anyhow::{Context, Result};
use maud::{Markup, html};

use super::chart;
use super::contents::{Cube, Report, StepPoint};
use super::figure::{chart_figure, css, key};
use super::folds::{LISTED, fold};
use super::frame;
use super::plot::{BLUE, VERMILLION};
use super::section;
use super::text::counted;
use super::verdict::{self, Judgeable};
use super::words::{by_chance, difference};

/// Cubes that the page shows in full: it must open in a browser for an archive of thousands too.
pub const MOST_CUBES: usize = 40;

/// The page of the cubes so far.
#[derive(Default)]
pub struct Page {
    /// A row of the overview for each cube.
    rows: Vec<Markup>,
    /// The regions that have a choice of verdicts.
    judgeable: Judgeable,
    /// A section for each of the first cubes.
    sections: Vec<Markup>,
}

impl Page {
    /// Where the section of the next cube will be, from a page beside.
    pub fn link(&self) -> String {
        if self.rows.len() < MOST_CUBES {
            format!("report.html#cube-{}", self.rows.len())
        } else {
            "report.html".into()
        }
    }

    /// Shows one more cube, which `explore` beside the page explores.
    pub fn add(&mut self, cube: &Cube, explore: Option<&str>) -> Result<()> {
        let index = self.rows.len();
        if index >= MOST_CUBES {
            self.rows.push(row(cube, &html! { (cube.name) }));
            return Ok(());
        }
        let link = html! { a href={ "#cube-" (index) } { (cube.name) } };
        self.rows.push(row(cube, &link));
        let first =
            self.judgeable.add((&cube.name, &cube.fingerprint), cube.regions.iter().take(LISTED), &cube.residuals);
        let section = section::section(cube, index, explore, first);
        self.sections.push(section.with_context(|| format!("drawing the report's section on {}", cube.name))?);
        Ok(())
    }

    /// The whole document.
    pub fn html(&self, report: &Report) -> Result<String> {
        let title = if report.title.is_empty() { "coreloss" } else { &report.title };
        let body = html! {
            @if let Some(note) = report.note { p.note { (note) } }
            (self.found(report))
            (self.judgeable.panel())
            @for section in &self.sections { (section) }
            @if !report.failed_inputs.is_empty() { (failed_inputs(report)) }
            h2 { "The run" }
            @if !report.facts.is_empty() {
                (fold("Facts", "What it ran on, and how long it took.", html! {
                    dl.facts {
                        @for (name, value) in &report.facts { div { dt { (name) } dd { (value) } } }
                    }
                }))
            }
            @if !report.loss.is_empty() {
                (fold("Training", "Whether the network had learned enough: the loss should level off.", training(report)?))
            }
            @if !report.config_yaml.is_empty() {
                (fold("Configuration", "All keys, to run it again.", html! { pre { (report.config_yaml) } }))
            }
            footer { "coreloss " (report.version) ". Each map lies beside this page as a PNG." }
        };
        Ok(frame::page(title, &body, &[verdict::SCRIPT]))
    }

    /// What was found, one sentence for each cube.
    fn found(&self, report: &Report) -> Markup {
        let cubes = self.rows.len();
        html! {
            @if cubes == 0 { p.found { "No cube was scored." } }
            @if cubes > 1 { (self.overview()) }
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
            table {
                thead {
                    tr { th { "cube" } th.n { "regions" } th.n { "pixels" } th { "the strongest region" } th { "by chance" } }
                }
                tbody { @for row in &self.rows { (row) } }
            }
        }
    }
}

/// A cube's row of the overview.
fn row(cube: &Cube, name: &Markup) -> Markup {
    let strongest = cube.new_regions().next();
    html! {
        tr {
            td { (name) }
            td.n { (cube.new_regions().count()) }
            td.n { (cube.default_map().map_or("–".into(), |map| map.found.flagged.to_string())) }
            td { (strongest.map_or("–".into(), difference)) }
            td { (strongest.map_or("–".into(), |region| by_chance(region.surprise))) }
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
        (chart_figure("Loss", keys, chart::loss(&report.loss)?))
        @if report.steps.len() > 1 {
            .charts {
                (steps("Latent information", "nats per pixel", |point| point.kl)?)
                (steps("Gradient", "norm of the gradient", |point| point.grad_norm)?)
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
