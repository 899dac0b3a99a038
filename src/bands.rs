//! Maps whose lines are spread over ranks: each rank holds a band of lines, and fetches a halo around it where it needs
//! one.

use std::ops::Range;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, ArrayView3, s};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::comm::{Comm, ExactSum};
use crate::cube::neighbourhood;

/// Maps that are best exchanged together by [`Bands::with_halos`]: fewer take more rounds, more take more memory.
pub const AT_ONCE: usize = 16;

/// Which lines of a cube's maps each rank holds.
pub struct Bands<'a> {
    pub comm: &'a Comm,
    /// Valid pixels of all ranks.
    pub num_valid: u64,
    /// The lines of each rank.
    bands: Vec<Range<usize>>,
    width: usize,
}

/// A band of a map with a halo: more lines on either side, where the map has them.
pub struct WithHalo {
    pub map: Array2<f32>,
    /// The lines of the band itself.
    pub own: Range<usize>,
}

#[cfg(test)]
impl WithHalo {
    /// A map that is all here.
    pub fn whole(map: ArrayView2<f32>) -> WithHalo {
        WithHalo { map: map.to_owned(), own: 0..map.nrows() }
    }
}

impl<'a> Bands<'a> {
    /// This rank holds `lines` lines of `width` pixels, after those of the lower ranks; `valid` of their pixels are
    /// valid.
    ///
    /// # Collective
    pub fn new(comm: &'a Comm, width: usize, lines: usize, valid: usize) -> Bands<'a> {
        let mut next = 0;
        let band = |lines| {
            next += lines;
            next - lines..next
        };
        Bands {
            comm,
            num_valid: comm.sum_u64(valid as u64),
            bands: comm.all_gather(&lines).into_iter().map(band).collect(),
            width,
        }
    }

    /// Lines of the map, of all ranks.
    pub fn height(&self) -> usize {
        self.bands.last().map_or(0, |band| band.end)
    }

    /// This rank's lines.
    pub fn own(&self) -> Range<usize> {
        self.bands[self.comm.rank()].clone()
    }

    /// The shape `[y, x]` of this rank's band of a map.
    pub fn shape(&self) -> (usize, usize) {
        (self.own().len(), self.width)
    }

    /// The shape `[y, x]` of the whole map.
    pub fn field(&self) -> [usize; 2] {
        [self.bands.last().map_or(0, |band| band.end), self.width]
    }

    /// Whether the cube is one line.
    pub fn is_line_scan(&self) -> bool {
        self.field()[0] == 1
    }

    /// The sum of `values`, one for each pixel of this rank and none larger than `bound`, over all ranks; NaN counts as 0.
    ///
    /// # Collective
    /// # Errors
    /// A value that is infinite.
    pub fn sum(&self, values: &[f32], bound: f64) -> Result<f64> {
        let mut sum = ExactSum::new(1, self.num_valid.max(1) as f64 * bound.max(1e-30));
        for line in values.chunks(self.width.max(1)) {
            sum.add(&[line.iter().filter(|value| !value.is_nan()).map(|&value| f64::from(value)).sum()]);
        }
        Ok(sum.total(self.comm)?[0])
    }

    /// What the rank that holds `pixel` of the cube makes of it, given its index among that rank's pixels.
    ///
    /// # Collective
    pub fn pixel<T: Serialize + DeserializeOwned>(&self, [y, x]: [usize; 2], value: impl FnOnce(usize) -> T) -> T {
        let own = self.own();
        let here = own.contains(&y).then(|| value((y - own.start) * self.width + x));
        self.comm.all_gather(&here).into_iter().flatten().next().expect("every line belongs to a rank")
    }

    /// The number of pixels of all ranks that are marked.
    ///
    /// # Collective
    pub fn count(&self, marks: &Array2<bool>) -> usize {
        self.comm.sum_u64(marks.iter().filter(|&&mark| mark).count() as u64) as usize
    }

    /// Marks the pixels within `reach` `[y, x]` of a marked one.
    ///
    /// # Collective
    pub fn dilated(&self, marks: &Array2<bool>, reach: [usize; 2]) -> Array2<bool> {
        let map = marks.mapv(|mark| f32::from(u8::from(mark)));
        let WithHalo { map, own } = self.with_halo(map.view(), reach[0]);
        Array2::from_shape_fn(self.shape(), |(y, x)| {
            let lines = neighbourhood(own.start + y, reach[0], map.nrows());
            map.slice(s![lines, neighbourhood(x, reach[1], self.width)]).iter().any(|&mark| mark > 0.0)
        })
    }

    /// This rank's band of a map that all ranks have as a whole.
    pub fn own_part<T: Copy>(&self, whole: &[T]) -> Array2<T> {
        let own = self.own();
        let part = whole[own.start * self.width..own.end * self.width].to_vec();
        Array2::from_shape_vec(self.shape(), part).expect("a value for each pixel")
    }

    /// The whole map, in C order, on all ranks.
    ///
    /// # Collective
    pub fn whole(&self, own: &[f32]) -> Vec<f32> {
        self.comm.all_gather(&own.to_vec()).concat()
    }

    /// A value for each pixel of this rank, as its band of a map.
    pub fn map(&self, values: Vec<f32>) -> Array2<f32> {
        Array2::from_shape_vec(self.shape(), values).expect("a value for each pixel")
    }

    /// This rank's band of a map with a halo of up to `reach` lines on either side.
    ///
    /// # Collective
    pub fn with_halo(&self, own: ArrayView2<f32>, reach: usize) -> WithHalo {
        self.with_halos(&[own], reach).pop().expect("a map for a map")
    }

    /// As [`with_halo`](Self::with_halo), of several maps at once.
    ///
    /// # Collective
    pub fn with_halos(&self, maps: &[ArrayView2<f32>], reach: usize) -> Vec<WithHalo> {
        let here = self.own();
        if reach == 0 {
            return maps.iter().map(|map| WithHalo { map: map.to_owned(), own: 0..here.len() }).collect();
        }
        let last = self.height();
        let wanted = |band: &Range<usize>| match band.is_empty() {
            true => 0..0,
            false => band.start.saturating_sub(reach)..(band.end + reach).min(last),
        };
        // A line holds those of all maps, one after the other.
        let width = maps.len() * self.width;
        // The values of the band `has` that the rank of the band `wants` needs, counted from the first of `has`.
        let shared = |has: &Range<usize>, wants: &Range<usize>| {
            let wants = wanted(wants);
            let lines = wants.start.max(has.start)..wants.end.min(has.end);
            if lines.is_empty() {
                return 0..0;
            }
            (lines.start - has.start) * width..(lines.end - has.start) * width
        };
        let mut values = Vec::with_capacity(here.len() * width);
        for y in 0..here.len() {
            maps.iter().for_each(|map| values.extend(map.row(y)));
        }
        let sent: Vec<Range<usize>> = self.bands.iter().map(|wants| shared(&here, wants)).collect();
        let received: Vec<usize> = self.bands.iter().map(|has| shared(has, &here).len()).collect();
        let values = self.comm.exchange(&values, &sent, &received);
        let lines = wanted(&here);
        let first = if here.is_empty() { 0 } else { here.start - lines.start };
        let values = ArrayView3::from_shape((lines.len(), maps.len(), self.width), &values);
        let values = values.expect("every line belongs to a rank");
        let of_map =
            |k: usize| WithHalo { map: values.slice(s![.., k, ..]).to_owned(), own: first..first + here.len() };
        (0..maps.len()).map(of_map).collect()
    }
}

/// A map with 0 for NaN, and a map with 1 where the first has a value and 0 where it has none.
pub fn values_and_presence(map: ArrayView2<f32>) -> (Array2<f32>, Array2<f32>) {
    let values = map.mapv(|v| if v.is_nan() { 0.0 } else { v });
    (values, map.mapv(|v| f32::from(u8::from(!v.is_nan()))))
}
