//! Maps as pictures: values to palette indices, outlines, PNG bytes.
//!
//! Arrays and pixels only; [`figure`](super::figure) adds colour bars and words.

use anyhow::{Context, Result};
use ndarray::{Array2, s};

/// Length of the longer side of a small map in a file of its own, in picture pixels.
pub const READABLE_SIDE: usize = 340;
/// Least length of the shorter side: a single scan line is drawn thicker than its pixels are wide.
const LEAST_SIDE: usize = 24;
/// Largest magnification.
const MOST_SCALE: usize = 32;

/// Palette entries of the gradient; those after them are for hatch and outlines.
pub const SHADES: usize = 250;
const HATCH_LIGHT: u8 = SHADES as u8;
const HATCH_DARK: u8 = SHADES as u8 + 1;
const REGION: u8 = SHADES as u8 + 2;
const TRUTH: u8 = SHADES as u8 + 3;
/// Width of a stripe of the hatch and length of a dash of the outline, in picture pixels.
const STRIPE: usize = 4;

/// Bits that say what a pixel belongs to.
const IN_REGION: u8 = 1;
const IN_TRUTH: u8 = 2;

/// What a map shows: it decides the colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// Inferno: perceptually uniform and safe for the colour-blind.
    Score,
    /// A score `ln(1 + odds)`, in the colours of one, told as odds.
    Odds,
    /// Viridis: as safe, and not mistaken for a score.
    Property,
    /// Greys, as is usual for images from a detector.
    Intensity,
}

impl Quantity {
    /// The colour at `t` in 0..1.
    pub fn color(self, t: f64) -> [u8; 3] {
        let of = |gradient: colorous::Gradient| {
            let color = gradient.eval_continuous(t.clamp(0.0, 1.0));
            [color.r, color.g, color.b]
        };
        match self {
            Quantity::Score | Quantity::Odds => of(colorous::INFERNO),
            Quantity::Property => of(colorous::VIRIDIS),
            Quantity::Intensity => [(20.0 + 235.0 * t.clamp(0.0, 1.0)).round() as u8; 3],
        }
    }

    /// The 256 colours, RGB.
    fn palette(self) -> Vec<u8> {
        let mut palette: Vec<u8> = (0..SHADES).flat_map(|i| self.color(i as f64 / (SHADES - 1) as f64)).collect();
        palette.extend([0xc8, 0xc8, 0xc8]);
        palette.extend([0xa0, 0xa0, 0xa0]);
        palette.extend(REGION_COLOR);
        palette.extend(TRUTH_COLOR);
        palette
    }
}

/// Outline of flagged regions: a hue that neither inferno nor grey has.
pub const REGION_COLOR: [u8; 3] = [0x00, 0xd8, 0xff];
/// Dashed outline of the truth: light enough for inferno, and not a grey.
pub const TRUTH_COLOR: [u8; 3] = [0x9d, 0xff, 0x3c];

/// `ln(1 + odds)` of odds of 100 to 1: the least that the brightest colour stands for.
const CLEAR_ODDS: f32 = 4.615_12;

/// The values at the ends of the gradient; values beyond take the colour of the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub low: f32,
    pub high: f32,
    /// Values below `low`, or above `high`, exist.
    pub clipped: [bool; 2],
}

impl Span {
    /// The 1 % and 99.9 % quantiles of the finite `values`, widened to hold `threshold`; `None` without a finite value.
    ///
    /// Quantiles, because one broken pixel would turn all others black.
    pub fn of(values: &Array2<f32>, threshold: Option<f32>) -> Option<Span> {
        let mut finite: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        if finite.is_empty() {
            return None;
        }
        let last = finite.len() - 1;
        let low_index = last / 100;
        let high_index = last - last / 1000;
        let mut low = *finite.select_nth_unstable_by(low_index, f32::total_cmp).1;
        let mut high = *finite.select_nth_unstable_by(high_index, f32::total_cmp).1;
        if let Some(threshold) = threshold.filter(|t| t.is_finite()) {
            low = low.min(threshold);
            high = high.max(threshold);
        }
        let clipped = [values.iter().any(|&v| v < low), values.iter().any(|&v| v > high)];
        Some(Span { low, high, clipped })
    }

    /// Of `values` that are `ln(1 + odds)`: from 0, and at least up to [`CLEAR_ODDS`], so that a map without even odds is a dark
    /// one.
    pub fn of_odds(values: &Array2<f32>) -> Option<Span> {
        let span = Span::of(values, None)?;
        let high = span.high.max(CLEAR_ODDS);
        Some(Span { low: 0.0, high, clipped: [false, values.iter().any(|&v| v > high)] })
    }

