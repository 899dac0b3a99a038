//! The page on which a cube is explored: click a pixel, see its spectrum; drag over energies, see their map.
//!
//! One file that holds all it shows. Numbers are compressed, and counts rounded far below their noise.

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use libdeflater::{CompressionLvl, Compressor};
use maud::{Markup, html};
use ndarray::Array3;
use serde_json::json;

use super::contents::Cube;
use super::frame;
use super::picture::Quantity;
use super::spectra::{Modelled, Spectra};
use super::text::{counted, number};
use super::words::difference;

pub const SCRIPT: &str = include_str!("explore.js");
/// Step of the square root of counts. It is .5 where counts differ by their noise: the error is a quarter of that at most.
const STEP: f32 = 0.25;
/// Colours given of each palette.
const COLORS: usize = 64;
/// Level of the compression.
const LEVEL: i32 = 6;

/// The page of `cube`, whose report is `report`; none without its spectra.
///
/// # Errors
/// Numbers that cannot be compressed.
pub fn explore_html(cube: &Cube, report: &str) -> Result<Option<String>> {
    let Some(spectra) = &cube.spectra else {
        return Ok(None);
    };
    let counts = Rounded::of(&spectra.counts, spectra.bin);
    let mut blobs = vec![
        blob("counts", &counts.bytes())?,
        blob("labels", &cube.labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>())?,
        blob("score", &floats(cube.default_map().into_iter().flat_map(|map| &map.values)))?,
        blob("region-spectra", &floats(cube.region_spectra.iter().flatten()))?,
        blob("region-reconstructions", &floats(cube.region_reconstructions.iter().flatten()))?,
    ];
    let model = match &spectra.model {
        Modelled::Each { by, first, counts } => {
            let rounded = Rounded::of(counts, spectra.bin);
            blobs.push(blob("model", &rounded.bytes())?);
            json!({"by": by, "first": first, "channels": counts.dim().2, "step": rounded.step})
        }
        Modelled::Components { factors, loadings } => {
            blobs.push(blob("factors", &floats(factors))?);
            blobs.push(blob("loadings", &floats(loadings))?);
            json!({"by": counted(factors.nrows(), "principal component"), "components": factors.nrows()})
        }
    };
    let regions = cube.regions.iter().map(|region| {
        json!({
            "label": region.label,
            "y": region.y,
            "x": region.x,
            "area": region.area,
            "words": difference(region),
            "window": region.kind.as_ref().map(|kind| &kind.window),
        })
    });
    let tables = [&cube.region_spectra, &cube.region_reconstructions];
    let region_rows = tables.map(|table| table.as_ref().map_or(0, |table| table.nrows()));
    let colors = [Quantity::Score, Quantity::Property, Quantity::Intensity].map(palette);
    let about = json!({
        "shape": cube.shape,
        "bin": spectra.bin,
        "step": counts.step,
        "energies": [cube.energy_ev.first(), cube.energy_ev.last()],
        "windows": cube.windows,
        "regions": regions.collect::<Vec<_>>(),
        "regionRows": region_rows,
        "regionsBy": cube.reconstructed_by,
        "score": cube.default_map().map(|map| map.title()),
        "isOdds": cube.default_map().is_some_and(|map| map.is_odds()),
        "model": model,
        "colors": colors,
    });
    let body = html! {
        p.note { a href=(report) { "Report" } " of " b { (cube.name) } ". " (loss(spectra, counts.step)) }
        (controls(cube))
        div #about hidden { (about.to_string()) }
        @for blob in &blobs { (blob) }
        noscript { p.warning { "This page needs its script." } }
    };
    Ok(Some(frame::page(&format!("Explore {}", cube.name), &body, &[SCRIPT])))
}

/// What was lost on the way into the page.
fn loss(spectra: &Spectra, step: f32) -> String {
    let bins = match spectra.bin {
        1 => "All pixels are here".into(),
        bin => format!("Pixels are means over {bin} × {bin}, as the cube is too large for a page; regions are whole"),
    };
    // Of the square root, whose noise is a half over the side of the bin.
    let most = f64::from(step) * spectra.bin as f64;
    format!("{bins}; counts are rounded by at most {} of their noise.", number(most))
}

