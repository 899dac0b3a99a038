//! Maps as figures: a picture with its colour bar, scale bar, threshold and region numbers.

use std::fmt::Write as _;

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ndarray::Array2;

use super::picture::{Picture, Quantity, REGION_COLOR, SHADES, Span, TRUTH_COLOR};
use super::picture::{marks, shrink_factor, shrink_marks, shrink_values};
use super::text::{escape, number, round_down};
use super::{Map, Region};

/// Longest side of a map on the page, in map pixels: the page stays small whatever the cube.
const MOST_SIDE: usize = 512;
/// Narrowest figure whose numbers do not touch.
const LEAST_WIDTH: usize = 230;
/// Regions that get their number written on the map.
pub const NUMBERED: usize = 6;

/// What lies over every map of a cube.
pub struct Overlay<'a> {
    marks: Array2<u8>,
    regions: &'a [&'a Region],
    pixel_size: Option<&'a (f64, String)>,
}

impl<'a> Overlay<'a> {
    /// `labels` and `truth` are `[y, x]`; `regions` has the strongest first.
    pub fn new(
        labels: &Array2<i32>,
        truth: Option<&Array2<i32>>,
        regions: &'a [&'a Region],
        pixel_size: Option<&'a (f64, String)>,
    ) -> Overlay<'a> {
        Overlay { marks: marks(labels, truth), regions: &regions[..regions.len().min(NUMBERED)], pixel_size }
    }
}

/// The PNG of a whole map, not shrunk, outlines drawn in.
pub fn map_png(map: &Map, labels: &Array2<i32>, truth: Option<&Array2<i32>>, note: &str) -> Result<Vec<u8>> {
    let span = Span::of(&map.values, Some(map.threshold));
    let range = span.map_or("no finite value".into(), |span| {
        format!(
            "colours from {} to {}, threshold {}",
            number(span.low as f64),
            number(span.high as f64),
            number(map.threshold as f64)
        )
    });
    Picture::draw(&map.values, &marks(labels, truth), span).png(Quantity::Score, &format!("{note}; {range}"))
}

/// The PNG of values [y, x], not shrunk, in the colours of `quantity`.
pub fn picture_png(values: &Array2<f32>, quantity: Quantity, note: &str) -> Result<Vec<u8>> {
    let marks = Array2::zeros(values.dim());
    Picture::draw(values, &marks, Span::of(values, None)).png(quantity, note)
}

/// A `<figure>` of `values` [y, x] under `caption` (HTML), with colour bar; `threshold` is marked on it.
pub fn map(
    values: &Array2<f32>,
    quantity: Quantity,
    threshold: Option<f32>,
    overlay: &Overlay,
    label: &str,
    caption: &str,
) -> Result<String> {
    let factor = shrink_factor(values.dim(), MOST_SIDE);
    // From all values, so that page and PNG have the same colours.
    let span = Span::of(values, threshold);
    let picture = Picture::draw(&shrink_values(values, factor), &shrink_marks(&overlay.marks, factor), span);
    let width = picture.width.max(LEAST_WIDTH) + 2 * MARGIN;
    let mut body = String::new();
    let data = BASE64_STANDARD.encode(picture.png(quantity, label)?);
    let _ = write!(
        body,
        "<image x=\"{MARGIN}\" y=\"0\" width=\"{}\" height=\"{}\" href=\"data:image/png;base64,{data}\"/>",
        picture.width, picture.height
    );
    region_numbers(&mut body, &picture, overlay.regions, factor);
    let mut y = picture.height + 8;
    if let Some((size, unit)) = overlay.pixel_size {
        y += scale_bar(&mut body, &picture, factor, *size, unit, y);
    }
    if let Some(span) = span {
        y += color_bar(&mut body, span, quantity, threshold, width - 2 * MARGIN, y);
    }
    let [high, wide] = picture.scale;
    let ends = span.map_or(String::new(), |span| {
        let [lower, higher] = span.clipped.map(u8::from);
        format!(" data-span=\"{} {} {lower} {higher}\"", span.low, span.high)
    });
    Ok(format!(
        "<figure class=\"map\"><figcaption>{caption}</figcaption><svg role=\"img\" aria-label=\"{}\" width=\"{width}\" \
         height=\"{y}\" viewBox=\"0 0 {width} {y}\" data-pixel=\"{high} {wide} {factor}\" data-shades=\"{SHADES}\"{ends}>\
         {body}</svg></figure>\n",
        escape(label)
    ))
}

/// Space beside the picture, which keeps neighbours apart.
const MARGIN: usize = 12;

/// Writes the number of each region beside it.
fn region_numbers(body: &mut String, picture: &Picture, regions: &[&Region], factor: usize) {
    for region in regions.iter().filter(|r| r.y.is_finite() && r.x.is_finite()) {
        let radius = (region.area as f64 / std::f64::consts::PI).sqrt() + 0.5;
        let scale = picture.scale.map(|scale| scale as f64 / factor as f64);
        let y = (region.y + 0.5) * scale[0];
        let right = (region.x + 0.5 + radius) * scale[1] + 3.0;
        let left = (region.x + 0.5 - radius) * scale[1] - 3.0;
        let (x, anchor) = if right + 16.0 < picture.width as f64 { (right, "start") } else { (left.max(10.0), "end") };
        let _ = write!(
            body,
            "<text class=\"number\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x + MARGIN as f64,
            (y + 4.0).clamp(11.0, (picture.height as f64 - 2.0).max(11.0)),
            region.label
        );
    }
}