    /// Where `value` lies between the ends, 0..1; NaN stays NaN.
    pub fn place(&self, value: f32) -> f64 {
        let width = self.high as f64 - self.low as f64;
        if value.is_nan() {
            f64::NAN
        } else if width > 0.0 {
            ((value as f64 - self.low as f64) / width).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// A drawn map: palette indices `[height, width]` in C order, row 0 on top.
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// Picture pixels along a map pixel, `[y, x]`.
    pub scale: [usize; 2],
    indices: Vec<u8>,
}

/// Which pixels lie in a region (label above 0) and in the truth (above 0), as bits `[y, x]`.
///
/// `labels` and `truth` have one shape.
pub fn marks(labels: &Array2<i32>, truth: Option<&Array2<i32>>) -> Array2<u8> {
    let mut marks = labels.mapv(|label| if label > 0 { IN_REGION } else { 0 });
    if let Some(truth) = truth {
        marks.zip_mut_with(truth, |mark, &t| {
            if t > 0 {
                *mark |= IN_TRUTH;
            }
        });
    }
    marks
}

/// The smallest whole factor that brings both sides of `shape` to `most` or less.
pub fn shrink_factor(shape: (usize, usize), most: usize) -> usize {
    shape.0.max(shape.1).div_ceil(most).max(1)
}

/// The maximum of `values` `[y, x]` over blocks of `factor` squared, so that one hot pixel stays visible; NaN where all are.
pub fn shrink_values(values: &Array2<f32>, factor: usize) -> Array2<f32> {
    shrink(values, factor, f32::NAN, f32::max)
}

/// The bits of `marks` `[y, x]` joined over blocks of `factor` squared.
pub fn shrink_marks(marks: &Array2<u8>, factor: usize) -> Array2<u8> {
    shrink(marks, factor, 0, |a, b| a | b)
}

fn shrink<T: Copy>(array: &Array2<T>, factor: usize, zero: T, join: fn(T, T) -> T) -> Array2<T> {
    let (height, width) = array.dim();
    Array2::from_shape_fn((height.div_ceil(factor), width.div_ceil(factor)), |(y, x)| {
        let (top, left) = (y * factor, x * factor);
        let bottom = (top + factor).min(height);
        let right = (left + factor).min(width);
        array.slice(s![top..bottom, left..right]).iter().fold(zero, |joined, &value| join(joined, value))
    })
}

impl Picture {
    /// Draws `values` `[y, x]`, magnified by a whole number to at most `side` picture pixels or not at all, with the outlines of `marks` `[y, x]`; NaN is hatched grey.
    pub fn draw(values: &Array2<f32>, marks: &Array2<u8>, span: Option<Span>, side: usize) -> Picture {
        let (rows, columns) = values.dim();
        let scale = magnification(rows, columns, side);
        let (height, width) = (rows * scale[0], columns * scale[1]);
        let mut picture = Picture { width, height, scale, indices: vec![HATCH_LIGHT; height * width] };
        for ((y, x), &value) in values.indexed_iter() {
            let place = span.map_or(f64::NAN, |span| span.place(value));
            let block = [y * scale[0]..(y + 1) * scale[0], x * scale[1]..(x + 1) * scale[1]];
            if place.is_nan() {
                picture.fill(block, |py, px| Some(if on_stripe(py, px) { HATCH_LIGHT } else { HATCH_DARK }));
            } else {
                let shade = (place * (SHADES - 1) as f64).round() as u8;
                picture.fill(block, |_, _| Some(shade));
            }
        }
        picture.outline(marks, IN_REGION, |_, _| Some(REGION));
        picture.outline(marks, IN_TRUTH, |py, px| on_stripe(py, px).then_some(TRUTH));
        picture
    }

    /// Colours the pixels of `block` (`[y, x]` ranges) for which `color` gives one.
    fn fill(&mut self, block: [std::ops::Range<usize>; 2], color: impl Fn(usize, usize) -> Option<u8>) {
        let [rows, columns] = block;
        for py in rows {
            for px in columns.clone() {
                if let Some(index) = color(py, px) {
                    self.indices[py * self.width + px] = index;
                }
            }
        }
    }

    /// Outlines the pixels with `bit`; the line lies outside of them, so that a single pixel keeps its colour.
    fn outline(&mut self, marks: &Array2<u8>, bit: u8, color: impl Fn(usize, usize) -> Option<u8>) {
        let (rows, columns) = marks.dim();
        let scale = self.scale;
        let line = (scale[0].min(scale[1]) / 3).clamp(1, 2);
        // The part of a block of `size` pixels from `start` that touches the neighbour at `offset`.
        let edge = |start: usize, size: usize, offset: isize| match offset {
            -1 => start..start + line,
            0 => start..start + size,
            _ => start + size - line..start + size,
        };
        for (y, x) in ndarray::indices((rows, columns)) {
            if marks[[y, x]] & bit != 0 {
                continue;
            }
            for (dy, dx) in NEIGHBOURS {
                let neighbour = y.checked_add_signed(dy).zip(x.checked_add_signed(dx));
                let inside = neighbour.and_then(|at| marks.get(at)).is_some_and(|mark| mark & bit != 0);
                if inside {
                    let block = [edge(y * scale[0], scale[0], dy), edge(x * scale[1], scale[1], dx)];
                    self.fill(block, &color);
                }
            }
        }
    }

    /// The PNG, 8 bits by palette; `note` is kept in it as its description.
    ///
    /// # Errors
    /// A picture without pixels.
    pub fn png(&self, quantity: Quantity, note: &str) -> Result<Vec<u8>> {
        let side = |size: usize| u32::try_from(size).context("the map is too large for a PNG");
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(quantity.palette());
        encoder.set_compression(png::Compression::High);
        encoder.add_itxt_chunk("Description".into(), note.into()).context("the PNG's description")?;
        let mut writer = encoder.write_header().context("the PNG's header")?;
        writer.write_image_data(&self.indices).context("the PNG's pixels")?;
        writer.finish().context("the PNG's end")?;
        Ok(bytes)
    }
}

/// Whether a picture pixel lies on an even one of the slanted stripes.
fn on_stripe(py: usize, px: usize) -> bool {
    ((py + px) / STRIPE).is_multiple_of(2)
}

const NEIGHBOURS: [(isize, isize); 8] = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)];

