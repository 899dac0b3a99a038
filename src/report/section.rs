//! One cube's section of the page: what is read in ten seconds. All else follows it, folded, in [`folds`](super::folds).

use anyhow::Result;
use maud::{Markup, PreEscaped, html};

use super::contents::{Cube, Map};
use super::cube_figures::{View, region_spectrum, score_map};
use super::figure::{self, NUMBERED, Overlay, outline_legend};
use super::folds::{LISTED, folds};
use super::picture::Quantity;
use super::text::{counted, number, percent};
use super::verdict::choice;
use super::words::{by_chance, difference, probability};
use crate::results::RegionSummary;

/// Longest side of a map of the first screen, CSS pixels: three stand beside the table.
const SIDE: usize = 280;
/// Regions whose spectra are on the first screen.
const DRAWN: usize = 3;

/// What was found in `cube`, one sentence.
pub fn sentence(cube: &Cube) -> Markup {
    let Some(map) = cube.default_map() else {
        return html! { "was not scored." };
    };
    let scored = map.values.iter().filter(|v| !v.is_nan()).count();
    if scored == 0 {
        return html! { "all of its pixels are ignored by " b { (map.title()) } "." };
    }
    let flagged = map.found.flagged;
    if flagged == 0 {
        return html! { "nothing stands out by " b { (map.title()) } ": no pixel is " (above(map)) "." };
    }
    let pixels = format!("{} ({} of the map)", counted(flagged, "pixel"), percent(flagged as f64 / scored as f64));
    if cube.regions.is_empty() {
        return html! { (pixels) " " (above(map)) " by " b { (map.title()) } ", too few together for a region." };
    }
    let apart = cube.regions.len() - cube.new_regions().count();
    let Some(strongest) = cube.new_regions().next() else {
        return html! { "nothing new: verdicts set all " (counted(apart, "region")) " apart." };
    };
    html! {
        b { (counted(cube.regions.len(), "region")) }
        @if apart > 0 { ", " (apart) " of them set apart by verdicts," } " in " (pixels) " " (above(map)) " by " b { (map.title()) }
        ". The strongest, around " (place(strongest)) ": " b { (difference(strongest)) } " in "
        (counted(strongest.area, "pixel")) "."
    }
}

/// What a pixel of `map` is that is flagged.
fn above(map: &Map) -> String {
    let threshold = f64::from(map.threshold());
    match map.is_odds() {
        true => format!("anomalous with a probability above {}", probability(threshold)),
        false => format!("above the threshold {}", number(threshold)),
    }
}

fn place(region: &RegionSummary) -> String {
    format!("y {:.0}, x {:.0}", region.y, region.x)
}

/// The section of `cube`, reachable as `#cube-INDEX`; the page `explore` beside this one explores it, and
/// its regions have the places from `first` on among those of the page.
pub fn section(cube: &Cube, index: usize, explore: Option<&str>, first: usize) -> Result<Markup> {
    let [rows, columns, channels] = cube.shape;
    let overlay = Overlay::new(cube);
    let range = cube.energy_ev.first().zip(cube.energy_ev.last());
    Ok(html! {
        section.cube id={ "cube-" (index) } {
            h2 { (cube.name) }
            p.found {
                (capitalized(sentence(cube)))
                @if let Some(page) = explore { " " a href=(page) { "Explore its spectra." } }
            }
            @for problem in &cube.problems { p.note { "Doubtful: " (problem) "." } }
            .first {
                (maps(cube, &overlay)?)
                @if !cube.regions.is_empty() { (regions(cube, first, explore)) }
            }
            .charts.strongest {
                @for region in cube.new_regions().take(DRAWN) { (region_spectrum(cube, region, View::Window)?) }
            }
            p.note {
                (rows) " × " (columns) " pixels (y × x), " (channels) " channels"
                @if let Some((&low, &high)) = range { ", " (number(low)) " to " (number(high)) " eV" }
                ". What follows is folded."
            }
            (folds(cube, &overlay, first)?)
        }
    })
}

fn capitalized(sentence: Markup) -> Markup {
    let mut letters = sentence.0.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    PreEscaped(first.chain(letters).collect())
}

/// The mean image, the default map, and the same score of another method.
fn maps(cube: &Cube, overlay: &Overlay) -> Result<Markup> {
    let caption = html! { b { "mean image" } br; "counts per channel" };
    let label = format!("Mean image of {}", cube.name);
    let mean_image = figure::map(&cube.mean_image, Quantity::Intensity, None, overlay, SIDE, &label, caption)?;
    Ok(html! {
        .maps {
            (mean_image)
            @if let Some(map) = cube.default_map() { (score_map(map, cube, overlay, SIDE)?) }
            @if let Some(map) = cube.rival_map() { (score_map(map, cube, overlay, SIDE)?) }
        }
        (outline_legend(cube.truth.is_some()))
    })
}

/// The table of the regions that have their number on the maps; below it those that verdicts set apart.
fn regions(cube: &Cube, first: usize, explore: Option<&str>) -> Markup {
    let count = cube.new_regions().count();
    let place_of = |region: &RegionSummary| cube.regions.iter().position(|other| other.label == region.label);
    let number_of = |region: &RegionSummary| match explore {
        Some(page) => html! { a href={ (page) "#region-" (region.label) } { (region.label) } },
        None => html! { (region.label) },
    };
    let judged = |region: &RegionSummary| match place_of(region) {
        Some(place) if place < LISTED => choice(region, first + place),
        _ => html! {},
    };
    html! {
        .findings {
            @if count > 0 {
                table {
                    thead { tr { th { "region" } th { "what differs" } th { "by chance" } } }
                    tbody {
                        @for region in cube.new_regions().take(NUMBERED) {
                            tr {
                                td { b { (number_of(region)) } br; span.note { (place(region)) } }
                                td {
                                    b { (difference(region)) } br;
                                    span.note { "in " (counted(region.area, "pixel")) } " "
                                    (judged(region))
                                }
                                td { (by_chance(region.surprise)) }
                            }
                        }
                    }
                }
                p.note {
                    @if count > NUMBERED { "The strongest " (NUMBERED) " of " (count) "; all are listed below. " }
                    "By chance: how often such a region appears in maps of normal spectra."
                }
            }
            @if count < cube.regions.len() { (set_apart(cube, judged)) }
        }
    }
}

/// The regions that verdicts set apart, with the reasons.
fn set_apart(cube: &Cube, judged: impl Fn(&RegionSummary) -> Markup) -> Markup {
    let found = cube.regions.iter().filter_map(|region| Some((region, cube.set_apart(region)?)));
    html! {
        h3 { "Set apart by verdicts" }
        table {
            tbody {
                @for (region, verdict) in found {
                    tr {
                        td { b { (region.label) } br; span.note { (place(region)) } }
                        td {
                            (difference(region)) " in " (counted(region.area, "pixel")) br;
                            b { (verdict.verdict) } ", " (verdict.reason) br; (judged(region))
                        }
                    }
                }
            }
        }
    }
}
