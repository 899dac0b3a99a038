//! What a cube's section has below its first screen: folded, each part with a sentence on what it is for.

use anyhow::Result;
use maud::{Markup, html};

use super::chart;
use super::contents::{Cube, Map};
use super::cube_figures::{View, region_spectrum, score_map};
use super::figure::{Overlay, chart_figure, css, key, property_figure};
use super::models::{components, latent};
use super::plot::{BLUE, VERMILLION};
use super::text::number;
use super::verdict::choice;
use super::words::{difference, odds, probability, with_error};
use crate::results::RegionSummary;

/// Longest side of a map, CSS pixels.
const SIDE: usize = 340;
/// Excess, nats a pixel, below which a network has learned the noise of a cube.
const BY_HEART: f64 = -1.0;
/// Regions in the table, and those with a spectrum; the cube's own file has all.
pub const LISTED: usize = 20;
const DRAWN: usize = 6;

/// All folds of `cube`, whose regions have the places from `first` on among those of the page.
pub fn folds(cube: &Cube, overlay: &Overlay, first: usize) -> Result<Markup> {
    Ok(html! {
        @if !cube.regions.is_empty() {
            (fold("Every region", "All figures of each region, and its mean spectrum over all energies.", regions(cube, first)?))
        }
        @if !cube.mean_spectrum.is_empty() {
            (fold("Mean spectrum", "Which edges the cube has, and the windows in which spectra were judged.", mean_spectrum(cube)?))
        }
        (fold("All maps", "To see by which method and which score a region stands out.", maps(cube, overlay)?))
        @if !cube.maps.is_empty() {
            (fold("Thresholds", "What each map flags, and how well it finds the truth where that is known.", scores_table(cube)))
            (fold("Distribution of the scores", "Whether flagged pixels lie apart from all others.", histograms(cube)?))
        }
        @if !cube.excess_nats.is_empty() {
            (fold("How well the models explain the spectra", "Which map to trust.", excess(cube)))
        }
        @if !cube.components.is_empty() {
            (fold("Principal components", "What varies over the cube, by linear analysis.", components(cube, overlay)?))
        }
        @if !cube.latent.is_empty() {
            (fold("Latent code of the 3D-CVAE", "What the network took note of: the dimensions that vary most.", latent(cube, overlay)?))
        }
        @if !cube.provenance.is_empty() {
            (fold("Provenance", "Where the spectra come from, and where the results lie.", html! {
                dl { @for (name, value) in &cube.provenance { dt { (name) } dd { (value) } } }
            }))
        }
    })
}

/// A part of the page that is closed until it is asked for; `purpose` says what it is for.
pub fn fold(title: &str, purpose: &str, content: Markup) -> Markup {
    html! { details { summary { h3 { (title) } " " span.note { (purpose) } } (content) } }
}

/// What was measured of each pixel, then a row of maps for each score.
fn maps(cube: &Cube, overlay: &Overlay) -> Result<Markup> {
    Ok(html! {
        @if !cube.properties.is_empty() {
            .maps { @for property in &cube.properties { (property_figure(property, cube, overlay)?) } }
        }
        @for score in cube.scores() {
            .maps { @for map in cube.maps_of(score) { (score_map(map, cube, overlay, SIDE)?) } }
        }
    })
}

/// Thresholds and, where there is truth, metrics of all maps.
fn scores_table(cube: &Cube) -> Markup {
    let judged = cube.maps.iter().any(|map| map.found.auroc.is_some());
    let metric = |value: Option<f64>| value.filter(|v| v.is_finite()).map_or("n/a".into(), |v| format!("{v:.3}"));
    let threshold = |map: &Map| match map.is_odds() {
        true => format!("{} probability", probability(map.threshold().into())),
        false => number(map.threshold().into()),
    };
    html! {
        table {
            thead {
                tr {
                    th { "method" }
                    th { "score" }
                    th.n { "flagged above" }
                    th.n { "flagged pixels" }
                    @if judged {
                        @for name in ["AUROC", "average precision", "best F1", "F1", "precision", "recall"] {
                            th.n { (name) }
                        }
                    }
                }
            }
            tbody {
                @for map in cube.scores().into_iter().flat_map(|score| cube.maps_of(score)) {
                    @let found = &map.found;
                    tr.default[map.is_default] {
                        td { (map.method) }
                        td { (map.score) }
                        td.n { (threshold(map)) }
                        td.n { (found.flagged) }
                        @if judged {
                            @for value in [
                                found.auroc, found.average_precision, found.best_f1, found.f1, found.precision, found.recall
                            ] { td.n { (metric(value)) } }
                        }
                    }
                }
            }
        }
    }
}

