//! The page of a survey: its cubes, the most surprising first.

use anyhow::Result;
use maud::{Markup, html};
use ndarray::Array2;
use serde_json::{Value, json};

use super::across::{RankedKind, kinds_section};
use super::figure::{self, Overlay};
use super::frame;
use super::picture::{Quantity, READABLE_SIDE};
use super::text::{counted, number};
use super::verdict::{self, Judgeable, choice};
use super::words::difference;
use crate::config::ResidualSpectrum;
use crate::results::verdicts::Recognised;
use crate::results::{FailedInput, RegionSummary, Thumbnail};

/// A cube of the ranking.
pub struct RankedCube {
    pub name: String,
    pub group: String,
    pub input: String,
    /// Its results, relative to the page.
    pub output: String,
    pub shape: [usize; 3],
    /// Decimal logarithm; up to 0 where nothing is flagged.
    pub surprise: f64,
    pub fingerprint: String,
    /// Residual spectra of its first regions; none where the page shows no maps of the cube.
    pub residuals: Vec<ResidualSpectrum>,
    /// None where the page shows no maps of the cube.
    pub maps: Option<Thumbnail>,
    /// Each with its surprise.
    pub regions: Vec<(RegionSummary, f64)>,
    /// Those that verdicts set apart, with the reasons.
    pub apart: Vec<(RegionSummary, Recognised)>,
}

const SCRIPT: &str = include_str!("ranking.js");

/// Regions of a cube that the page lists.
const LISTED: usize = 5;

/// The whole document, self-contained; `cubes` have the most surprising first.
///
/// # Errors
/// Maps that cannot be drawn.
pub fn ranking_html(
    title: &str,
    cubes: &[RankedCube],
    kinds: &[RankedKind],
    set_aside: &[FailedInput],
) -> Result<String> {
    let flagged = cubes.iter().filter(|cube| !cube.regions.is_empty()).count();
    let mut judgeable = Judgeable::default();
    let mut sections = Vec::new();
    for (i, cube) in cubes.iter().enumerate().filter(|(_, cube)| cube.maps.is_some()) {
        let regions = cube.regions.iter().take(LISTED).map(|(region, _)| region);
        let first = judgeable.add((&cube.name, &cube.fingerprint), regions, &cube.residuals);
        sections.push(section(i, cube, first)?);
    }
    let body = html! {
        p.found { (counted(cubes.len(), "cube")) ", " (flagged) " of them flagged, " (set_aside.len()) " set aside." }
        p.note {
            "Surprise counts decades: at 3 it takes a thousand clean cubes for one region like this. A cube is held \
             against the normal pixels of all cubes of its group, so cubes of any size and kind compare. Up to 0 nothing \
             is flagged."
        }
        @if !kinds.is_empty() { p { a href="#kinds" { (counted(kinds.len(), "kind")) " of differences" } " are told below." } }
        (table(cubes))
        #kinds { (kinds_section(kinds, sections.len())?) }
        (judgeable.panel())
        @for section in &sections { (section) }
        (set_apart(cubes))
        @if !set_aside.is_empty() {
            h2 { "Set aside" }
            table { tbody { @for failed in set_aside { tr { td { (failed.path) } td { (failed.reason) } } } } }
        }
    };
    Ok(frame::page(title, &body, &[SCRIPT, verdict::SCRIPT]))
}

/// All regions that verdicts set apart.
fn set_apart(cubes: &[RankedCube]) -> Markup {
    html! {
        @if cubes.iter().any(|cube| !cube.apart.is_empty()) {
            h2 { "Regions set apart by verdicts" }
            table {
                thead { tr { th { "cube" } th { "where" } th { "what differs" } th { "verdict" } th { "why" } } }
                tbody {
                    @for (cube, (region, found)) in cubes.iter().flat_map(|cube| cube.apart.iter().map(move |r| (cube, r))) {
                        tr {
                            td { (cube.name) }
                            td { "y " (format!("{:.0}", region.y)) ", x " (format!("{:.0}", region.x)) }
                            td { (difference(region)) " in " (counted(region.area, "pixel")) }
                            td { (found.verdict) }
                            td { (found.reason) }
                        }
                    }
                }
            }
        }
    }
}

/// The table of all cubes, which the script fills: a row for each would take a browser seconds.
fn table(cubes: &[RankedCube]) -> Markup {
    let heads = ["rank", "cube", "strongest difference", "surprise", "regions", "set apart", "y × x × energy", "group"];
    let rows: Vec<Value> = cubes.iter().enumerate().map(|(i, cube)| row(i, cube)).collect();
    html! {
        p {
            label { "Filter " input #filter type="search" placeholder="Fe L3 shifted"; }
            " " span #count .note aria-live="polite" {}
        }
        .scroll tabindex="0" role="region" aria-label="Cubes" {
            table #ranking {
                thead { tr { @for head in heads { th aria-sort="none" { button type="button" { (head) } } } } }
                tbody {}
            }
            div #end {}
        }
        div #cubes hidden { (Value::from(rows).to_string()) }
        noscript { p.warning { "The table needs its script; ranking.csv holds the same." } }
    }
}

