//! The components of a rank's pixels and of those around them.

use std::ops::Range;

use ndarray::{Array2, Array3, ArrayView2, Axis as Dim};

use super::window::{REACH, window};
use crate::bands::{Bands, WithHalo};

/// Components are multiples of this, and none is larger than `LIMIT`: then sums of products of at most 2^15 pixels are exact
/// in f64, in whatever order they are formed.
pub const STEP: f32 = 1.0 / 1024.0;
pub const LIMIT: f32 = 128.0;

/// The components of the pixels of a band with its halo.
pub struct Field {
    /// `[y, x, components]`; 0 where a pixel is not valid: it is not seen.
    values: Array3<f32>,
    valid: Array2<bool>,
    /// The lines of the band itself.
    own: Range<usize>,
    /// The place of its first line in the whole field.
    first: usize,
    /// The places that a prediction sees.
    pub window: Vec<[isize; 2]>,
}

impl Field {
    /// The field of which this rank has the `components` `[pixels, components]`, NaN where a pixel is not valid.
    ///
    /// # Collective
    pub fn new(bands: &Bands, components: ArrayView2<f64>) -> Field {
        let maps = components.axis_iter(Dim(1)).map(|component| {
            let map = bands.map(component.iter().map(|&value| rounded(value)).collect());
            bands.with_halo(map.view(), REACH[0])
        });
        let maps: Vec<WithHalo> = maps.collect();
        Field::of(&maps, bands.own().start, [bands.height(), bands.shape().1])
    }

    /// The field with the given `maps`, whose own lines begin at `first` of a field of `size` `[y, x]`.
    pub(super) fn of(maps: &[WithHalo], first: usize, size: [usize; 2]) -> Field {
        let (lines, width) = maps.first().map_or((0, size[1]), |map| map.map.dim());
        let known = |y, x, k: usize| maps[k].map[[y, x]];
        Field {
            values: Array3::from_shape_fn((lines, width, maps.len()), |(y, x, k)| {
                let value = known(y, x, k);
                if value.is_nan() { 0.0 } else { value }
            }),
            valid: Array2::from_shape_fn((lines, width), |(y, x)| (0..maps.len()).all(|k| !known(y, x, k).is_nan())),
            own: maps.first().map_or(0..0, |map| map.own.clone()),
            first,
            window: window(size),
        }
    }

    /// Number of components of a pixel.
    pub fn num_components(&self) -> usize {
        self.values.len_of(Dim(2))
    }

    /// Numbers that a prediction is formed from.
    pub fn num_seen(&self) -> usize {
        self.window.len() * self.num_components()
    }

    pub fn width(&self) -> usize {
        self.valid.ncols()
    }

    /// The valid pixels of the band, as places of the whole field.
    pub fn own_pixels(&self) -> impl Iterator<Item = [usize; 2]> + '_ {
        let places = self.own.clone().flat_map(|line| (0..self.width()).map(move |x| [line, x]));
        places.filter(|&place| self.valid[place]).map(|[line, x]| [line - self.own.start + self.first, x])
    }

    /// The components of the pixel at `place` of the whole field, which must be in the band.
    pub fn at(&self, [y, x]: [usize; 2]) -> &[f32] {
        self.in_line(y - self.first + self.own.start, x)
    }

    /// The components that a prediction at `place` sees, by place of the window; none beyond the field.
    pub fn seen(&self, [y, x]: [usize; 2]) -> impl Iterator<Item = Option<&[f32]>> {
        let line = y - self.first + self.own.start;
        self.window.iter().map(move |&[dy, dx]| {
            let line = line.checked_add_signed(dy).filter(|&line| line < self.valid.nrows())?;
            let x = x.checked_add_signed(dx).filter(|&x| x < self.width())?;
            Some(self.in_line(line, x))
        })
    }

    fn in_line(&self, line: usize, x: usize) -> &[f32] {
        let count = self.num_components();
        let start = (line * self.width() + x) * count;
        &self.values.as_slice().expect("in C order")[start..start + count]
    }
}

/// The nearest of the values that sums are exact of.
fn rounded(value: f64) -> f32 {
    ((value as f32 / STEP).round() * STEP).clamp(-LIMIT, LIMIT)
}
