//! How much a map of projections varies where nothing is anomalous: the misfit of a model is larger than its noise, and
//! neighbours share it.

use anyhow::Result;
use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;

use super::discs::{Disc, overlap};
use super::quantile::quantiles;
use crate::bands::{Bands, WithHalo, values_and_presence};
use crate::comm::ExactSum;
use crate::spectrum::MAD_OF_SD;

/// Lags `(y, x)`, in pixels, within which neighbours may be alike: 0 first, then one of each opposite pair.
const LAGS: [(usize, isize); 13] =
    [(0, 0), (0, 1), (0, 2), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (2, -2), (2, -1), (2, 0), (2, 1), (2, 2)];
/// Values are clipped to this many robust standard deviations: anomalies must not pass for misfit.
const CLIP: f64 = 3.0;
/// Share of a disc that has to count.
const LEAST_DISC: f32 = 0.5;
const LEAST_PIXELS: usize = 8;

/// The sum of the autocorrelations of `map` (this rank's band, NaN: not counted) at all lags within reach, and its standard
/// error: 1 and some for white noise.
///
/// # Collective
/// # Errors
/// A map that is not finite.
pub fn correlation(bands: &Bands, map: &Array2<f32>) -> Result<(f64, f64)> {
    let values: Vec<f32> = map.iter().copied().collect();
    let center = quantiles(bands.comm, &values, &[0.5])[0];
    let sizes: Vec<f32> = values.iter().map(|value| (f64::from(*value) - center).abs() as f32).collect();
    let deviation = (quantiles(bands.comm, &sizes, &[0.5])[0] / MAD_OF_SD).max(1e-9);
    if !center.is_finite() {
        return Ok((1.0, 0.0));
    }
    let scaled = map.mapv(|value| ((f64::from(value) - center) / deviation).clamp(-CLIP, CLIP) as f32);
    let bound = bands.num_valid.max(1) as f64 * CLIP * CLIP;
    let mut sum = ExactSum::new(2 * LAGS.len(), bound);
    products(&bands.with_halo(scaled.view(), 2)).iter().for_each(|line| sum.add(line));
    let sums = sum.total(bands.comm)?;
    let correlations: Vec<f64> = sums.chunks_exact(2).map(|of| of[0] / of[1].max(1.0)).collect();
    let lags = if bands.is_line_scan() { 2 } else { LAGS.len() - 1 };
    let others: f64 = correlations[1..=lags].iter().sum();
    let error = 2.0 * (lags as f64 / sums[1].max(1.0)).sqrt();
    Ok(((1.0 + 2.0 * others / correlations[0].max(1e-9)).max(1.0), error))
}

/// For each line of the band and each of [`LAGS`]: the sum of the products of its pixels with those at the lag, and their
/// number.
fn products(map: &WithHalo) -> Vec<Vec<f64>> {
    let (values, presence) = values_and_presence(map.map.view());
    let width = map.map.ncols();
    let of_line = |y: usize| {
        let mut sums = Vec::with_capacity(2 * LAGS.len());
        for (dy, dx) in LAGS {
            let [upper, lower] = overlap(dx, width);
            for map in [&values, &presence] {
                let below = (y + dy < map.nrows()).then(|| map.row(y + dy).slice_move(lower));
                let product = |below: ArrayView1<f32>| map.row(y).slice_move(upper).dot(&below);
                sums.push(below.map_or(0.0, |below| f64::from(product(below))));
            }
        }
        sums
    };
    let lines: Vec<usize> = map.own.clone().collect();
    lines.into_par_iter().map(of_line).collect()
}

/// The variance of `map` (this rank's band, NaN: not counted) pooled over `disc`, in units of white noise and less its
/// standard error; at least 1. `estimated` is what the estimation of the model itself adds, per pixel of the disc.
///
/// # Collective
/// # Errors
/// A map that is not finite.
pub fn variance(bands: &Bands, map: &Array2<f32>, disc: &Disc, estimated: f64) -> Result<f64> {
    let (pooled, counts) = disc.pooled(&bands.with_halo(map.view(), disc.reach()));
    let pixels = disc.pixels() as f64;
    let full = pooled.iter().zip(&counts).map(|(&value, &count)| match count > LEAST_DISC * pixels as f32 {
        true => value,
        false => f32::NAN,
    });
    let full: Vec<f32> = full.collect();
    let number = bands.comm.sum_u64(full.iter().filter(|value| !value.is_nan()).count() as u64) as usize;
    if number < LEAST_PIXELS {
        return Ok(1.0);
    }
    let sizes: Vec<f32> = full.iter().map(|value| value.abs()).collect();
    let most = (CLIP * (quantiles(bands.comm, &sizes, &[0.5])[0] / MAD_OF_SD).max(1e-9)) as f32;
    let squares: Vec<f32> = full.iter().map(|value| value.clamp(-most, most).powi(2)).collect();
    let mean = bands.sum(&squares, f64::from(most).powi(2))? / number as f64;
    Ok(((mean - pixels * estimated) * (1.0 - (2.0 * pixels / number as f64).sqrt())).max(1.0))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    #[test]
    fn correlated_noise_is_measured() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let white = Array2::from_shape_fn((60, 60), |_| StandardNormal.sample(&mut random));
        let lumps = Array2::from_shape_fn((60, 60), |(y, x)| white[[y / 3 * 3, x / 3 * 3]]);
        let correlation_of = |map: Array2<f32>| {
            let mut sums = vec![0.0; 2 * LAGS.len()];
            for line in products(&WithHalo::whole(map.view())) {
                sums.iter_mut().zip(line).for_each(|(sum, of)| *sum += of);
            }
            let means: Vec<f64> = sums.chunks(2).map(|of| of[0] / of[1]).collect();
            1.0 + 2.0 * means[1..].iter().sum::<f64>() / means[0]
        };
        assert!((correlation_of(white) - 1.0).abs() < 0.3);
        assert!(correlation_of(lumps) > 4.0);
    }
}
