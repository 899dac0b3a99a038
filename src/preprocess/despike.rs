//! Removes cosmic rays: voxels far above both their spectrum and the neighbouring pixels.

use std::ops::Range;

use ndarray::{Array2, Array3, ArrayView3, Axis as Dim, s};
use rayon::prelude::*;

use super::noise::NoiseModel;
use crate::cube::{Axis, neighbourhood};

/// A spike is this many standard deviations above the median.
const SIGMAS: f64 = 8.0;
/// A peak is a spectral line of the specimen, not a spike, if a neighbour's peak in the same channel is this share as
/// high. Next to a spike of 8 sigma, noise reaches that about once in a thousand times.
const LINE_SHARE: f64 = 0.6;
/// End of the zero-loss peak, eV: it moves between pixels by more than any noise.
const ZERO_LOSS_END_EV: f64 = 15.0;

/// The channels up to the end of the zero-loss peak; empty where the axis begins above it.
pub fn zero_loss_channels(energy: &Axis) -> Range<usize> {
    energy.indices(f64::NEG_INFINITY, ZERO_LOSS_END_EV)
}

/// `rows` of `raw` without spikes, and the number of spikes of each pixel.
///
/// `raw` is `[row, x, energy]` in ADU and holds the rows before and after `rows` wherever the cube has them. A spike
/// lies 8 sigma above the median of the five channels around it, 8 sigma above the median of the neighbouring pixels,
/// and above each of those in its own and the adjacent channels. A cosmic ray hits one exposure: a peak that a
/// neighbour shares, even a lower one, is no spike. A spike is replaced by the median of the five channels. Channels in
/// `zero_loss` and pixels without neighbours are left as they are.
pub fn despike(
    raw: ArrayView3<f32>,
    rows: Range<usize>,
    noise: &NoiseModel,
    zero_loss: Range<usize>,
) -> (Array3<f32>, Array2<u32>) {
    let mut clean = raw.slice(s![rows.clone(), .., ..]).to_owned();
    let mut spikes = Array2::zeros((rows.len(), raw.dim().1));
    let lines = clean.axis_iter_mut(Dim(0)).into_par_iter();
    let counts = spikes.axis_iter_mut(Dim(0)).into_par_iter();
    lines.zip(counts).enumerate().for_each(|(line, (mut spectra, mut spikes))| {
        let row = rows.start + line;
        let mut suspicious = Vec::new();
        for (x, mut spectrum) in spectra.outer_iter_mut().enumerate() {
            let original = spectrum.as_slice().expect("lines are copies in C order");
            suspects(original, noise, &mut suspicious);
            for e in (0..suspicious.len()).filter(|&e| suspicious[e]) {
                if zero_loss.contains(&e) {
                    continue;
                }
                if let Some(median) = spike(raw, [row, x, e], noise) {
                    spectrum[e] = median;
                    spikes[x] += 1;
                }
            }
        }
    });
    (clean, spikes)
}

/// Whether each voxel of `spectrum` may be a spike: a quick test of the four channels around, which rules out all but a
/// few at a fraction of the cost of the medians.
fn suspects(spectrum: &[f32], noise: &NoiseModel, suspects: &mut Vec<bool>) {
    suspects.clear();
    suspects.resize(spectrum.len(), true);
    // The variance is linear above 0. Slightly less than 8 sigma, so that rounding rules out nothing that the exact
    // test finds.
    let least = |level: f64| (0.999 * SIGMAS).powi(2) * noise.variance(level);
    let (at_zero, slope) = (least(0.0) as f32, (least(1.0) - least(0.0)) as f32);
    let inner = suspects.iter_mut().skip(2);
    for (suspect, around) in inner.zip(spectrum.windows(5)) {
        // Three of the five lie at or below their median, and the spike is not among them; the lowest has the smallest
        // sigma.
        let lowest = around.iter().fold(f32::INFINITY, |low, &v| low.min(v));
        let least = at_zero + slope * lowest.max(0.0);
        // A missing channel may be anywhere.
        let near = |i: usize| {
            let excess = around[2] - around[i];
            let within = (excess <= 0.0) | (excess * excess <= least);
            u8::from(within & (around[i].abs() < f32::INFINITY))
        };
        *suspect = near(0) + near(1) + near(3) + near(4) <= 1;
    }
}

/// The value to replace a spike at `[row, x, energy]` by; `None` where there is no spike.
fn spike(raw: ArrayView3<f32>, [row, x, e]: [usize; 3], noise: &NoiseModel) -> Option<f32> {
    let value = raw[[row, x, e]];
    let (height, width, channels) = raw.dim();
    let spectral_median = |y: usize, x: usize| {
        let window = neighbourhood(e, 2, channels);
        median(window.map(|i| raw[[y, x, i]]))
    };
    let spectral = spectral_median(row, x)?;
    if !stands_out(value, spectral, noise) {
        return None;
    }
    let around = || {
        let ys = neighbourhood(row, 1, height);
        ys.flat_map(move |y| neighbourhood(x, 1, width).map(move |x| (y, x))).filter(move |&pixel| pixel != (row, x))
    };
    let spatial = median(around().map(|(y, x)| raw[[y, x, e]]))?;
    let near = neighbourhood(e, 1, channels);
    let shared = || around().any(|(y, x)| near.clone().any(|i| raw[[y, x, i]] >= value));
    // A line of the specimen shows in neighbours too, though lower where there is less of the element.
    let is_line = |(y, x)| {
        let excess = |value: f32, median: f32| f64::from(value) - f64::from(median);
        spectral_median(y, x).is_some_and(|m| excess(raw[[y, x, e]], m) >= LINE_SHARE * excess(value, spectral))
    };
    let spike = stands_out(value, spatial, noise) && !shared() && !around().any(is_line);
    spike.then_some(spectral)
}

