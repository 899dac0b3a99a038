//! One cube's section of the page: sentence, maps, tables, spectra.

use anyhow::Result;
use maud::{Markup, PreEscaped, html};
use ndarray::{Array2, ArrayView1};

use super::chart;
use super::contents::{Cube, Map};
use super::figure::{self, NUMBERED, Overlay, chart_figure, css, key, outline_legend, property_figure};
use super::models::models;
use super::picture::Quantity;
use super::plot::{BLUE, INK, VERMILLION};
use super::text::{counted, number, percent};
use crate::results::RegionSummary;

/// Excess, nats a pixel, below which a network has learned the noise of a cube.
const BY_HEART: f64 = -1.0;
/// Regions in the table; the cube's own file has all.
const LISTED: usize = 20;

/// What was found in `cube`, one sentence.
pub fn sentence(cube: &Cube) -> Markup {
    let Some(map) = cube.default_map() else {
        return html! { "was not scored." };
    };
    let by = html! { "by " b { (map.title()) } };
    let scored = map.values.iter().filter(|v| !v.is_nan()).count();
    if scored == 0 {
        return html! { "all of its pixels are ignored " (by) "." };
    }
    let threshold = number(map.threshold().into());
    let flagged = map.found.flagged;
    if flagged == 0 {
        return html! { "nothing stands out " (by) ": no pixel is above the threshold " (threshold) "." };
    }
    let share = percent(flagged as f64 / scored as f64);
    let pixels = format!("{} ({share} of the map)", counted(flagged, "pixel"));
    let Some(strongest) = cube.regions.first() else {
        return html! { (pixels) " above the threshold " (threshold) " " (by) ", too few together for a region." };
    };
    html! {
        b { (counted(cube.regions.len(), "region")) }
        ", " (pixels) " above the threshold " (threshold) " " (by)
        "; the strongest, around y " (number(strongest.y.round())) ", x " (number(strongest.x.round()))
        ", reaches " (number(strongest.max_score.into()))
        @if let Some(shift) = strongest.estimated_shift_ev { " (edge shifted by about " (number(shift)) " eV)" }
        @if let Some(auroc) = map.found.auroc {
            ". Against the truth: AUROC " (number(auroc))
            ", average precision " (number(map.found.average_precision.unwrap_or(f64::NAN)))
        }
        "."
    }
}

/// The section of `cube`, reachable as `#cube-INDEX`.
pub fn section(cube: &Cube, index: usize) -> Result<Markup> {
    let [rows, columns, channels] = cube.shape;
    let overlay = Overlay::new(cube);
    let range = cube.energy_ev.first().zip(cube.energy_ev.last());
    Ok(html! {
        section.cube id={ "cube-" (index) } {
            h2 { (cube.name) }
            p.found { (capitalized(sentence(cube))) }
            p.note {
                (rows) " × " (columns) " pixels (y × x), " (channels) " channels"
                @if let Some((&low, &high)) = range { ", " (number(low)) " to " (number(high)) " eV" }
            }
            @for problem in &cube.problems { p.note { "Doubtful: " (problem) "." } }
            (maps(cube, &overlay)?)
            @if !cube.maps.is_empty() { (scores_table(cube)) }
            @if !cube.excess_nats.is_empty() { (excess(cube)) }
            (spectra(cube)?)
            @if !cube.regions.is_empty() { (regions(cube)?) }
            (models(cube, &overlay)?)
            @if !cube.provenance.is_empty() {
                h3 { "Provenance" }
                dl { @for (name, value) in &cube.provenance { dt { (name) } dd { (value) } } }
            }
        }
    })
}

fn capitalized(sentence: Markup) -> Markup {
    let mut letters = sentence.0.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    PreEscaped(first.chain(letters).collect())
}

/// The mean image and what was measured of each pixel, then a row of maps for each score.
fn maps(cube: &Cube, overlay: &Overlay) -> Result<Markup> {
    let caption = html! { b { "mean image" } br; "counts per channel" };
    let label = format!("Mean image of {}", cube.name);
    let mean_image = figure::map(&cube.mean_image, Quantity::Intensity, None, overlay, &label, caption)?;
    let score_map = |map: &Map| {
        let caption = html! {
            b { (map.title()) }
            @if map.is_default { " " em { "default" } }
            br;
            (counted(map.found.flagged, "pixel")) " flagged"
        };
        let label = format!("{} score of {}", map.title(), cube.name);
        figure::map(&map.values, Quantity::Score, Some(map.threshold()), overlay, &label, caption)
    };
    let mut scores = cube.scores().into_iter();
    // The first score shares the row of the mean image, unless there are properties.
    let beside = if cube.properties.is_empty() { scores.next() } else { None };
    Ok(html! {
        h3 { "Maps" }
        (outline_legend(cube.truth.is_some()))
        .maps {
            (mean_image)
            @for property in &cube.properties { (property_figure(property, cube, overlay)?) }
            @for map in beside.into_iter().flat_map(|score| cube.maps_of(score)) { (score_map(map)?) }
        }
        @for score in scores {
            .maps { @for map in cube.maps_of(score) { (score_map(map)?) } }
        }
    })
}

