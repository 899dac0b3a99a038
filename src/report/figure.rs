//! Figures of the page: maps with colour bar, scale bar, threshold and region numbers; charts with their legend.

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use maud::{Markup, html};
use ndarray::Array2;

use super::contents::{Cube, Map, Property};
use super::picture::{Picture, Quantity, READABLE_SIDE, REGION_COLOR, SHADES, Span, TRUTH_COLOR};
use super::picture::{marks, shrink_factor, shrink_marks, shrink_values};
use super::text::{number, round_down};
use super::words::{odds, probability};
use crate::results::RegionSummary;

/// Longest side of a map on the page, in map pixels: the page stays small whatever the cube.
const MOST_SIDE: usize = 512;
/// Narrowest figure whose numbers do not touch.
const LEAST_WIDTH: usize = 230;
/// Space beside the picture, which keeps neighbours apart.
const MARGIN: usize = 12;
/// Regions that get their number written on the map.
pub const NUMBERED: usize = 6;

/// What lies over every map of a cube.
pub struct Overlay<'a> {
    marks: Array2<u8>,
    regions: &'a [RegionSummary],
    pixel_size: Option<&'a (f64, String)>,
}

impl<'a> Overlay<'a> {
    /// Outlines, region numbers and scale bar of `cube`.
    pub fn new(cube: &'a Cube) -> Overlay<'a> {
        Overlay {
            marks: marks(&cube.labels, cube.truth.as_ref()),
            regions: &cube.regions[..cube.regions.len().min(NUMBERED)],
            pixel_size: cube.pixel_size.as_ref(),
        }
    }

    /// Outlines of the labelled pixels alone.
    pub fn outlines(labels: &Array2<i32>) -> Overlay<'static> {
        Overlay { marks: marks(labels, None), regions: &[], pixel_size: None }
    }
}

/// The PNG of a whole score map of `cube`, not shrunk, outlines drawn in.
pub fn map_png(map: &Map, cube: &Cube) -> Result<Vec<u8>> {
    let threshold = map.threshold();
    let quantity = if map.is_odds() { Quantity::Odds } else { Quantity::Score };
    let span = span_of(&map.values, quantity, Some(threshold));
    let range = span.map_or("no finite value".into(), |span| {
        let [low, high, threshold] = [span.low, span.high, threshold].map(|value| number(value.into()));
        format!("colours from {low} to {high}, threshold {threshold}")
    });
    let note = format!("{} score of {}; {range}", map.title(), cube.name);
    Picture::draw(&map.values, &marks(&cube.labels, cube.truth.as_ref()), span, READABLE_SIDE).png(quantity, &note)
}

/// The PNG of values `[y, x]`, not shrunk, in the colours of `quantity`; `note` is kept in it.
///
/// # Errors
/// A map without pixels.
pub fn picture_png(values: &Array2<f32>, quantity: Quantity, note: &str) -> Result<Vec<u8>> {
    let marks = Array2::zeros(values.dim());
    Picture::draw(values, &marks, Span::of(values, None), READABLE_SIDE).png(quantity, note)
}

fn span_of(values: &Array2<f32>, quantity: Quantity, threshold: Option<f32>) -> Option<Span> {
    if quantity == Quantity::Odds { Span::of_odds(values) } else { Span::of(values, threshold) }
}

/// The figure of a property of `cube`.
pub fn property_figure(property: &Property, cube: &Cube, overlay: &Overlay) -> Result<Markup> {
    let label = format!("{} of {}", property.name, cube.name);
    let caption = html! { b { (property.name) } br; (property.note) };
    map(&property.values, Quantity::Property, None, overlay, READABLE_SIDE, &label, caption)
}

/// A figure of `values` `[y, x]` under `caption`, with colour bar; `threshold` is marked on it. Small maps are magnified to
/// `side` CSS pixels.
pub fn map(
    values: &Array2<f32>,
    quantity: Quantity,
    threshold: Option<f32>,
    overlay: &Overlay,
    side: usize,
    label: &str,
    caption: Markup,
) -> Result<Markup> {
    let factor = shrink_factor(values.dim(), MOST_SIDE);
    // From all values, so that page and PNG have the same colours.
    let span = span_of(values, quantity, threshold);
    let picture = Picture::draw(&shrink_values(values, factor), &shrink_marks(&overlay.marks, factor), span, side);
    let width = picture.width.max(LEAST_WIDTH) + 2 * MARGIN;
    let data = BASE64_STANDARD.encode(picture.png(quantity, label)?);
    let mut height = picture.height + 8;
    let scale_bar = overlay.pixel_size.and_then(|size| scale_bar(&picture, factor, size, height));
    height += if scale_bar.is_some() { SCALE_BAR_HEIGHT } else { 0 };
    let color_bar = span.map(|span| color_bar(span, quantity, threshold, width - 2 * MARGIN, &mut height));
    let [high, wide] = picture.scale;
    let ends = span.map(|span| {
        let [lower, higher] = span.clipped.map(u8::from);
        format!("{} {} {lower} {higher}", span.low, span.high)
    });
    Ok(html! {
        figure.map {
            figcaption { (caption) }
            svg role="img" aria-label=(label) width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) }
                data-pixel={ (high) " " (wide) " " (factor) } data-shades=(SHADES) data-span=[ends] data-odds[quantity == Quantity::Odds]
            {
                image x=(MARGIN) y="0" width=(picture.width) height=(picture.height)
                    href={ "data:image/png;base64," (data) } {}
                @for region in overlay.regions { (region_number(region, &picture, factor)) }
                @if let Some(bar) = scale_bar { (bar) }
                @if let Some(bar) = color_bar { (bar) }
            }
        }
    })
}

