//! Removes slow trends over the field: strain, valence or thickness. Anomalies that are small against the scale of a trend
//! stay; of large ones a part goes.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Zip, s};

use super::quantile::medians;
use crate::bands::{AT_ONCE, Bands, WithHalo, values_and_presence};
use crate::cube::neighbourhood;
use crate::spectrum::MAD_OF_SD;

/// Sigma of the Gaussian that smooths a map, pixels: well above the size of an anomaly, well below the scale of strain.
const SIGMA_PX: f64 = 6.0;
/// Pixels that the Gaussian averages over: the noise of a smoothed map has this much less variance.
const KERNEL_PX: f64 = 4.0 * std::f64::consts::PI * SIGMA_PX * SIGMA_PX;
/// A map must hold this many independent kernels: with fewer, an anomaly would pass for a trend.
const MIN_KERNELS: f64 = 16.0;
/// The smoothed map has a trend if its variance is this many times what noise alone leaves.
const LEAST_SPREAD: f64 = 2.0;
/// Values are clipped at this many robust standard deviations before smoothing.
const CLIP_SD: f64 = 3.0;

/// Removes the slow trend of each of `maps`, this rank's bands, where they have one; whether any has.
///
/// # Collective
/// A rank may have no line.
pub fn remove_trends(bands: &Bands, maps: &mut [Array2<f32>]) -> bool {
    if (bands.num_valid as f64) < MIN_KERNELS * KERNEL_PX || bands.is_line_scan() {
        return false;
    }
    let mut has_any = false;
    for some in maps.chunks_mut(AT_ONCE) {
        let medians = |values: &[Vec<f32>]| medians(bands.comm, values);
        let with_halos = |maps: &[ArrayView2<f32>]| bands.with_halos(maps, reach());
        let found = trends(some, medians, with_halos);
        for (map, trend) in some.iter_mut().zip(found) {
            if let Some(trend) = trend {
                *map -= &trend;
                has_any = true;
            }
        }
    }
    has_any
}

/// The slow trend in this rank's band of each map, NaN where a pixel is not valid; `None` on every rank where noise
/// explains the smoothed map.
///
/// `medians` are over the values of all ranks, `with_halos` adds a halo of [`reach`] lines.
///
/// # Source
/// The smoothed map is shrunk as by a Wiener filter: by the share of its variance that is not noise.
fn trends(
    maps: &[Array2<f32>],
    medians: impl Fn(&[Vec<f32>]) -> Vec<f64>,
    with_halos: impl FnOnce(&[ArrayView2<f32>]) -> Vec<WithHalo>,
) -> Vec<Option<Array2<f32>>> {
    let centers_and_sds = |mut values: Vec<Vec<f32>>| -> Vec<(f64, f64)> {
        let centers = medians(&values);
        for (values, center) in values.iter_mut().zip(&centers) {
            values.iter_mut().for_each(|value| *value = (f64::from(*value) - center).abs() as f32);
        }
        centers.into_iter().zip(medians(&values)).map(|(center, away)| (center, away / MAD_OF_SD)).collect()
    };
    let values = |maps: &[Array2<f32>]| maps.iter().map(|map| map.iter().copied().collect()).collect::<Vec<Vec<f32>>>();
    let clipped: Vec<Array2<f32>> = (maps.iter().zip(centers_and_sds(values(maps))))
        .map(|(map, (center, sd))| {
            let [low, high] = [-CLIP_SD, CLIP_SD].map(|sds| (center + sds * sd) as f32);
            // Of a map without values nothing is clipped.
            if sd.is_finite() { map.mapv(|value| value.clamp(low, high)) } else { map.clone() }
        })
        .collect();
    // Neighbours differ by their noise, and hardly by the trend.
    let differences = |map: &Array2<f32>| -> Vec<f32> {
        let of_row = |row: ndarray::ArrayView1<f32>| -> Vec<f32> {
            row.windows(2).into_iter().map(|pair| pair[1] - pair[0]).collect()
        };
        map.rows().into_iter().flat_map(of_row).collect()
    };
    let of_differences = centers_and_sds(maps.iter().map(differences).collect());
    let views: Vec<ArrayView2<f32>> = clipped.iter().map(|map| map.view()).collect();
    let smooth: Vec<Array2<f32>> = with_halos(&views).iter().map(smoothed).collect();
    let of_smooth = centers_and_sds(values(&smooth));
    let mut found = Vec::with_capacity(maps.len());
    for ((mut smooth, (center, spread)), (_, sd)) in smooth.into_iter().zip(of_smooth).zip(of_differences) {
        let (spread, expected) = (spread.powi(2), 0.5 * sd.powi(2) / KERNEL_PX);
        let has_trend = spread > LEAST_SPREAD * expected;
        let share = (1.0 - expected / spread) as f32;
        smooth.mapv_inplace(|value| share * (value - center as f32));
        found.push(has_trend.then_some(smooth));
    }
    found
}

