//! One cube's section of the page: sentence, maps, tables, spectra.

use std::fmt::Write as _;

use anyhow::Result;

use super::chart;
use super::figure::{self, NUMBERED, Overlay, css, key};
use super::inside;
use super::picture::Quantity;
use super::plot::{BLUE, INK, VERMILLION};
use super::text::{counted, escape, number, percent};
use super::{Cube, Map, Region};

/// Regions in the table; the cube's own file has all.
const LISTED: usize = 20;

/// What was found in `cube`, one sentence, HTML.
pub fn sentence(cube: &Cube) -> String {
    let Some(map) = default_map(cube) else {
        return "was not scored.".into();
    };
    let by = format!("by <b>{} {}</b>", escape(&map.method), escape(&map.score));
    let scored = map.values.iter().filter(|v| !v.is_nan()).count();
    if scored == 0 {
        return format!("all of its pixels are ignored {by}.");
    }
    let threshold = number(map.threshold as f64);
    if map.flagged == 0 {
        return format!("nothing stands out {by}: no pixel is above the threshold {threshold}.");
    }
    let share = percent(map.flagged as f64 / scored as f64);
    let pixels = format!("{} ({share} of the map)", counted(map.flagged, "pixel"));
    let Some(strongest) = strongest_first(cube).first().copied() else {
        return format!("{pixels} above the threshold {threshold} {by}, too few together for a region.");
    };
    let mut sentence = format!(
        "<b>{}</b>, {pixels} above the threshold {threshold} {by}; the strongest, around y {}, x {}, reaches {}",
        counted(cube.regions.len(), "region"),
        number(strongest.y.round()),
        number(strongest.x.round()),
        number(strongest.max_score),
    );
    if let Some((shift, _)) = strongest.estimated_shift_ev {
        let _ = write!(sentence, " (edge shifted by about {} eV)", number(shift));
    }
    if let Some(metrics) = &map.metrics {
        let _ = write!(
            sentence,
            ". Against the truth: AUROC {}, average precision {}",
            number(metrics.auroc),
            number(metrics.average_precision)
        );
    }
    sentence.push('.');
    sentence
}

/// The map that the regions come from: the one marked so, or the first.
pub fn default_map(cube: &Cube) -> Option<&Map> {
    cube.maps.iter().find(|map| map.is_default).or(cube.maps.first())
}

fn strongest_first(cube: &Cube) -> Vec<&Region> {
    let mut regions: Vec<&Region> = cube.regions.iter().collect();
    // NaN last.
    let strength = |region: &Region| {
        if region.max_score.is_nan() { f64::NEG_INFINITY } else { region.max_score }
    };
    regions.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
    regions
}

/// The section of `cube`, HTML, reachable as `#cube-INDEX`.
pub fn html(cube: &Cube, index: usize) -> Result<String> {
    let regions = strongest_first(cube);
    let [rows, columns, channels] = cube.shape;
    let mut html = format!(
        "<section class=\"cube\" id=\"cube-{index}\">\n<h2>{}</h2>\n<p class=\"found\">{}</p>\n\
         <p class=\"note\">{rows} &times; {columns} pixels (y &times; x), {channels} channels{}</p>\n",
        escape(&cube.name),
        capitalized(sentence(cube)),
        energy_range(cube),
    );
    let overlay = Overlay::new(&cube.labels, cube.truth.as_ref(), &regions, cube.pixel_size.as_ref());
    maps(&mut html, cube, &overlay)?;
    metrics_table(&mut html, cube);
    spectra(&mut html, cube)?;
    regions_part(&mut html, cube, &regions)?;
    html.push_str(&inside::html(cube, &overlay)?);
    provenance(&mut html, cube);
    html.push_str("</section>\n");
    Ok(html)
}

fn provenance(html: &mut String, cube: &Cube) {
    if cube.provenance.is_empty() {
        return;
    }
    html.push_str("<h3>Provenance</h3>\n<dl>\n");
    for (name, value) in &cube.provenance {
        let (name, value) = (escape(name), escape(value));
        let _ = writeln!(html, "<dt>{name}</dt><dd>{value}</dd>");
    }
    html.push_str("</dl>\n");
}