/// What the script fills and listens to.
fn controls(cube: &Cube) -> Markup {
    let chosen = [("score", "score"), ("counts", "counts"), ("net", "above background"), ("residual", "residual")];
    html! {
        .explore {
            section aria-label="Map" {
                fieldset {
                    legend { "Map of" }
                    @for (value, words) in chosen {
                        label { input type="radio" name="quantity" value=(value) checked[value == "score"]; (words) }
                    }
                }
                canvas #map tabindex="0" role="img" aria-label="Map; arrow keys move the chosen pixel" {}
                p #scale .note {}
                @if !cube.regions.is_empty() {
                    p #regions { @for region in cube.regions.iter().take(LISTED) {
                        button type="button" data-region=(region.label) title=(difference(region)) { "region " (region.label) }
                    } }
                }
            }
            section aria-label="Spectrum" {
                p #said aria-live="polite" {}
                canvas #spectrum tabindex="0" role="img" aria-label="Spectrum; arrow keys move the window of energies" {}
                p #keys {}
                p {
                    label { "from " input #from type="number" step="any"; }
                    label { " to " input #to type="number" step="any"; " eV " }
                    button #zoom type="button" aria-pressed="false" { "only around the window" }
                    button #compare type="button" aria-pressed="false" { "compare with a second pixel" }
                }
                p #windows { @for (i, (name, _)) in cube.windows.iter().enumerate() {
                    button type="button" data-window=(i) { (name) }
                } }
                p.note {
                    "Click the map for a pixel, or use the arrow keys on it. Drag over energies for the map of that window; arrow \
                     keys move it, + and − change its width. Above background: less the power law of the mean spectrum, scaled to \
                     the counts before the window."
                }
            }
        }
    }
}

/// Regions with a button.
const LISTED: usize = 20;

fn palette(quantity: Quantity) -> Vec<[u8; 3]> {
    (0..COLORS).map(|i| quantity.color(i as f64 / (COLORS - 1) as f64)).collect()
}

/// Compressed bytes, for the script to take.
fn blob(name: &str, bytes: &[u8]) -> Result<Markup> {
    let mut compressor = Compressor::new(CompressionLvl::new(LEVEL).expect("a level that exists"));
    let mut packed = vec![0; compressor.zlib_compress_bound(bytes.len())];
    let length = compressor.zlib_compress(bytes, &mut packed)?;
    Ok(html! { div hidden data-blob=(name) { (BASE64_STANDARD.encode(&packed[..length])) } })
}

fn floats<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u8> {
    values.into_iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Counts as signed multiples of a step of their square root.
struct Rounded {
    step: f32,
    values: Vec<i16>,
}

/// Stands for NaN.
const NOTHING: i16 = i16::MIN;

impl Rounded {
    /// Of means over squares of `bin` times `bin` pixels.
    fn of(counts: &Array3<f32>, bin: usize) -> Rounded {
        let root = |value: f32| value.abs().sqrt().copysign(value);
        let most =
            counts.iter().filter(|value| value.is_finite()).fold(0f32, |most, &value| most.max(root(value).abs()));
        let step = (STEP / bin as f32).max(most / f32::from(i16::MAX));
        let rounded = |&value: &f32| if value.is_finite() { (root(value) / step).round() as i16 } else { NOTHING };
        Rounded { step, values: counts.iter().map(rounded).collect() }
    }

    /// All low bytes, then all high ones, which are mostly alike.
    fn bytes(&self) -> Vec<u8> {
        let bytes = |i: usize| self.values.iter().map(move |value| value.to_le_bytes()[i]);
        bytes(0).chain(bytes(1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_stays_below_a_quarter_of_the_noise() {
        let counts = Array3::from_shape_fn((4, 5, 50), |(y, x, e)| (y * 250 + x * 50 + e) as f32 * 3.7 - 20.0);
        let rounded = Rounded::of(&counts, 1);
        assert_eq!(rounded.step, STEP);
        for (&count, &value) in counts.iter().zip(&rounded.values) {
            let root = f32::from(value) * rounded.step;
            let back = root * root.abs();
            assert!((back - count).abs() <= 0.251 * count.abs().sqrt() + 0.016, "{count} {back}");
        }
        let large = Rounded::of(&Array3::from_elem((1, 1, 1), 1e12), 1);
        assert!((f32::from(large.values[0]) * large.step - 1e6).abs() < 1.0);
        assert_eq!(Rounded::of(&Array3::from_elem((1, 1, 1), f32::NAN), 2).values, [NOTHING]);
    }
}