/// The number of a region, beside it.
fn region_number(region: &RegionSummary, picture: &Picture, factor: usize) -> Markup {
    let radius = (region.area as f64 / std::f64::consts::PI).sqrt() + 0.5;
    let scale = picture.scale.map(|scale| scale as f64 / factor as f64);
    let y = (region.y + 0.5) * scale[0] + 4.0;
    let y = y.clamp(11.0, (picture.height as f64 - 2.0).max(11.0));
    let right = (region.x + 0.5 + radius) * scale[1] + 3.0;
    let left = (region.x + 0.5 - radius) * scale[1] - 3.0;
    let (x, anchor) = if right + 16.0 < picture.width as f64 { (right, "start") } else { (left.max(10.0), "end") };
    html! {
        text.number x=(tenths(x + MARGIN as f64)) y=(tenths(y)) text-anchor=(anchor) { (region.label) }
    }
}

const SCALE_BAR_HEIGHT: usize = 18;

/// A bar of a round length below the picture, from `top`; none where a pixel has no length.
fn scale_bar(picture: &Picture, factor: usize, (pixel_size, unit): &(f64, String), top: usize) -> Option<Markup> {
    // Length on the specimen of one picture pixel.
    let step = pixel_size * factor as f64 / picture.scale[1] as f64;
    let longest = step * picture.width as f64 * 0.4;
    if !(longest.is_finite() && longest > 0.0) {
        return None;
    }
    let length = round_down(longest);
    let bar = length / step;
    Some(html! {
        rect x=(MARGIN) y=(top + 4) width=(tenths(bar)) height="3" fill="#222b36" {}
        text x=(tenths(MARGIN as f64 + bar + 6.0)) y=(top + 10) { (number(length)) " " (unit) }
    })
}

/// The colours of `span` with numbers below and the threshold above, `width` wide from `height`, which grows by its own.
fn color_bar(span: Span, quantity: Quantity, threshold: Option<f32>, width: usize, height: &mut usize) -> Markup {
    const BAR: usize = 10;
    let top = *height;
    let threshold = threshold.filter(|t| t.is_finite());
    let bar_top = if threshold.is_some() { top + 21 } else { top };
    *height = bar_top + BAR + 18;
    let at = |place: f64| MARGIN as f64 + place * width as f64;
    let (low, high) = (f64::from(span.low), f64::from(span.high));
    let [below, above] = span.clipped;
    let is_odds = quantity == Quantity::Odds;
    // What is next to nothing beside the width of the bar is nothing.
    let within = |value: f64| number(if value.abs() < 1e-3 * (high - low) { 0.0 } else { value });
    let words = |value: f64| if is_odds { odds(value) } else { within(value) };
    let mut numbers = vec![(0.0, low, "start", if below { "≤ " } else { "" })];
    if high > low {
        numbers.push((0.5, 0.5 * (low + high), "middle", ""));
        numbers.push((1.0, high, "end", if above { "≥ " } else { "" }));
    }
    html! {
        @if let Some(threshold) = threshold {
            @let x = at(span.place(threshold));
            @let (anchor, words_x) = match span.place(threshold) {
                place if place < 0.3 => ("start", x - 4.0),
                place if place > 0.7 => ("end", x + 4.0),
                _ => ("middle", x),
            };
            text x=(tenths(words_x)) y=(top + 10) text-anchor=(anchor) {
                @if is_odds { "flagged above " (probability(threshold.into())) }
                @else { "threshold " (within(threshold.into())) }
            }
            path d={ "M" (tenths(x - 4.0)) " " (top + 14) "h8l-4 6z" } fill="#222b36" {}
        }
        rect x=(MARGIN) y=(bar_top) width=(width) height=(BAR) fill={ "url(#" (gradient_id(quantity)) ")" } {}
        @for (place, value, anchor, beyond) in numbers {
            text x=(tenths(at(place))) y=(bar_top + BAR + 13) text-anchor=(anchor) { (beyond) (words(value)) }
        }
    }
}

/// A length of an SVG, to a tenth of a pixel.
fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

/// The gradients that the colour bars fill from; once in a page, before the first figure.
pub fn gradients() -> Markup {
    const STOPS: usize = 24;
    html! {
        svg.defs width="0" height="0" aria-hidden="true" {
            defs {
                @for quantity in [Quantity::Score, Quantity::Property, Quantity::Intensity] {
                    linearGradient id=(gradient_id(quantity)) {
                        @for t in (0..=STOPS).map(|i| i as f64 / STOPS as f64) {
                            stop offset=(format!("{t:.4}")) stop-color=(css(quantity.color(t))) {}
                        }
                    }
                }
            }
        }
    }
}

fn gradient_id(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Score | Quantity::Odds => "score-colors",
        Quantity::Property => "property-colors",
        Quantity::Intensity => "intensity-colors",
    }
}

/// What the outlines mean.
pub fn outline_legend(with_truth: bool) -> Markup {
    html! {
        p.legend {
            (key(&css(REGION_COLOR), "", "flagged region (the strongest are numbered)"))
            @if with_truth { (key(&css(TRUTH_COLOR), "dashed", "truth")) }
            span.key { i.hatch {} "ignored" }
        }
    }
}

/// A chart under its `title` and legend `keys`.
pub fn chart_figure(title: &str, keys: Markup, svg: Markup) -> Markup {
    html! { figure.plot { figcaption { b { (title) } (keys) } (svg) } }
}

/// One entry of a legend: a swatch of `color` (CSS) in a `style` of page.css, and `words`.
pub fn key(color: &str, style: &str, words: &str) -> Markup {
    html! { span.key { i.swatch.(style) style={ "--c:" (color) } {} (words) } }
}

/// `#rrggbb`.
pub fn css([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