fn capitalized(sentence: String) -> String {
    let mut letters = sentence.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => sentence,
    }
}

fn energy_range(cube: &Cube) -> String {
    match (cube.energy_ev.first(), cube.energy_ev.last()) {
        (Some(&low), Some(&high)) => format!(", {} to {} eV", number(low), number(high)),
        _ => String::new(),
    }
}

/// The mean image, then a row of maps for each score, the default's first, the methods in one order: CVAE, then PCA.
fn maps(html: &mut String, cube: &Cube, overlay: &Overlay) -> Result<()> {
    html.push_str("<h3>Maps</h3>\n");
    html.push_str(&figure::outline_legend(cube.truth.is_some()));
    html.push_str("<div class=\"maps\">\n");
    let label = format!("Mean image of {}", cube.name);
    html.push_str(&figure::map(
        &cube.mean_image,
        Quantity::Intensity,
        None,
        overlay,
        &label,
        "<b>mean image</b><br>counts per channel",
    )?);
    for property in &cube.properties {
        html.push_str(&inside::property(property, cube, overlay)?);
    }
    for (row, score) in scores(cube).into_iter().enumerate() {
        // What was measured takes a row of its own.
        if row > 0 || !cube.properties.is_empty() {
            html.push_str("</div>\n<div class=\"maps\">\n");
        }
        for map in methods(cube, score) {
            let mark = if map.is_default { " <em>default</em>" } else { "" };
            let caption = format!(
                "<b>{} {}</b>{mark}<br>{} flagged",
                escape(&map.method),
                escape(&map.score),
                counted(map.flagged, "pixel")
            );
            let label = format!("{} {} score of {}", map.method, map.score, cube.name);
            html.push_str(&figure::map(&map.values, Quantity::Score, Some(map.threshold), overlay, &label, &caption)?);
        }
    }
    html.push_str("</div>\n");
    Ok(())
}

/// The scores that the maps have, each once, the default's first.
fn scores(cube: &Cube) -> Vec<&str> {
    let mut scores: Vec<&str> = Vec::new();
    for map in default_map(cube).into_iter().chain(&cube.maps) {
        if !scores.contains(&map.score.as_str()) {
            scores.push(&map.score);
        }
    }
    scores
}

/// The maps of one score: CVAE first, the others in their order.
fn methods<'a>(cube: &'a Cube, score: &str) -> Vec<&'a Map> {
    let mut maps: Vec<&Map> = cube.maps.iter().filter(|map| map.score == score).collect();
    maps.sort_by_key(|map| map.method != "cvae");
    maps
}

fn metrics_table(html: &mut String, cube: &Cube) {
    if cube.maps.is_empty() {
        return;
    }
    let judged = cube.maps.iter().any(|map| map.metrics.is_some());
    html.push_str(
        "<h3>Scores</h3>\n<table><thead><tr><th>method</th><th>score</th><th class=\"n\">threshold</th>\
         <th class=\"n\">flagged</th>",
    );
    if judged {
        for name in ["AUROC", "average precision", "best F1", "F1", "precision", "recall"] {
            let _ = write!(html, "<th class=\"n\">{name}</th>");
        }
    }
    html.push_str("</tr></thead><tbody>\n");
    for score in scores(cube) {
        for map in methods(cube, score) {
            let class = if map.is_default { " class=\"default\"" } else { "" };
            let _ = write!(
                html,
                "<tr{class}><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
                escape(&map.method),
                escape(&map.score),
                number(map.threshold as f64),
                map.flagged
            );
            if judged {
                let figures = map
                    .metrics
                    .map_or([f64::NAN; 6], |m| [m.auroc, m.average_precision, m.best_f1, m.f1, m.precision, m.recall]);
                for figure in figures {
                    let text = if figure.is_finite() { format!("{figure:.3}") } else { "n/a".into() };
                    let _ = write!(html, "<td class=\"n\">{text}</td>");
                }
            }
            html.push_str("</tr>\n");
        }
    }
    html.push_str("</tbody></table>\n");
}

