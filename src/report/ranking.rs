//! The page of a survey: its cubes, the most surprising first.

use anyhow::Result;
use maud::{Markup, html};
use ndarray::Array2;

use super::figure::{self, Overlay};
use super::frame;
use super::picture::Quantity;
use super::text::{counted, number};
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
    /// None where the page shows no maps of the cube.
    pub maps: Option<Thumbnail>,
    /// Each with its surprise.
    pub regions: Vec<(RegionSummary, f64)>,
}

/// Regions of a cube that the page lists.
const LISTED: usize = 5;

/// The whole document, self-contained; `cubes` have the most surprising first.
///
/// # Errors
/// Maps that cannot be drawn.
pub fn ranking_html(title: &str, cubes: &[RankedCube], set_aside: &[FailedInput]) -> Result<String> {
    let flagged = cubes.iter().filter(|cube| !cube.regions.is_empty()).count();
    let body = html! {
        p.found { (counted(cubes.len(), "cube")) ", " (flagged) " of them flagged, " (set_aside.len()) " set aside." }
        p.note {
            "Surprise counts decades: at 3 it takes a thousand clean cubes for one region like this. A cube is held \
             against the normal pixels of all cubes of its group, so cubes of any size and kind compare. Up to 0 nothing \
             is flagged."
        }
        table {
            thead {
                tr {
                    th.n { "rank" }
                    th { "cube" }
                    th.n { "surprise" }
                    th.n { "regions" }
                    th.n { "y × x × energy" }
                    th { "group" }
                }
            }
            tbody { @for (i, cube) in cubes.iter().enumerate() { (row(i, cube)) } }
        }
        @for (i, cube) in cubes.iter().enumerate() { (section(i, cube)?) }
        @if !set_aside.is_empty() {
            h2 { "Set aside" }
            table { tbody { @for failed in set_aside { tr { td { (failed.path) } td { (failed.reason) } } } } }
        }
    };
    Ok(frame::page(title, &body))
}

fn row(i: usize, cube: &RankedCube) -> Markup {
    let [rows, columns, channels] = cube.shape;
    html! {
        tr {
            td.n { (i + 1) }
            td { @if cube.maps.is_some() { a href={ "#cube-" (i) } { (cube.name) } } @else { (cube.name) } }
            td.n { (number(cube.surprise)) }
            td.n { (cube.regions.len()) }
            td.n { (rows) " × " (columns) " × " (channels) }
            td { (cube.group) }
        }
    }
}

/// The section of one cube; nothing where its maps are not shown.
fn section(i: usize, cube: &RankedCube) -> Result<Markup> {
    let Some(maps) = &cube.maps else {
        return Ok(html! {});
    };
    let overlay = Overlay::outlines(&maps.labels);
    let map = |values: &Array2<f32>, quantity: Quantity, words: &str| {
        figure::map(values, quantity, None, &overlay, &format!("{words} of {}", cube.name), html! { (words) })
    };
    Ok(html! {
        section id={ "cube-" (i) } {
            h2 { (i + 1) ". " (cube.name) }
            p.note { (cube.input) " → " (cube.output) }
            .maps {
                (map(&maps.mean_image, Quantity::Intensity, "Mean counts")?)
                (map(&maps.score, Quantity::Score, "Score")?)
            }
            @if !cube.regions.is_empty() {
                table {
                    thead { tr { @for name in ["y", "x", "pixels", "surprise", "shift, eV"] { th.n { (name) } } } }
                    tbody {
                        @for (region, surprise) in cube.regions.iter().take(LISTED) {
                            tr {
                                td.n { (format!("{:.0}", region.y)) }
                                td.n { (format!("{:.0}", region.x)) }
                                td.n { (region.area) }
                                td.n { (number(*surprise)) }
                                td.n { (region.estimated_shift_ev.map_or("–".into(), number)) }
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

    #[test]
    fn hostile_names_stay_words_and_nothing_is_loaded() {
        let cube = RankedCube {
            name: "<script>alert(1)</script>".into(),
            group: "\"><img>".into(),
            input: "a&b".into(),
            output: "c".into(),
            shape: [2, 3, 4],
            surprise: f64::NEG_INFINITY,
            maps: Some(Thumbnail {
                mean_image: Array2::zeros((2, 3)),
                score: Array2::from_elem((2, 3), f32::NAN),
                labels: Array2::zeros((2, 3)),
            }),
            regions: vec![(RegionSummary { y: 1.0, area: 2, ..RegionSummary::default() }, 3.25)],
        };
        let page = ranking_html(
            "t",
            &[cube],
            &[FailedInput { path: "<p>".into(), reason: "no".into(), stamp: String::new() }],
        )
        .unwrap();
        frame::assert_self_contained(&page);
        assert!(page.contains("3.25") && page.trim_end().ends_with("</html>"));
        ranking_html("empty", &[], &[]).unwrap();
    }
}