/// How well each model explains the spectra, and whether the network was worth its training.
fn excess(cube: &Cube) -> Markup {
    let mut models: Vec<(&String, &f64)> = cube.excess_nats.iter().collect();
    models.sort_by(|a, b| a.1.total_cmp(b.1));
    let list: Vec<String> = models.iter().map(|(name, nats)| format!("{name} {nats:.1}")).collect();
    // Components fitted to the cube have seen the pixel that they explain, its anomaly too.
    let rival = models.iter().find(|(name, _)| ["context", "mean"].contains(&name.as_str()));
    html! {
        p { "Nats a pixel above the noise; 0 is a perfect model: " (list.join(", ")) "." }
        @if let (Some(network), Some((name, nats))) = (cube.excess_nats.get("cvae"), rival) {
            p {
                @if network < *nats { "The network explains them better than the linear " b { (name) } " does." }
                @else { "The network has added nothing here: trust the map of " b { (name) } " as much." }
            }
        }
        @if cube.excess_nats.get("cvae").is_some_and(|network| *network < BY_HEART) {
            p {
                "No model is better than the noise: the network has learned these spectra by heart, and anomalies with them. \
                 Trust the other maps here, or let it learn from another cube (archive.train_inputs)."
            }
        }
    }
}

fn mean_spectrum(cube: &Cube) -> Result<Markup> {
    let title = format!(
        "Mean spectrum{}{}",
        if cube.windows.is_empty() { "" } else { ", windows of the scores shaded" },
        if cube.edges.is_empty() { "" } else { ", edges that were found dashed" }
    );
    Ok(chart_figure(&title, html! {}, chart::mean_spectrum(cube)?))
}

/// Histograms of the default score.
fn histograms(cube: &Cube) -> Result<Markup> {
    let keys = html! {
        @if cube.truth.is_some() {
            (key(&css(BLUE), "fill", "normal"))
            (key(&css(VERMILLION), "fill", "anomalous"))
        }
    };
    let mut histograms = Vec::new();
    for map in cube.default_map().map_or(Vec::new(), |default| cube.maps_of(&default.score)) {
        if let Some(svg) = chart::histogram(map, cube.truth.as_ref())? {
            histograms.push(chart_figure(&format!("Pixels by {} score", map.title()), keys.clone(), svg));
        }
    }
    Ok(html! { .charts { @for figure in &histograms { (figure) } } })
}

/// The table of regions, and the spectra of the strongest.
fn regions(cube: &Cube, first: usize) -> Result<Markup> {
    let count = cube.regions.len();
    Ok(html! {
        table {
            thead {
                tr {
                    @for name in ["region", "y", "x", "pixels", "highest odds", "mean odds"] { th.n { (name) } }
                    th { "what differs" }
                    th.n { "shift (eV)" }
                    th.n { "change (%)" }
                    th { "most at (eV)" }
                    th { "verdict" }
                }
            }
            tbody { @for (i, region) in (0..).zip(cube.regions.iter().take(LISTED)) { (region_row(region, first + i)) } }
        }
        @if count > LISTED { p.note { "The strongest " (LISTED) " of " (count) "." } }
        .charts {
            @for region in cube.regions.iter().take(DRAWN) { (region_spectrum(cube, region, View::Whole)?) }
        }
    })
}

fn region_row(region: &RegionSummary, index: usize) -> Markup {
    let shift = region.estimated_shift_ev.zip(region.shift_error_ev);
    let change = region.change.map(|change| (change.percent, change.error_percent));
    let amount = |found: Option<(f64, f64)>| found.map_or("–".into(), |(value, error)| with_error(value, error));
    let ranges: Vec<String> = region.energies_ev.iter().map(|[low, high]| format!("{low:.1}–{high:.1}")).collect();
    html! {
        tr {
            td.n { (region.label) }
            td.n { (format!("{:.1}", region.y)) }
            td.n { (format!("{:.1}", region.x)) }
            td.n { (region.area) }
            td.n { (odds(region.max_score.into())) }
            td.n { (odds(region.mean_score)) }
            td { (difference(region)) }
            td.n { (amount(shift)) }
            td.n { (amount(change)) }
            td { (ranges.join(", ")) }
            td { (choice(region, index)) }
        }
    }
}
