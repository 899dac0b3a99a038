//! Tests for residuals larger than chance, in discs of two sizes around each pixel.

use anyhow::Result;
use ndarray::{Array1, Array2, ArrayView1, Ix1, SliceInfo, SliceInfoElem, Zip, s};
use rayon::prelude::*;

use super::quantile::quantiles;
use crate::bands::{Bands, WithHalo, values_and_presence};
use crate::comm::ExactSum;

/// Radii in pixels: 9 and 21 pixels.
const RADII: [f64; 2] = [1.5, 2.3];
/// Lines on either side that a disc reaches.
const REACH: usize = 2;
/// Lags `(y, x)`, in pixels, within which the noise of neighbours may be correlated: 0 first, then one of each opposite
/// pair.
const LAGS: [(usize, isize); 13] =
    [(0, 0), (0, 1), (0, 2), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (2, -2), (2, -1), (2, 0), (2, 1), (2, 2)];
/// Values are clipped to this when the noise correlation is measured: anomalies must not pass for correlated noise.
const CLIP: f32 = 3.0;

/// The tests of one subspace: takes in the map of every coordinate and of every template, one at a time; then
/// [`Scan::finish`]. Maps are this rank's bands.
pub struct Scan<'a> {
    bands: &'a Bands<'a>,
    /// The surprise of each pixel in the best of the tests, `-ln p`; NaN where a pixel is not valid.
    surprise: Array2<f32>,
    /// The sum over coordinates of their squared disc sums, one map for each radius.
    squares: Vec<Array2<f32>>,
    dimensions: usize,
    /// The sum over coordinates of their noise correlations.
    noise_correlation: f64,
}

impl<'a> Scan<'a> {
    pub fn new(bands: &'a Bands<'a>) -> Scan<'a> {
        let zeros = || Array2::zeros(bands.shape());
        Scan {
            bands,
            surprise: zeros(),
            squares: RADII.iter().map(|_| zeros()).collect(),
            dimensions: 0,
            noise_correlation: 0.0,
        }
    }

    /// Takes in the map of one whitened coordinate.
    ///
    /// # Collective
    pub fn coordinate(&mut self, map: Array2<f32>) -> Result<()> {
        let map = self.bands.with_halo(map.view(), REACH);
        for (size, radius) in RADII.into_iter().enumerate() {
            let mut smooth = smoothed(&map, radius);
            let scale = 1.0 / self.spread(&smooth);
            smooth.mapv_inplace(|v| (v * scale).powi(2));
            self.squares[size] += &smooth;
        }
        self.noise_correlation += self.noise_correlation_of(&map)?;
        self.dimensions += 1;
        Ok(())
    }

    /// Takes in the map of the projection on one of `count` templates; an anomaly makes it positive.
    ///
    /// # Collective
    pub fn template(&mut self, map: Array2<f32>, count: usize) {
        let map = self.bands.with_halo(map.view(), REACH);
        for radius in RADII {
            let smooth = smoothed(&map, radius);
            let scale = f64::from(self.spread(&smooth));
            self.offer(&smooth, |v| surprise(f64::from(v) / scale) - (count as f64).ln());
        }
    }

    /// Number of tests of each pixel; the templates of one subspace and radius count as one.
    pub fn num_tests() -> usize {
        2 * RADII.len()
    }

    /// The surprise of each pixel, and the noise correlation: the sum of the correlations within reach, 1 for white
    /// noise.
    ///
    /// # Collective
    /// # Source
    /// Wilson & Hilferty, PNAS 17 (1931) 684: the cube root of a chi-square is nearly normal.
    pub fn finish(mut self) -> (Array2<f32>, f64) {
        let dimensions = self.dimensions.max(1) as f32;
        for squares in std::mem::take(&mut self.squares) {
            let roots = squares.mapv(|v| (v / dimensions).cbrt());
            let (median, sigma) = self.center(&roots);
            self.offer(&roots, |v| surprise((f64::from(v) - median) / sigma));
        }
        let noise_correlation = (self.noise_correlation / f64::from(dimensions)).max(1.0);
        (self.surprise, noise_correlation)
    }

    /// The standard deviation of values about 0, from the 68 % that are smallest; at least 0.5.
    ///
    /// # Collective
    fn spread(&self, map: &Array2<f32>) -> f32 {
        let sizes: Vec<f32> = map.iter().map(|v| v.abs()).collect();
        let found = quantiles(self.bands.comm, &sizes, &[0.6827])[0] as f32;
        if found.is_nan() { 1.0 } else { found.max(0.5) }
    }

    /// The median, and the distance from there to the 84th percentile: one standard deviation.
    ///
    /// # Collective
    fn center(&self, map: &Array2<f32>) -> (f64, f64) {
        let values: Vec<f32> = map.iter().copied().collect();
        let found = quantiles(self.bands.comm, &values, &[0.5, 0.8413]);
        let (median, sigma) = (found[0], found[1] - found[0]);
        if sigma > 0.0 { (median, sigma) } else { (0.0, f64::INFINITY) }
    }

    /// The sum of the autocorrelations of a map at all lags within reach, 0 included.
    ///
    /// # Collective
    fn noise_correlation_of(&self, map: &WithHalo) -> Result<f64> {
        let bound = self.bands.num_valid.max(1) as f64 * f64::from(CLIP * CLIP);
        let mut sum = ExactSum::new(2 * LAGS.len(), bound);
        for products in products(map) {
            sum.add(&products);
        }
        Ok(noise_correlation(&sum.total(self.bands.comm)?))
    }

    fn offer(&mut self, map: &Array2<f32>, surprise: impl Fn(f32) -> f64) {
        for (best, &value) in self.surprise.iter_mut().zip(map) {
            *best = if value.is_nan() { f32::NAN } else { best.max(surprise(value) as f32) };
        }
    }
}

