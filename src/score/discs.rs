//! Discs of pixels: sums and means over a pixel and those around it, where some pixels do not count.

use ndarray::{Array1, Array2, ArrayView2, Ix1, SliceInfo, SliceInfoElem, Zip, s};

use crate::bands::{Bands, WithHalo, values_and_presence};

/// The sizes of anomalies that are looked for: discs of 1, 9, 21 and 37 pixels.
const RADII: [f64; 4] = [0.0, 1.5, 2.3, 3.4];
/// On either side of a pixel of a scan of one line.
const HALF_WIDTHS: [f64; 4] = [0.0, 1.0, 2.0, 4.0];

/// The pixels within some distance of a pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Disc {
    /// `(y, x)` from the pixel, which is one of them.
    offsets: Vec<(isize, isize)>,
}

impl Disc {
    /// The sizes that anomalies are looked for in, the smallest first; those of a scan of one line lie within it.
    pub fn sizes(line_scan: bool) -> [Disc; 4] {
        if line_scan {
            return HALF_WIDTHS.map(|reach| Disc::new(0, reach as isize, reach));
        }
        RADII.map(|radius| Disc::new(radius as isize, radius as isize, radius))
    }

    /// A pixel and its neighbours.
    pub fn neighbours(line_scan: bool) -> Disc {
        Disc::sizes(line_scan)[1].clone()
    }

    fn new(reach_y: isize, reach_x: isize, radius: f64) -> Disc {
        let within = |&(y, x): &(isize, isize)| ((y * y + x * x) as f64) <= radius * radius;
        let all = (-reach_y..=reach_y).flat_map(|y| (-reach_x..=reach_x).map(move |x| (y, x)));
        Disc { offsets: all.filter(within).collect() }
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.offsets.len()
    }

    /// Lines on either side that it reaches.
    pub fn reach(&self) -> usize {
        self.offsets.iter().map(|&(y, _)| y.unsigned_abs()).max().unwrap_or(0)
    }

    /// Pixels of a line on either side that it reaches.
    pub fn reach_along_x(&self) -> usize {
        self.offsets.iter().map(|&(_, x)| x.unsigned_abs()).max().unwrap_or(0)
    }

    pub fn offsets(&self) -> &[(isize, isize)] {
        &self.offsets
    }

    /// As [`pooled`](Self::pooled), of several maps `[lines, x]` in which the same pixels count.
    ///
    /// # Collective
    pub fn pooled_each(&self, bands: &Bands, maps: &[Array2<f32>]) -> (Vec<Array2<f32>>, Array2<f32>) {
        let views: Vec<ArrayView2<f32>> = maps.iter().map(|map| map.view()).collect();
        let mut counts = Array2::zeros(bands.shape());
        let mut pooled = Vec::with_capacity(maps.len());
        for map in bands.with_halos(&views, self.reach()) {
            let (of_map, found) = self.pooled(&map);
            pooled.push(of_map);
            counts = found;
        }
        (pooled, counts)
    }

    /// For each pixel of a band, the sum over its disc divided by the root of the number of pixels that count, so that white
    /// noise keeps its spread; and that number. NaN does not count, and stays NaN.
    pub fn pooled(&self, map: &WithHalo) -> (Array2<f32>, Array2<f32>) {
        let (height, width) = map.map.dim();
        let (values, presence) = values_and_presence(map.map.view());
        let mut pooled = Array2::zeros((map.own.len(), width));
        let mut counts = Array2::<f32>::zeros((map.own.len(), width));
        Zip::indexed(pooled.rows_mut()).and(counts.rows_mut()).par_for_each(|line, mut sums, mut counts| {
            let y = map.own.start + line;
            let mut exact = Array1::<f64>::zeros(width);
            for &(dy, dx) in &self.offsets {
                let row = y.checked_add_signed(dy).filter(|&row| row < height);
                let Some(row) = row else { continue };
                let [to, from] = overlap(dx, width);
                let near = values.row(row).slice_move(from);
                Zip::from(exact.slice_mut(to)).and(near).for_each(|sum, &value| *sum += f64::from(value));
                counts.slice_mut(to).scaled_add(1.0, &presence.row(row).slice_move(from));
            }
            Zip::from(&mut sums).and(&exact).and(&counts).and(map.map.row(y)).for_each(|sum, exact, count, value| {
                *sum = if value.is_nan() { f32::NAN } else { (exact / f64::from(*count).sqrt()) as f32 };
            });
        });
        (pooled, counts)
    }
}

/// Two slices of a line: the pixels that have another `dx` further right, and those others.
pub fn overlap(dx: isize, width: usize) -> [Slice1; 2] {
    let lag = dx.unsigned_abs().min(width);
    let (near, far) = (s![..width - lag], s![lag..]);
    if dx < 0 { [far, near] } else { [near, far] }
}

type Slice1 = SliceInfo<[SliceInfoElem; 1], Ix1, Ix1>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discs_have_as_many_pixels_as_counted_by_hand() {
        assert_eq!(Disc::sizes(false).map(|disc| disc.pixels()), [1, 9, 21, 37]);
        assert_eq!(Disc::sizes(true).map(|disc| disc.pixels()), [1, 3, 5, 9]);
        assert_eq!(Disc::sizes(true)[3].reach(), 0);
    }

    #[test]
    fn white_noise_keeps_its_spread_and_gaps_stay_gaps() {
        let mut map = Array2::from_elem((9, 9), 1f32);
        map[[0, 0]] = f32::NAN;
        let (pooled, counts) = Disc::sizes(false)[2].pooled(&WithHalo::whole(map.view()));
        assert!(pooled[[0, 0]].is_nan());
        assert_eq!((counts[[4, 4]], counts[[0, 1]]), (21.0, 10.0));
        assert!((pooled[[4, 4]] - 21f32.sqrt()).abs() < 1e-6);
    }
}