/// What the script shows of a cube: words, numbers, or a word that leads to a place of the page.
fn row(i: usize, cube: &RankedCube) -> Value {
    let [rows, columns, channels] = cube.shape;
    let name = if cube.maps.is_some() { json!([cube.name, format!("#cube-{i}")]) } else { json!(cube.name) };
    json!([
        i + 1,
        name,
        cube.regions.first().map_or(String::new(), |(region, _)| difference(region)),
        (cube.surprise * 10.0).round() / 10.0,
        cube.regions.len(),
        cube.apart.len(),
        format!("{rows} × {columns} × {channels}"),
        cube.group,
    ])
}

/// The section of one cube, whose regions have the places from `first` on among those of the page; nothing where its maps are
/// not shown.
fn section(i: usize, cube: &RankedCube, first: usize) -> Result<Markup> {
    let Some(maps) = &cube.maps else {
        return Ok(html! {});
    };
    let overlay = Overlay::outlines(&maps.labels);
    let map = |values: &Array2<f32>, quantity: Quantity, words: &str| {
        figure::map(
            values,
            quantity,
            None,
            &overlay,
            READABLE_SIDE,
            &format!("{words} of {}", cube.name),
            html! { (words) },
        )
    };
    Ok(html! {
        section.ranked id={ "cube-" (i) } {
            h2 { (i + 1) ". " (cube.name) }
            p.note { (cube.input) " → " (cube.output) }
            .maps {
                (map(&maps.mean_image, Quantity::Intensity, "Mean counts")?)
                (map(&maps.score, Quantity::Odds, "Score")?)
            }
            @if !cube.regions.is_empty() {
                table {
                    thead { tr { @for name in ["y", "x", "pixels", "surprise"] { th.n { (name) } } th { "what differs" } th { "verdict" } } }
                    tbody {
                        @for (place, (region, surprise)) in (first..).zip(cube.regions.iter().take(LISTED)) {
                            tr {
                                td.n { (format!("{:.0}", region.y)) }
                                td.n { (format!("{:.0}", region.x)) }
                                td.n { (region.area) }
                                td.n { (number(*surprise)) }
                                td { (difference(region)) }
                                td { (choice(region, place)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Judgement;
    use crate::report::across::KindMember;

    #[test]
    fn ten_thousand_cubes_are_one_page() {
        let region = |i: usize| RegionSummary { label: 1, area: i % 50 + 4, ..RegionSummary::default() };
        let cube = |i: usize| RankedCube {
            name: format!("session-{:02}/cube-{i:05}", i % 40),
            group: "2048x0.25000eV_from_420.00eV".into(),
            input: String::new(),
            output: String::new(),
            shape: [64, 64, 2048],
            surprise: 300.0 - 0.03 * i as f64,
            fingerprint: format!("{i:032x}"),
            residuals: vec![],
            maps: (i < 100).then(|| Thumbnail {
                mean_image: Array2::from_shape_fn((64, 64), |(y, x)| ((y * 64 + x) * (i + 7) % 97) as f32),
                score: Array2::from_shape_fn((64, 64), |(y, x)| ((y + x + i) % 9) as f32),
                labels: Array2::from_shape_fn((64, 64), |(y, x)| {
                    i32::from((10..16).contains(&y) && (20..26).contains(&x))
                }),
            }),
            regions: vec![(region(i), 1.0); usize::from(i < 4000)],
            apart: vec![],
        };
        let cubes: Vec<RankedCube> = (0..10_000).map(cube).collect();
        let page = ranking_html("10 000 cubes", &cubes, &[], &[]).unwrap();
        // For looking at it in a browser.
        if let Ok(kept) = std::env::var("CORELOSS_RANKING_EXAMPLE") {
            std::fs::write(kept, &page).unwrap();
        }
        assert!(page.len() < 8_000_000, "{}", page.len());
    }

    #[test]
    fn hostile_names_stay_words_and_nothing_is_loaded() {
        let cube = RankedCube {
            name: "<script>alert(1)</script>".into(),
            group: "\"><img>".into(),
            input: "a&b".into(),
            output: "c".into(),
            shape: [2, 3, 4],
            surprise: f64::NEG_INFINITY,
            fingerprint: "ab".into(),
            residuals: vec![],
            maps: Some(Thumbnail {
                mean_image: Array2::zeros((2, 3)),
                score: Array2::from_elem((2, 3), f32::NAN),
                labels: Array2::zeros((2, 3)),
            }),
            regions: vec![(RegionSummary { label: 1, y: 1.0, area: 2, ..RegionSummary::default() }, 3.25)],
            apart: vec![(
                RegionSummary::default(),
                Recognised { verdict: Judgement::Artefact, reason: "<b>like</b>".into() },
            )],
        };
        let strongest = KindMember { rank: 0, cube: "<i>".into(), region: RegionSummary::default(), surprise: 3.25 };
        let kind = RankedKind {
            cubes: 1,
            share: 1.0,
            regions: 1,
            is_everywhere: true,
            first_seen: Some("<b>".into()),
            mean: ResidualSpectrum { step_ev: 1.0, values: vec![1.0, f64::NAN], ..ResidualSpectrum::default() },
            strongest: vec![strongest],
        };
        let page = ranking_html(
            "t",
            &[cube],
            &[kind],
            &[FailedInput { path: "<p>".into(), reason: "no".into(), stamp: String::new() }],
        )
        .unwrap();
        frame::assert_self_contained(&page, &[SCRIPT, verdict::SCRIPT]);
        assert!(page.contains("3.25") && page.trim_end().ends_with("</html>"));
        ranking_html("empty", &[], &[], &[]).unwrap();
    }
}