/// Sums over discs, divided by the root of their number of pixels, so that white noise keeps its spread.
fn smoothed(map: &WithHalo, radius: f64) -> Array2<f32> {
    let (height, width) = map.map.dim();
    let reach = radius as isize;
    let offsets: Vec<(isize, isize)> = (-reach..=reach)
        .flat_map(|dy| (-reach..=reach).map(move |dx| (dy, dx)))
        .filter(|&(dy, dx)| ((dy * dy + dx * dx) as f64) <= radius * radius)
        .collect();
    let (values, presence) = values_and_presence(map.map.view());
    let mut smooth = Array2::zeros((map.own.len(), width));
    Zip::indexed(smooth.rows_mut()).par_for_each(|line, mut sums| {
        let y = map.own.start + line;
        let mut counts = Array1::<f32>::zeros(width);
        for &(dy, dx) in &offsets {
            let row = y.checked_add_signed(dy).filter(|&row| row < height);
            let Some(row) = row else { continue };
            let [to, from] = overlap(dx, width);
            let [values, presence] = [&values, &presence].map(|map| map.row(row).slice_move(from));
            sums.slice_mut(to).scaled_add(1.0, &values);
            counts.slice_mut(to).scaled_add(1.0, &presence);
        }
        let pixels = Zip::from(&mut sums).and(&counts).and(map.map.row(y));
        pixels.for_each(|sum, count, value| {
            *sum = if value.is_nan() { f32::NAN } else { *sum / count.sqrt() };
        });
    });
    smooth
}

/// Two slices of a line: the pixels that have another `dx` further right, and those others.
fn overlap(dx: isize, width: usize) -> [Slice1; 2] {
    let lag = dx.unsigned_abs().min(width);
    let (near, far) = (s![..width - lag], s![lag..]);
    if dx < 0 { [far, near] } else { [near, far] }
}

type Slice1 = SliceInfo<[SliceInfoElem; 1], Ix1, Ix1>;

/// For each line of the band and each of [`LAGS`]: the sum of the products of its pixels with those at the lag, and
/// their number.
fn products(map: &WithHalo) -> Vec<Vec<f64>> {
    let (values, presence) = values_and_presence(map.map.mapv(|v| v.clamp(-CLIP, CLIP)).view());
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

/// The sum of the autocorrelations at all lags within reach, 0 included, from the sums and numbers of products at
/// [`LAGS`].
fn noise_correlation(sums: &[f64]) -> f64 {
    let correlations = sums.chunks_exact(2).map(|of| of[0] / of[1].max(1.0));
    let correlations: Vec<f64> = correlations.collect();
    let variance = correlations[0];
    if variance <= 0.0 {
        return 1.0;
    }
    // A lag and its opposite have the same correlation.
    let others: f64 = correlations[1..].iter().sum();
    (variance + 2.0 * others) / variance
}

/// `-ln` of the probability that a normal deviate exceeds `sigmas`.
fn surprise(sigmas: f64) -> f64 {
    if sigmas > 30.0 {
        // The first term of the asymptotic series, where `erfc` would underflow.
        return 0.5 * sigmas * sigmas + (sigmas * (2.0 * std::f64::consts::PI).sqrt()).ln();
    }
    -(0.5 * libm::erfc(sigmas / std::f64::consts::SQRT_2)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn surprise_is_the_normal_tail() {
        assert!((surprise(0.0) - 2f64.ln()).abs() < 1e-12);
        // Q(3) = 1.349898e-3.
        assert!((surprise(3.0) + 1.349898e-3f64.ln()).abs() < 1e-6);
        assert!((surprise(30.0) - surprise(30.0 + 1e-9)).abs() < 2e-3);
    }

    #[test]
    fn a_disc_keeps_the_spread_of_white_noise_up_to_the_border() {
        let map = WithHalo::whole(Array2::from_elem((9, 9), 1f32).view());
        let smooth = smoothed(&map, 1.5);
        assert_eq!((smooth[[4, 4]], smooth[[0, 0]]), (3.0, 2.0));
        assert!((smoothed(&map, 2.3)[[4, 4]] - 21f32.sqrt()).abs() < 1e-6);
    }

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
            super::noise_correlation(&sums)
        };
        assert!((correlation_of(white) - 1.0).abs() < 0.3);
        assert!(correlation_of(lumps) > 4.0);
    }
}