/// Draws a bar of a round length below the picture, from `top`; returns its height.
fn scale_bar(body: &mut String, picture: &Picture, factor: usize, pixel_size: f64, unit: &str, top: usize) -> usize {
    // Length on the specimen of one picture pixel.
    let step = pixel_size * factor as f64 / picture.scale[1] as f64;
    let longest = step * picture.width as f64 * 0.4;
    if !(longest.is_finite() && longest > 0.0) {
        return 0;
    }
    let length = round_down(longest);
    let bar = length / step;
    let _ = write!(
        body,
        "<rect x=\"{MARGIN}\" y=\"{}\" width=\"{bar:.1}\" height=\"3\" fill=\"#222b36\"/>\
         <text x=\"{:.1}\" y=\"{}\">{} {}</text>",
        top + 4,
        MARGIN as f64 + bar + 6.0,
        top + 10,
        number(length),
        escape(unit)
    );
    18
}

/// Draws the colours of `span` with numbers below and the threshold above, `width` wide from `top`; returns its height.
fn color_bar(
    body: &mut String,
    span: Span,
    quantity: Quantity,
    threshold: Option<f32>,
    width: usize,
    top: usize,
) -> usize {
    const BAR: usize = 10;
    let mut y = top;
    if let Some(threshold) = threshold.filter(|t| t.is_finite()) {
        let place = span.place(threshold);
        let x = MARGIN as f64 + place * width as f64;
        let (anchor, words) = match place {
            p if p < 0.3 => ("start", x - 4.0),
            p if p > 0.7 => ("end", x + 4.0),
            _ => ("middle", x),
        };
        let _ = write!(
            body,
            "<text x=\"{words:.1}\" y=\"{}\" text-anchor=\"{anchor}\">threshold {}</text>\
             <path d=\"M{:.1} {}h8l-4 6z\" fill=\"#222b36\"/>",
            y + 10,
            number(threshold as f64),
            x - 4.0,
            y + 14
        );
        y += 21;
    }
    let gradient = gradient_id(quantity);
    let _ =
        write!(body, "<rect x=\"{MARGIN}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" fill=\"url(#{gradient})\"/>");
    let (low, high) = (span.low as f64, span.high as f64);
    let numbers = if high > low {
        vec![(0.0, low, "start"), (0.5, 0.5 * (low + high), "middle"), (1.0, high, "end")]
    } else {
        vec![(0.0, low, "start")]
    };
    for (place, value, anchor) in numbers {
        let beyond = match place {
            0.0 if span.clipped[0] => "&le; ",
            1.0 if span.clipped[1] => "&ge; ",
            _ => "",
        };
        let _ = write!(
            body,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{beyond}{}</text>",
            MARGIN as f64 + place * width as f64,
            y + BAR + 13,
            number(value)
        );
    }
    y + BAR + 18 - top
}

/// The gradients that the colour bars fill from; once in a page, before the first figure.
pub fn gradients() -> String {
    const STOPS: usize = 24;
    let mut defs = String::from("<svg width=\"0\" height=\"0\" class=\"defs\" aria-hidden=\"true\"><defs>");
    for quantity in [Quantity::Score, Quantity::Property, Quantity::Intensity] {
        let _ = write!(defs, "<linearGradient id=\"{}\">", gradient_id(quantity));
        for i in 0..=STOPS {
            let t = i as f64 / STOPS as f64;
            let color = css(quantity.color(t));
            let _ = write!(defs, "<stop offset=\"{t:.4}\" stop-color=\"{color}\"/>");
        }
        defs.push_str("</linearGradient>");
    }
    defs.push_str("</defs></svg>\n");
    defs
}

fn gradient_id(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Score => "score-colors",
        Quantity::Property => "property-colors",
        Quantity::Intensity => "intensity-colors",
    }
}

/// What the outlines mean, HTML.
pub fn outline_legend(with_truth: bool) -> String {
    let mut legend = key(&css(REGION_COLOR), "", "flagged region (the strongest are numbered)");
    if with_truth {
        legend.push_str(&key(&css(TRUTH_COLOR), " dashed", "truth"));
    }
    legend.push_str("<span class=\"key\"><i class=\"hatch\"></i>ignored</span>");
    format!("<p class=\"legend\">{legend}</p>\n")
}

/// One entry of a legend, HTML: a swatch of `color` (CSS) and `words`.
pub fn key(color: &str, class: &str, words: &str) -> String {
    format!("<span class=\"key\"><i class=\"swatch{class}\" style=\"--c:{color}\"></i>{}</span>", escape(words))
}

/// `#rrggbb`.
pub fn css([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
