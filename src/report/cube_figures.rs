//! Figures of a cube that several parts of its section show: score maps, and the spectra of regions.

use anyhow::Result;
use maud::{Markup, html};

use super::chart::{self, RegionLines};
use super::contents::{Cube, Map};
use super::figure::{self, Overlay, chart_figure, css, key};
use super::picture::Quantity;
use super::plot::{INK, VERMILLION};
use super::text::counted;
use super::words::difference;
use crate::results::RegionSummary;

/// Energies shown on either side of a region's window, in widths of that.
const AROUND: f64 = 0.6;

/// The figure of a score map, `side` CSS pixels long.
pub fn score_map(map: &Map, cube: &Cube, overlay: &Overlay, side: usize) -> Result<Markup> {
    let caption = html! {
        b { (map.title()) }
        @if map.is_default { " " em { "default" } }
        br;
        (counted(map.found.flagged, "pixel")) " flagged"
    };
    let quantity = if map.is_odds() { Quantity::Odds } else { Quantity::Score };
    let label = format!("{} score of {}", map.title(), cube.name);
    figure::map(&map.values, quantity, Some(map.threshold()), overlay, side, &label, caption)
}

/// How much of a region's spectrum is drawn.
#[derive(Clone, Copy, PartialEq)]
pub enum View {
    /// The window of its kind and what lies around.
    Window,
    Whole,
}

/// The mean spectrum of one region with its reconstruction; nothing where it was not kept.
pub fn region_spectrum(cube: &Cube, region: &RegionSummary, view: View) -> Result<Markup> {
    let Some(measured) = cube.region_row(&cube.region_spectra, region.label) else {
        return Ok(html! {});
    };
    let explained = cube.region_row(&cube.region_reconstructions, region.label);
    let keys = html! {
        @if explained.is_some() {
            (key(&css(INK), "", "measured"))
            (key(&css(VERMILLION), "", &format!("as {} reconstructs it", cube.reconstructed_by)))
        }
    };
    let title = match view {
        View::Window => format!("Region {}: {}", region.label, difference(region)),
        View::Whole => format!("Region {}, mean of {}", region.label, counted(region.area, "pixel")),
    };
    let kind = region.kind.as_ref().filter(|_| view == View::Window);
    let window = kind.and_then(|kind| cube.windows.iter().find(|(name, _)| *name == kind.window));
    let shown = window.map(|(_, [low, high])| {
        let around = AROUND * (high - low);
        [low - around, high + around]
    });
    let lines = RegionLines { label: region.label, measured, explained };
    let svg = chart::region(&cube.energy_ev, &lines, &cube.windows, shown)?;
    Ok(chart_figure(&title, keys, svg))
}
