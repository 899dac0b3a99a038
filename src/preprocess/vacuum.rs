//! Finds the pixels without specimen by their total counts alone.
//!
//! Masking specimen is worse than keeping vacuum: nothing is masked where the totals do not clearly fall into two
//! classes.

use ndarray::{Array2, ArrayView3};

use crate::spectrum::{Middle, median};

/// Pixels that a two-class split needs.
const MIN_PIXELS: usize = 16;
/// Largest ratio of the median totals of vacuum and specimen. In vacuum next to a specimen the tails of probe and
/// detector leave a tenth of its counts; a support film leaves more.
const MAX_RATIO: f64 = 0.25;
/// The same where the darker pixels are the majority: they are then a support, unless they are nearly empty.
const MAX_RATIO_MAJORITY: f64 = 0.02;
/// A pixel with less than this share of the bright pixels' counts has no signal.
const FLOOR_SHARE: f64 = 0.01;

/// The sum of the finite voxels of each pixel, `[row, x]` in the unit of `raw` `[row, x, energy]`; f64 sums in order.
pub fn pixel_totals(raw: ArrayView3<f32>) -> Array2<f32> {
    let (rows, width, _) = raw.dim();
    Array2::from_shape_fn((rows, width), |(row, x)| {
        let spectrum = raw.slice(ndarray::s![row, x, ..]);
        let finite = spectrum.iter().filter(|v| v.is_finite());
        finite.map(|&v| v as f64).sum::<f64>() as f32
    })
}

/// The total counts below which a pixel is vacuum; `None` where the pixels are not clearly of two classes.
///
/// `totals` are the pixels' total counts over the whole recorded range, in any unit and order; values that are not
/// finite are left out. Vacuum must lie far below the specimen, and totals between the two must be rare.
///
/// # Source
/// Otsu 1979, IEEE Trans. Syst. Man Cybern. 9, 62: the split with the largest variance between the classes.
pub fn vacuum_threshold(totals: &[f32]) -> Option<f32> {
    let sorted = sorted_finite(totals);
    if sorted.len() < MIN_PIXELS {
        return None;
    }
    let dark = otsu_split(&sorted)?;
    let [vacuum, specimen] =
        [&sorted[..dark], &sorted[dark..]].map(|class| median(class.iter().copied(), Middle::Upper));
    let limit = if 2 * dark > sorted.len() { MAX_RATIO_MAJORITY } else { MAX_RATIO };
    if specimen <= 0.0 || vacuum > limit * specimen {
        return None;
    }
    let threshold = 0.5 * (sorted[dark - 1] + sorted[dark]);
    let reach = 0.1 * (specimen - vacuum);
    let near =
        |total: f64| sorted.partition_point(|&t| t <= total + reach) - sorted.partition_point(|&t| t < total - reach);
    let rare = 2 * near(threshold) <= near(vacuum).min(near(specimen));
    rare.then_some(threshold as f32)
}

/// The total counts at or below which a pixel has no signal: a hundredth of a bright pixel's (the 90th percentile).
///
/// `totals` as for [`vacuum_threshold`]. At least 0, so that empty pixels are masked in every cube.
pub fn signal_floor(totals: &[f32]) -> f32 {
    let sorted = sorted_finite(totals);
    let bright = sorted.get(sorted.len() * 9 / 10).copied();
    (FLOOR_SHARE * bright.unwrap_or(0.0)).max(0.0) as f32
}

fn sorted_finite(totals: &[f32]) -> Vec<f64> {
    let finite = totals.iter().filter(|t| t.is_finite());
    let mut sorted: Vec<f64> = finite.map(|&t| t as f64).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The number of `sorted` totals in the lower class; `None` where all are equal.
fn otsu_split(sorted: &[f64]) -> Option<usize> {
    let total: f64 = sorted.iter().sum();
    let mut below = 0.0;
    let mut best = (0.0, None);
    for (i, &value) in sorted.iter().enumerate().take(sorted.len() - 1) {
        below += value;
        let (low, high) = ((i + 1) as f64, (sorted.len() - i - 1) as f64);
        let apart = (total - below) / high - below / low;
        let between = low * high * apart * apart;
        if sorted[i + 1] > value && between > best.0 {
            best = (between, Some(i + 1));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn around(level: f32, spread: f32, count: usize) -> impl Iterator<Item = f32> {
        (0..count).map(move |i| level + spread * ((i * 7 % 11) as f32 / 5.0 - 1.0))
    }

    #[test]
    fn vacuum_beside_a_specimen_is_found() {
        let totals: Vec<f32> = around(80.0, 20.0, 30).chain(around(1000.0, 100.0, 70)).collect();
        // The classes' facing edges: 80 + 20 and 1000 - 100.
        assert_eq!(vacuum_threshold(&totals), Some(500.0));
    }

    #[test]
    fn a_homogeneous_cube_a_wedge_and_a_support_are_kept() {
        let homogeneous: Vec<f32> = around(1000.0, 150.0, 200).collect();
        let wedge: Vec<f32> = (1..200).map(|i| 5.0 * i as f32).collect();
        let support: Vec<f32> = around(100.0, 10.0, 80).chain(around(1000.0, 300.0, 20)).collect();
        for totals in [homogeneous, wedge, support, vec![7.0; 50], vec![1.0, 900.0]] {
            assert_eq!(vacuum_threshold(&totals), None);
        }
    }

    #[test]
    fn mostly_empty_is_vacuum() {
        let totals: Vec<f32> = around(1.0, 0.5, 80).chain(around(1000.0, 100.0, 20)).collect();
        assert!(vacuum_threshold(&totals).is_some());
    }

    #[test]
    fn the_floor_is_a_hundredth_of_the_bright_and_never_negative() {
        let totals: Vec<f32> = (1..=100).map(|i| i as f32).collect();
        assert!((signal_floor(&totals) - 0.91).abs() < 1e-6);
        assert_eq!(signal_floor(&[-3.0, f32::NAN]), 0.0);
        assert_eq!(signal_floor(&[]), 0.0);
    }

    #[test]
    fn totals_leave_out_missing_voxels() {
        let mut raw = Array3::from_elem((1, 2, 3), 2.0);
        raw[[0, 1, 0]] = f32::NAN;
        raw[[0, 1, 1]] = f32::NEG_INFINITY;
        assert_eq!(pixel_totals(raw.view()), ndarray::array![[6.0, 2.0]]);
    }
}
