//! The page: overview, the cubes' sections, training, configuration.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::figure::{css, key};
use super::frame;
use super::plot::{BLUE, VERMILLION};
use super::section::{self, chart_figure};
use super::text::{counted, escape, number};
use super::{chart, Report, StepPoint, MOST_CUBES};

/// The whole document.
pub fn html(report: &Report) -> Result<String> {
    let title = if report.title.is_empty() {
        "coreloss"
    } else {
        &report.title
    };
    let mut html = String::new();
    found(&mut html, report);
    facts(&mut html, report);
    overview(&mut html, report);
    for (index, cube) in report.cubes.iter().take(MOST_CUBES).enumerate() {
        let section = section::html(cube, index)
            .with_context(|| format!("drawing the report's section on {}", cube.name))?;
        html.push_str(&section);
    }
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
fn found(html: &mut String, report: &Report) {
    if report.cubes.is_empty() {
        html.push_str("<p class=\"found\">No cube was scored.</p>\n");
    } else {
        html.push_str("<ul class=\"found\">\n");
        for (index, cube) in report.cubes.iter().take(MOST_CUBES).enumerate() {
            let _ = writeln!(
                html,
                "<li><a href=\"#cube-{index}\">{}</a>: {}</li>",
                escape(&cube.name),
                section::sentence(cube)
            );
        }
        html.push_str("</ul>\n");
    }
    if report.cubes.len() > MOST_CUBES {
        let _ = writeln!(
            html,
            "<p class=\"note\">The first {MOST_CUBES} of {} cubes are shown in full; the table has all of them.</p>",
            report.cubes.len()
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

fn facts(html: &mut String, report: &Report) {
    if report.facts.is_empty() {
        return;
    }
    html.push_str("<dl class=\"facts\">\n");
    for (name, value) in &report.facts {
        let _ = writeln!(
            html,
            "<div><dt>{}</dt><dd>{}</dd></div>",
            escape(name),
            escape(value)
        );
    }
    html.push_str("</dl>\n");
}

/// All cubes in a table, where there is more than one.
fn overview(html: &mut String, report: &Report) {
    if report.cubes.len() < 2 {
        return;
    }
    html.push_str(
        "<h2>Cubes</h2>\n<table><thead><tr><th>cube</th><th class=\"n\">y &times; x &times; energy</th>\
         <th class=\"n\">regions</th><th class=\"n\">flagged</th><th class=\"n\">strongest region</th>\
         <th class=\"n\">threshold</th><th class=\"n\">AUROC</th></tr></thead><tbody>\n",
    );
    for (index, cube) in report.cubes.iter().enumerate() {
        let name = escape(&cube.name);
        let link = if index < MOST_CUBES {
            format!("<a href=\"#cube-{index}\">{name}</a>")
        } else {
            name
        };
        let [rows, columns, channels] = cube.shape;
        let strongest = cube
            .regions
            .iter()
            .map(|r| r.max_score)
            .fold(f64::NAN, f64::max);
        let map = section::default_map(cube);
        let auroc = map
            .and_then(|map| map.metrics)
            .map_or(f64::NAN, |m| m.auroc);
        let _ = writeln!(
            html,
            "<tr><td>{link}</td><td class=\"n\">{rows} &times; {columns} &times; {channels}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            cube.regions.len(),
            map.map_or("&ndash;".into(), |map| map.flagged.to_string()),
            figure_or_dash(strongest),
            figure_or_dash(map.map_or(f64::NAN, |map| map.threshold as f64)),
            figure_or_dash(auroc),
        );
    }
    html.push_str("</tbody></table>\n");
}

fn figure_or_dash(value: f64) -> String {
    if value.is_finite() {
        number(value)
    } else {
        "&ndash;".into()
    }
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
            ("Latent information", "nats per patch", of(|point| point.kl)),
            (
                "Gradient",
                "norm of the gradient",
                of(|point| point.grad_norm),
            ),
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
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td></tr>",
            escape(path),
            escape(reason)
        );
    }
    html.push_str("</tbody></table>\n</section>\n");
}