/// Picture pixels along a map pixel, `[y, x]`: equal, unless one side of the map would be too thin to see.
fn magnification(rows: usize, columns: usize, side: usize) -> [usize; 2] {
    let scale = (side / rows.max(columns).max(1)).clamp(1, MOST_SCALE);
    [rows, columns].map(|size| scale.max(LEAST_SIDE.div_ceil(size.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// Width, height and RGB of a PNG.
    fn decode(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.color_type, png::ColorType::Rgb);
        (info.width, info.height, pixels)
    }

    fn none(values: &Array2<f32>) -> Array2<u8> {
        Array2::zeros(values.dim())
    }

    #[test]
    fn small_maps_are_magnified_and_thin_ones_thickened() {
        for (shape, size) in [
            ((1, 1), (32, 32)),
            ((1, 100), (300, 24)),
            ((100, 1), (24, 300)),
            ((49, 6), (36, 294)),
            ((512, 512), (512, 512)),
        ] {
            let values = Array2::from_elem(shape, 1.0);
            let picture = Picture::draw(&values, &none(&values), Span::of(&values, None), READABLE_SIDE);
            let (width, height, _) = decode(&picture.png(Quantity::Score, "").unwrap());
            assert_eq!((width, height), size, "{shape:?}");
        }
    }

    #[test]
    fn nan_is_grey_and_all_nan_has_no_span() {
        let values = Array2::from_elem((3, 4), f32::NAN);
        assert_eq!(Span::of(&values, Some(1.0)), None);
        let picture = Picture::draw(&values, &none(&values), None, READABLE_SIDE);
        let (_, _, pixels) = decode(&picture.png(Quantity::Score, "").unwrap());
        assert!(pixels.chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    }

    #[test]
    fn an_outline_surrounds_a_pixel_and_leaves_it_its_colour() {
        let values = array![[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]];
        let labels = array![[0, 0, 0], [0, 1, 0], [0, 0, 0]];
        let picture = Picture::draw(&values, &marks(&labels, None), Span::of(&values, None), READABLE_SIDE);
        let at = |y: usize, x: usize| picture.indices[y * picture.width + x];
        let k = picture.scale[0];
        assert_eq!(at(k, k), SHADES as u8 - 1);
        assert_eq!(at(k - 1, k - 1), REGION);
        assert_eq!(at(k - 1, k), REGION);
        assert_eq!(at(2 * k, 2 * k - 1), REGION);
        assert_eq!(at(0, 0), 0);
    }

    #[test]
    fn shrinking_keeps_a_hot_pixel_and_forgets_nan() {
        let mut values = Array2::from_elem((5, 7), f32::NAN);
        values[[4, 6]] = 7.0;
        values[[0, 1]] = -1.0;
        let small = shrink_values(&values, 2);
        assert_eq!(small.dim(), (3, 4));
        assert_eq!((small[[2, 3]], small[[0, 0]]), (7.0, -1.0));
        assert!(small[[1, 1]].is_nan());
        assert_eq!(shrink_factor((1025, 3), 512), 3);
        assert_eq!(shrink_factor((0, 0), 512), 1);
    }

    #[test]
    fn a_span_holds_its_threshold_and_ignores_one_broken_pixel() {
        let mut values = Array2::from_shape_fn((100, 100), |(y, x)| (y * 100 + x) as f32);
        values[[0, 0]] = 1e30;
        values[[0, 1]] = f32::INFINITY;
        let span = Span::of(&values, Some(20_000.0)).unwrap();
        assert_eq!(span.high, 20_000.0);
        assert_eq!(span.clipped, [true, true]);
        assert_eq!(span.place(f32::INFINITY), 1.0);
        let flat = Span::of(&Array2::from_elem((2, 2), 3.0), None).unwrap();
        assert_eq!(flat.place(3.0), 0.0);
    }
}