/// Thresholds and, where there is truth, metrics of all maps.
fn scores_table(cube: &Cube) -> Markup {
    let judged = cube.maps.iter().any(|map| map.found.auroc.is_some());
    let metric = |value: Option<f64>| value.filter(|v| v.is_finite()).map_or("n/a".into(), |v| format!("{v:.3}"));
    html! {
        h3 { "Scores" }
        table {
            thead {
                tr {
                    th { "method" }
                    th { "score" }
                    th.n { "threshold" }
                    th.n { "flagged" }
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
                        td.n { (number(map.threshold().into())) }
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
        h3 { "How well the models explain the spectra" }
        p.note { "Nats a pixel above the noise; 0 is a perfect model: " (list.join(", ")) "." }
        @if let (Some(network), Some((name, nats))) = (cube.excess_nats.get("cvae"), rival) {
            p.note {
                @if network < *nats { "The network explains them better than the linear " b { (name) } " does." }
                @else { "The network has added nothing here: trust the map of " b { (name) } " as much." }
            }
        }
        @if cube.excess_nats.get("cvae").is_some_and(|network| *network < BY_HEART) {
            p.note {
                "No model is better than the noise: the network has learned these spectra by heart, and anomalies with them. \
                 Trust the other maps here, or let it learn from another cube (archive.train_inputs)."
            }
        }
    }
}

/// Mean spectrum and histograms of the default score.
fn spectra(cube: &Cube) -> Result<Markup> {
    let title = format!(
        "Mean spectrum{}{}",
        if cube.windows.is_empty() { "" } else { ", windows of the scores shaded" },
        if cube.edges.is_empty() { "" } else { ", edges that were found dashed" }
    );
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
    Ok(html! {
        @if !cube.mean_spectrum.is_empty() {
            h3 { "Mean spectrum" }
            (chart_figure(&title, html! {}, chart::mean_spectrum(cube)?))
        }
        @if !histograms.is_empty() {
            h3 { "Distribution of the scores" }
            .charts { @for figure in &histograms { (figure) } }
        }
    })
}

/// The table of regions, and the spectra of the strongest.
fn regions(cube: &Cube) -> Result<Markup> {
    let count = cube.regions.len();
    Ok(html! {
        h3 { "Regions" }
        table {
            thead {
                tr {
                    @for name in ["region", "y", "x", "pixels", "highest score", "mean score"] { th.n { (name) } }
                    th { "differs in" }
                    th.n { "estimated shift (eV)" }
                    th { "most at (eV)" }
                }
            }
            tbody { @for region in cube.regions.iter().take(LISTED) { (region_row(region)) } }
        }
        @if count > LISTED { p.note { "The strongest " (LISTED) " of " (count) "." } }
        .charts {
            @for region in cube.regions.iter().take(NUMBERED) { (region_spectrum(cube, region)?) }
        }
    })
}

fn region_row(region: &RegionSummary) -> Markup {
    let shift = region.estimated_shift_ev.zip(region.shift_error_ev);
    let ranges: Vec<String> = region.energies_ev.iter().map(|[low, high]| format!("{low:.1}–{high:.1}")).collect();
    html! {
        tr {
            td.n { (region.label) }
            td.n { (format!("{:.1}", region.y)) }
            td.n { (format!("{:.1}", region.x)) }
            td.n { (region.area) }
            td.n { (number(region.max_score.into())) }
            td.n { (number(region.mean_score)) }
            td { @if let Some(kind) = &region.kind { (kind.window) ", " (kind.differs) } }
            td.n { (shift.map_or("–".into(), |(shift, error)| format!("{} ± {}", number(shift), number(error)))) }
            td { (ranges.join(", ")) }
        }
    }
}

/// The mean spectrum of one region with its reconstruction; nothing where it was not kept.
fn region_spectrum(cube: &Cube, region: &RegionSummary) -> Result<Markup> {
    let Some(spectrum) = row_of(&cube.region_spectra, region.label) else {
        return Ok(html! {});
    };
    let reconstruction = row_of(&cube.region_reconstructions, region.label);
    let keys = html! {
        @if reconstruction.is_some() {
            (key(&css(INK), "", "measured"))
            (key(&css(VERMILLION), "", "reconstruction"))
        }
    };
    let title = format!("Region {}, mean of {}", region.label, counted(region.area, "pixel"));
    let svg = chart::region(&cube.energy_ev, region.label, spectrum, reconstruction, &cube.windows)?;
    Ok(chart_figure(&title, keys, svg))
}

/// The row of the region `label`, which counts from 1, if the table reaches so far.
fn row_of(table: &Option<Array2<f32>>, label: i32) -> Option<ArrayView1<'_, f32>> {
    let table = table.as_ref()?;
    let index = usize::try_from(label - 1).ok().filter(|&index| index < table.nrows())?;
    Some(table.row(index))
}