/// Lines on either side that a smoothed line depends on: its halo.
fn reach() -> usize {
    (3.0 * SIGMA_PX).ceil() as usize
}

/// The Gaussian-weighted mean of the valid pixels around each pixel; NaN where the pixel is not valid.
fn smoothed(map: &WithHalo) -> Array2<f32> {
    let weights: Vec<f32> = (0..=reach()).map(|i| (-0.5 * (i as f64 / SIGMA_PX).powi(2)).exp() as f32).collect();
    let (values, presence) = values_and_presence(map.map.view());
    let [mut total, weight] = [values, presence].map(|of| blurred(&of, &map.own, &weights));
    Zip::from(&mut total).and(&weight).and(map.map.slice(s![map.own.clone(), ..])).for_each(|total, weight, value| {
        *total = if value.is_nan() { f32::NAN } else { *total / weight };
    });
    total
}

/// Weighted sums around each pixel of the lines `own` of `map`, along both axes; `weights` are for distances of 0, 1,
/// ...
fn blurred(map: &Array2<f32>, own: &Range<usize>, weights: &[f32]) -> Array2<f32> {
    let (height, width) = map.dim();
    let mut along = Array2::zeros((height, width));
    let rows = Zip::from(along.rows_mut()).and(map.rows());
    rows.par_for_each(|mut out, row| {
        for (lag, &weight) in weights.iter().enumerate().take(width) {
            let (near, far) = (s![..width - lag], s![lag..]);
            out.slice_mut(near).scaled_add(weight, &row.slice(far));
            if lag > 0 {
                out.slice_mut(far).scaled_add(weight, &row.slice(near));
            }
        }
    });
    let mut blurred = Array2::zeros((own.len(), width));
    Zip::indexed(blurred.rows_mut()).par_for_each(|line, mut out| {
        let (y, reach) = (own.start + line, weights.len() - 1);
        for near in neighbourhood(y, reach, height) {
            out.scaled_add(weights[near.abs_diff(y)], &along.row(near));
        }
    });
    blurred
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::quantile::quantile_here;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    fn trend(map: &Array2<f32>) -> Option<Array2<f32>> {
        let medians = |values: &[Vec<f32>]| values.iter().map(|values| quantile_here(values, 0.5)).collect();
        let with_halos = |maps: &[ArrayView2<f32>]| maps.iter().map(|map| WithHalo::whole(*map)).collect();
        trends(std::slice::from_ref(map), medians, with_halos).pop().unwrap()
    }

    fn noise() -> Array2<f32> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        Array2::from_shape_simple_fn((96, 96), || StandardNormal.sample(&mut random))
    }

    #[test]
    fn noise_has_no_trend_and_keeps_an_anomaly() {
        let mut map = noise();
        assert!(trend(&map).is_none());
        for ((y, x), value) in map.indexed_iter_mut() {
            if (y as f64 - 40.0).hypot(x as f64 - 50.0) < 4.0 {
                *value += 4.0;
            }
        }
        assert!(trend(&map).is_none());
    }

    #[test]
    fn a_slow_trend_is_removed_and_an_anomaly_stays() {
        let field = |y: usize, x: usize| ((y as f32 / 20.0).sin() + (x as f32 / 17.0).cos()) * 0.7;
        let mut map = noise();
        for ((y, x), value) in map.indexed_iter_mut() {
            *value += field(y, x);
            if (y as f64 - 40.0).hypot(x as f64 - 50.0) < 3.5 {
                *value += 4.0;
            }
        }
        map[[0, 0]] = f32::NAN;
        let found = trend(&map).unwrap();
        assert!(found[[0, 0]].is_nan());
        let mut left = 0.0;
        for ((y, x), &found) in found.indexed_iter().skip(1) {
            left += (found - field(y, x)).powi(2) / 9215.0;
        }
        // The variance of the trend is .5.
        assert!(left < 0.06, "{left}");
        assert!(found[[40, 50]] - field(40, 50) < 1.0);
    }
}