fn stands_out(value: f32, median: f32, noise: &NoiseModel) -> bool {
    let excess = value as f64 - median as f64;
    // Infinity marks a missing voxel, not a spike.
    excess.is_finite() && excess > 0.0 && excess * excess > SIGMAS * SIGMAS * noise.variance(median as f64)
}

/// The lower median of the finite ones of at most eight values: [`crate::spectrum::median`], without an allocation.
fn median(values: impl Iterator<Item = f32>) -> Option<f32> {
    let mut sorted = [0f32; 8];
    let mut count = 0;
    for value in values.filter(|v| v.is_finite()) {
        let mut index = count;
        while index > 0 && sorted[index - 1] > value {
            sorted[index] = sorted[index - 1];
            index -= 1;
        }
        sorted[index] = value;
        count += 1;
    }
    (count > 0).then(|| sorted[(count - 1) / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOISE: NoiseModel = NoiseModel { gain: 2.0, read_noise: 0.0, fitted: true };

    /// 100 ADU everywhere: 8 sigma of gain 2 are 8 sqrt(2 * 100 + 4) = 114.3 ADU.
    fn flat() -> Array3<f32> {
        Array3::from_elem((3, 3, 20), 100.0)
    }

    fn edited(raw: &Array3<f32>) -> (Array3<f32>, u32) {
        let (clean, spikes) = despike(raw.view(), 0..3, &NOISE, 0..2);
        (clean, spikes.sum())
    }

    #[test]
    fn a_spike_takes_the_median_and_less_than_eight_sigma_stays() {
        let mut raw = flat();
        raw[[1, 1, 7]] = 216.0;
        raw[[1, 1, 13]] = 213.0;
        let (clean, count) = edited(&raw);
        assert_eq!((count, clean[[1, 1, 7]], clean[[1, 1, 13]]), (1, 100.0, 213.0));
    }

    #[test]
    fn a_shared_or_moved_peak_and_the_zero_loss_stay() {
        let mut raw = flat();
        raw[[1, 1, 7]] = 900.0;
        raw[[1, 2, 8]] = 950.0;
        raw[[0, 0, 1]] = 1e6;
        let (clean, count) = edited(&raw);
        // The brighter of the two is a spike; the other is no higher than its neighbour.
        assert_eq!((count, clean[[1, 1, 7]], clean[[0, 0, 1]]), (1, 900.0, 1e6));
    }

    #[test]
    fn a_line_that_is_weaker_in_a_neighbour_stays() {
        let mut raw = flat();
        for (x, height) in [(0, 600.0), (1, 900.0), (2, 300.0)] {
            raw[[1, x, 7]] += height;
            raw[[1, x, 8]] += 0.8 * height;
        }
        assert_eq!(edited(&raw).1, 0);
        raw[[1, 1, 14]] = 900.0;
        assert_eq!(edited(&raw).1, 1);
    }

    #[test]
    fn missing_voxels_are_no_spikes_and_do_not_hide_one() {
        let mut raw = flat();
        raw[[1, 1, 6]] = f32::NAN;
        raw[[1, 1, 7]] = 5000.0;
        raw[[2, 2, 3]] = f32::INFINITY;
        let (clean, count) = edited(&raw);
        assert_eq!((count, clean[[1, 1, 7]]), (1, 100.0));
        assert!(clean[[1, 1, 6]].is_nan() && clean[[2, 2, 3]].is_infinite());
    }

    #[test]
    fn a_lone_pixel_is_left_alone() {
        let mut raw = Array3::from_elem((1, 1, 20), 100.0);
        raw[[0, 0, 9]] = 1e5;
        assert_eq!(despike(raw.view(), 0..1, &NOISE, 0..0).1.sum(), 0);
    }

    proptest! {
        #[test]
        fn the_quick_test_never_rules_out_a_spike(
            values in prop::collection::vec(prop_oneof![
                6 => -50f32..150.0, 2 => 100f32..2e4, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)], 3 * 9),
        ) {
            let raw = Array3::from_shape_vec((1, 3, 9), values).unwrap();
            let mut suspicious = Vec::new();
            suspects(raw.slice(s![0, 1, ..]).as_slice().unwrap(), &NOISE, &mut suspicious);
            for (e, &suspicious) in suspicious.iter().enumerate() {
                prop_assert!(suspicious || spike(raw.view(), [0, 1, e], &NOISE).is_none());
            }
        }
    }

    #[test]
    fn the_zero_loss_ends_at_fifteen_ev() {
        let axis = |offset| Axis::energy_loss(offset, 1.0, 100);
        assert_eq!(zero_loss_channels(&axis(-20.0)), 0..36);
        assert!(zero_loss_channels(&axis(400.0)).is_empty());
    }
}