/// Mean spectrum and histograms.
fn spectra(html: &mut String, cube: &Cube) -> Result<()> {
    if !cube.mean_spectrum.is_empty() {
        let svg = chart::mean_spectrum(cube)?;
        let mut title = "Mean spectrum".to_string();
        if !cube.windows.is_empty() {
            title.push_str(", windows of the scores shaded");
        }
        if !cube.edges.is_empty() {
            title.push_str(", edges that were found dashed");
        }
        html.push_str("<h3>Mean spectrum</h3>\n");
        chart_figure(html, &title, "", &svg);
    }
    let mut charts = String::new();
    if let Some(default) = default_map(cube) {
        let keys = if cube.truth.is_some() {
            key(&css(BLUE), " fill", "normal") + &key(&css(VERMILLION), " fill", "anomalous")
        } else {
            String::new()
        };
        for map in methods(cube, &default.score) {
            if let Some(svg) = chart::histogram(map, cube.truth.as_ref())? {
                let title = format!("Pixels by {} {} score", escape(&map.method), escape(&map.score));
                chart_figure(&mut charts, &title, &keys, &svg);
            }
        }
    }
    if !charts.is_empty() {
        let _ = write!(html, "<h3>Distribution of the scores</h3>\n<div class=\"charts\">\n{charts}</div>\n");
    }
    Ok(())
}

/// The table of regions, and the spectra of the strongest.
fn regions_part(html: &mut String, cube: &Cube, regions: &[&Region]) -> Result<()> {
    if regions.is_empty() {
        return Ok(());
    }
    html.push_str(
        "<h3>Regions</h3>\n<table><thead><tr><th class=\"n\">region</th><th class=\"n\">y</th><th class=\"n\">x</th>\
         <th class=\"n\">pixels</th><th class=\"n\">highest score</th><th class=\"n\">mean score</th>\
         <th>differs in</th><th class=\"n\">estimated shift (eV)</th><th>most at (eV)</th></tr></thead><tbody>\n",
    );
    for region in regions.iter().take(LISTED) {
        let shift = region
            .estimated_shift_ev
            .map_or("&ndash;".into(), |(shift, error)| format!("{} &plusmn; {}", number(shift), number(error)));
        let ranges = region.energies_ev.iter();
        let ranges: Vec<String> = ranges.map(|[low, high]| format!("{low:.1}&ndash;{high:.1}")).collect();
        let _ = writeln!(
            html,
            "<tr><td class=\"n\">{}</td><td class=\"n\">{:.1}</td><td class=\"n\">{:.1}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{shift}</td><td>{}</td></tr>",
            region.label,
            region.y,
            region.x,
            region.area,
            number(region.max_score),
            number(region.mean_score),
            escape(&region.differs),
            ranges.join(", "),
        );
    }
    html.push_str("</tbody></table>\n");
    if regions.len() > LISTED {
        let _ = writeln!(html, "<p class=\"note\">The strongest {LISTED} of {}.</p>", regions.len());
    }
    html.push_str("<div class=\"charts\">\n");
    let keys = key(&css(INK), "", "measured") + &key(&css(VERMILLION), "", "reconstruction");
    for region in regions.iter().take(NUMBERED).filter(|region| !region.spectrum.is_empty()) {
        let title = format!("Region {}, mean of {}", region.label, counted(region.area, "pixel"));
        let svg = chart::region(&cube.energy_ev, region, &cube.windows)?;
        let keys = if region.reconstruction.is_empty() { "" } else { &keys };
        chart_figure(html, &title, keys, &svg);
    }
    html.push_str("</div>\n");
    Ok(())
}

/// A chart under its `title` and legend `keys` (all HTML).
pub fn chart_figure(html: &mut String, title: &str, keys: &str, svg: &str) {
    let _ = writeln!(html, "<figure class=\"plot\"><figcaption><b>{title}</b>{keys}</figcaption>{svg}</figure>");
}
