//! Maps of a cube whose lines are spread over ranks: every rank holds a band of them, and asks for what lies beside it.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};

use crate::comm::Comm;

/// Who holds which lines of a map.
pub struct Pixels<'a> {
    pub comm: &'a Comm,
    /// Pixels that count, over all ranks.
    pub num_valid: u64,
    /// The lines of each rank.
    bands: Vec<Range<usize>>,
    width: usize,
}

/// A band of a map with some lines more on either side, where the map has them.
pub struct WithHalo {
    pub map: Array2<f32>,
    /// The lines of the band itself.
    pub own: Range<usize>,
}

impl<'a> Pixels<'a> {
    /// `lines` of `width` pixels are this rank's, after those of the lower ranks; `valid` of their pixels count.
    ///
    /// # Collective
    pub fn new(comm: &'a Comm, width: usize, lines: usize, valid: usize) -> Pixels<'a> {
        let mut next = 0;
        let band = |lines| {
            next += lines;
            next - lines..next
        };
        Pixels {
            comm,
            num_valid: comm.sum_u64(valid as u64),
            bands: comm.all_gather(&lines).into_iter().map(band).collect(),
            width,
        }
    }

    /// This rank's lines.
    pub fn band(&self) -> Range<usize> {
        self.bands[self.comm.rank()].clone()
    }

    /// Lines and pixels of a line of this rank's part of a map.
    pub fn shape(&self) -> (usize, usize) {
        (self.band().len(), self.width)
    }

    /// This rank's pixels as its part of a map.
    pub fn map(&self, values: Vec<f32>) -> Array2<f32> {
        Array2::from_shape_vec(self.shape(), values).expect("a value for each pixel")
    }

    /// This rank's part of a map with `reach` lines more on either side.
    ///
    /// # Collective
    pub fn beside(&self, own: ArrayView2<f32>, reach: usize) -> WithHalo {
        let last = self.bands.last().map_or(0, |band| band.end);
        let wanted = |band: &Range<usize>| match band.is_empty() {
            true => 0..0,
            false => band.start.saturating_sub(reach)..(band.end + reach).min(last),
        };
        // The pixels of one band that another wants, from the band's first.
        let of = |has: &Range<usize>, wants: &Range<usize>| {
            let wants = wanted(wants);
            let lines = wants.start.max(has.start)..wants.end.min(has.end);
            if lines.is_empty() {
                return 0..0;
            }
            (lines.start - has.start) * self.width..(lines.end - has.start) * self.width
        };
        let (here, values) = (self.band(), own.iter().copied().collect::<Vec<f32>>());
        let sent: Vec<Range<usize>> = self.bands.iter().map(|wants| of(&here, wants)).collect();
        let received: Vec<usize> = self.bands.iter().map(|has| of(has, &here).len()).collect();
        let values = self.comm.exchange(&values, &sent, &received);
        let lines = wanted(&here);
        let first = if here.is_empty() { 0 } else { here.start - lines.start };
        WithHalo {
            map: Array2::from_shape_vec((lines.len(), self.width), values).expect("every line is some rank's"),
            own: first..first + here.len(),
        }
    }
}

/// A map with 0 where nothing is known, and 1 where something is.
pub fn known(map: ArrayView2<f32>) -> (Array2<f32>, Array2<f32>) {
    let values = map.mapv(|v| if v.is_nan() { 0.0 } else { v });
    (values, map.mapv(|v| f32::from(u8::from(!v.is_nan()))))
}
