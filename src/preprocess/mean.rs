//! The spatial mean over a pixel and those around it, in electrons: the spectrum `u` that every model sees.

use ndarray::{Array2, ArrayView2, ArrayView3, ArrayViewMut2};

use crate::cube::neighbourhood;

/// The valid pixels: those that are not `ignored` and have a finite voxel.
///
/// `raw` is `[row, x, energy]`, `ignored` and the result `[row, x]`.
pub fn valid_pixels(raw: ArrayView3<f32>, ignored: ArrayView2<bool>) -> Array2<bool> {
    Array2::from_shape_fn(ignored.dim(), |(row, x)| {
        let mut spectrum = raw.slice(ndarray::s![row, x, ..]).into_iter();
        !ignored[[row, x]] && spectrum.any(|v| v.is_finite())
    })
}

/// Writes `u = max(mean, 0)` of row `row` to `out` `[x, energy]`, in electrons.
///
/// `values` is `[row, x, energy]` in ADU, with the rows next to `row` wherever the cube has them; `valid` is `[row,
/// x]`. The mean is over the finite voxels of the valid pixels of a `window` x `window` square (1 or 3). It is 0 where
/// there are none, and in pixels that are not valid. Sums are f64 in a fixed order.
pub fn mean_row(
    values: ArrayView3<f32>,
    valid: ArrayView2<bool>,
    row: usize,
    window: usize,
    gain: f64,
    mut out: ArrayViewMut2<f32>,
) {
    let (height, width, channels) = values.dim();
    let reach = window / 2;
    let rows = neighbourhood(row, reach, height);
    let mut sums = Array2::<f64>::zeros((width, channels));
    let mut counts = Array2::<f64>::zeros((width, channels));
    for x in 0..width {
        let (mut sum, mut count) = (sums.row_mut(x), counts.row_mut(x));
        for y in rows.clone().filter(|&y| valid[[y, x]]) {
            let spectrum = values.slice(ndarray::s![y, x, ..]);
            ndarray::Zip::from(&mut sum).and(&mut count).and(spectrum).for_each(|sum, count, &value| {
                let is_known = value.is_finite();
                *sum += if is_known { value as f64 } else { 0.0 };
                *count += if is_known { 1.0 } else { 0.0 };
            });
        }
    }
    let mut total = vec![(0.0f64, 0.0f64); channels];
    for x in 0..width {
        let mut spectrum = out.row_mut(x);
        if !valid[[row, x]] {
            spectrum.fill(0.0);
            continue;
        }
        total.fill((0.0, 0.0));
        for column in neighbourhood(x, reach, width) {
            let column = sums.row(column).into_iter().zip(counts.row(column));
            for (total, (sum, count)) in total.iter_mut().zip(column) {
                total.0 += sum;
                total.1 += count;
            }
        }
        for (u, (sum, count)) in spectrum.iter_mut().zip(&total) {
            *u = (sum / (gain * count.max(1.0))).max(0.0) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, array};

    #[test]
    fn the_mean_is_over_valid_finite_neighbours() {
        // One channel, gain 2.
        let mut values = Array3::zeros((3, 3, 1));
        values.iter_mut().enumerate().for_each(|(i, v)| *v = i as f32);
        values[[0, 1, 0]] = f32::NAN;
        let mut ignored = Array2::from_elem((3, 3), false);
        ignored[[2, 2]] = true;
        let valid = valid_pixels(values.view(), ignored.view());
        assert_eq!(valid.row(0), array![true, false, true]);
        assert_eq!(valid.row(2), array![true, true, false]);
        let mut out = Array2::zeros((3, 1));
        mean_row(values.view(), valid.view(), 1, 3, 2.0, out.view_mut());
        // Centre: 0 2 3 4 5 6 7 = 27 / 7; left: 0 3 4 6 7 = 20 / 5; right: 2 4 5 7 = 18 / 4.
        assert_eq!(out, array![[2.0], [13.5f64 as f32 / 7.0], [2.25]]);
        mean_row(values.view(), valid.view(), 2, 1, 2.0, out.view_mut());
        assert_eq!(out, array![[3.0], [3.5], [0.0]]);
    }

    #[test]
    fn below_zero_becomes_zero() {
        let values = Array3::from_elem((1, 2, 2), -4.0);
        let valid = Array2::from_elem((1, 2), true);
        let mut out = Array2::from_elem((2, 2), 9.0);
        mean_row(values.view(), valid.view(), 0, 3, 1.0, out.view_mut());
        assert_eq!(out, Array2::<f32>::zeros((2, 2)));
    }
}
