//! The gain (ADU per electron) and the read noise, from the measured cube itself.
//!
//! [`NoiseStatistics`] is a table of integer counts. Ranks and threads fill their own and add them up, so that the fit
//! does not depend on the order.

use ndarray::{ArrayView1, ArrayView3, s};
use serde::{Deserialize, Serialize};

use super::log_bins::LogBins;
use crate::spectrum::{MAD_OF_SD, weighted_median};

/// Lag of the differences along energy, channels. Detectors spread an electron over channels, so that near channels are
/// correlated (.63, .30, .14, .07, .04 at lags of one to five in the measured nanocubes) and their difference has too
/// little noise. Four measured cubes tell what lag is enough: the variance of a channel that eight principal components
/// leave, over that of the fit, is 1.2 to 3.0 with a lag of one, 1.00 to 1.06 with five, and .99 to 1.02 from seven on.
const LAG: usize = 8;
/// The same for lines of a single pixel: there the structure of the spectrum itself grows with the lag.
const LONE_LAG: usize = 5;
/// Levels: log-spaced bins from 2^-20 to 2^44 ADU, four to an octave, and bin 0 for smaller ones.
const LEVELS: LogBins = LogBins { lowest_exponent: -20, octaves: 64, bits: 2 };
/// Absolute differences: 2^-24 to 2^40 ADU, eight to an octave, and bin 0 below.
const DIFFERENCES: LogBins = LogBins { lowest_exponent: -24, octaves: 64, bits: 3 };
/// A level with fewer differences than this is left out.
const MIN_DIFFERENCES: i64 = 50;
/// Relative misfit from which on a level counts as disturbed by the specimen's structure.
const MISFIT_SCALE: f64 = 0.15;

/// `variance = gain * level + (gain * read_noise)^2` in ADU: Poisson electrons and a Gaussian amplifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseModel {
    /// Variance of one channel over its mean, ADU. That is ADU per electron where each electron falls into one channel,
    /// less where the detector spreads it over several, and an apparent gain of data that were smoothed or rescaled.
    pub gain: f64,
    /// Electrons rms of a voxel without signal.
    pub read_noise: f64,
    /// False where there were too few data, and `gain` is 1.
    pub fitted: bool,
}

impl NoiseModel {
    /// A known gain, without read noise.
    pub fn with_gain(gain: f64) -> NoiseModel {
        NoiseModel { gain, read_noise: 0.0, fitted: false }
    }

    /// Variance in ADU^2 of a voxel with an expectation of `level` ADU; at least that of one electron, because a lone
    /// electron where none was expected is no surprise.
    pub fn variance(&self, level: f64) -> f64 {
        self.gain * (level.max(0.0) + self.gain * (1.0 + self.read_noise * self.read_noise))
    }
}

/// Histograms of the differences between neighbours, by signal level.
///
/// A difference is taken between two pixels next to each other along x, less the mean of the same difference some
/// channels below and above, which removes the specimen's smooth structure. Rows are independent: any split into blocks
/// gives the same counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoiseStatistics {
    /// `[level][difference]`, C order.
    counts: Vec<i64>,
}

impl Default for NoiseStatistics {
    fn default() -> Self {
        NoiseStatistics { counts: vec![0; LEVELS.count() * DIFFERENCES.count()] }
    }
}

impl NoiseStatistics {
    /// The counts, to be summed element by element over threads and ranks.
    pub fn counts_mut(&mut self) -> &mut [i64] {
        &mut self.counts
    }

    /// The counts of [`Self::counts_mut`].
    pub fn counts(&self) -> &[i64] {
        &self.counts
    }

    /// Takes in `raw` `[rows, x, energy]`, ADU; voxels that are not finite are left out.
    pub fn add(&mut self, raw: ArrayView3<f32>) {
        let (rows, width, channels) = raw.dim();
        let most = channels.saturating_sub(1) / 2;
        let (lag, lone_lag) = (LAG.min(most), LONE_LAG.min(most));
        if lag == 0 {
            return;
        }
        for row in 0..rows {
            for x in 0..width.saturating_sub(1) {
                self.add_pair(raw.slice(s![row, x, ..]), raw.slice(s![row, x + 1, ..]), lag);
            }
            // A single pixel has no neighbour along x: the curvature of its spectrum must do.
            if width == 1 {
                self.add_lone(raw.slice(s![row, 0, ..]), lone_lag);
            }
        }
    }

    fn add_pair(&mut self, left: ArrayView1<f32>, right: ArrayView1<f32>, lag: usize) {
        let pairs = || left.iter().zip(right).map(|(&a, &b)| (a as f64, b as f64));
        let means: Vec<f64> = pairs().map(|(a, b)| 0.5 * (a + b)).collect();
        let differences: Vec<f64> = pairs().map(|(a, b)| a - b).collect();
        self.add_curvature(&means, &differences, 2.0, lag);
    }

    fn add_lone(&mut self, spectrum: ArrayView1<f32>, lag: usize) {
        let values: Vec<f64> = spectrum.iter().map(|&v| v as f64).collect();
        self.add_curvature(&values, &values, 1.0, lag);
    }

    /// Takes in the second differences of `values` at `lag`; `variance` is that of one of them in units of one voxel's.
    fn add_curvature(&mut self, levels: &[f64], values: &[f64], variance: f64, lag: usize) {
        // The centre and, at half weight, either end.
        let scale = 1.0 / (variance * 1.5).sqrt();
        for e in lag..values.len() - lag {
            let curvature = values[e] - 0.5 * (values[e - lag] + values[e + lag]);
            // The mean over all channels in between: sorting by a noisy level would mix bright and dark voxels.
            let level = levels[e - lag..=e + lag].iter().sum::<f64>() / (2 * lag + 1) as f64;
            self.count(level, curvature * scale);
        }
    }

    fn count(&mut self, level: f64, difference: f64) {
        if difference.is_finite() && level.is_finite() {
            let row = LEVELS.index(level) * DIFFERENCES.count();
            self.counts[row + DIFFERENCES.index(difference.abs())] += 1;
        }
    }

    /// The noise model that fits the variance at every level; gain 1 with `fitted: false` where there are too few data.
    pub fn fit(&self) -> NoiseModel {
        let levels = self.levels();
        let (gain, offset) = fit_line(&levels);
        if gain > 0.0 && gain.is_finite() {
            NoiseModel { gain, read_noise: offset.max(0.0).sqrt() / gain, fitted: true }
        } else {
            NoiseModel { gain: 1.0, read_noise: offset.max(0.0).sqrt(), fitted: false }
        }
    }

    fn levels(&self) -> Vec<Level> {
        let mut levels = Vec::new();
        for (index, histogram) in self.counts.chunks(DIFFERENCES.count()).enumerate() {
            let total: i64 = histogram.iter().sum();
            if total < MIN_DIFFERENCES {
                continue;
            }
            let (low, high) = LEVELS.edges(index);
            let mean = if index == 0 { 0.0 } else { 0.5 * (low + high) };
            // Of the absolute values of a normal deviate, 95.45 % lie below 2 sigma.
            let mut variance = (DIFFERENCES.quantile(histogram, 0.5) / MAD_OF_SD).powi(2);
            let tail = (DIFFERENCES.quantile(histogram, 0.9545) / 2.0).powi(2);
            // With less than an electron per voxel most differences are zero and their median says nothing. Structure
            // cannot reach the tail there, because it is no larger than the level.
            if tail > mean * mean {
                variance = tail;
            }
            if variance > 0.0 {
                let weight = (total as f64).sqrt();
                levels.push(Level { mean, variance, weight });
            }
        }
        levels
    }
}

struct Level {
    mean: f64,
    variance: f64,
    weight: f64,
}

/// `(gain, offset)` of `variance = gain * mean + offset`, both at least 0; `(0, offset)` where no gain can be found.
///
/// Iteratively reweighted least squares on relative misfits with Cauchy weights: levels where the specimen adds its own
/// variation (a zero-loss peak that moves) lose their influence. It starts twice, because with these weights there are
/// several minima.
fn fit_line(levels: &[Level]) -> (f64, f64) {
    let ratios: Vec<(f64, f64)> =
        levels.iter().filter(|l| l.mean > 0.0).map(|l| (l.variance / l.mean, l.weight)).collect();
    let floor = levels.iter().map(|l| l.variance).fold(f64::INFINITY, f64::min);
    let floor = if floor.is_finite() { floor } else { 0.0 };
    if ratios.is_empty() {
        return (0.0, floor);
    }
    let middle = weighted_median(ratios);
    // Levels within a factor of four do not separate an offset from a slope.
    let means = levels.iter().map(|l| l.mean);
    let widest = means.clone().fold(0.0, f64::max);
    let narrowest = means.fold(f64::INFINITY, f64::min);
    if widest < 4.0 * narrowest {
        return (middle, 0.0);
    }
    let (a, b) = (descend(levels, middle, 0.0), descend(levels, middle, floor));
    if b.2 < a.2 { (b.0, b.1) } else { (a.0, a.1) }
}

/// `(gain, offset, cost)` of the minimum next to a start.
fn descend(levels: &[Level], mut gain: f64, mut offset: f64) -> (f64, f64, f64) {
    let misfit = |l: &Level, gain: f64, offset: f64| {
        let expected = (gain * l.mean + offset).max(f64::MIN_POSITIVE);
        let ratio = l.variance / expected;
        let relative = if ratio > 1.0 { ratio - 1.0 } else { 1.0 - 1.0 / ratio };
        (expected, relative / MISFIT_SCALE)
    };
    for _ in 0..50 {
        let (mut mm, mut m1, mut one, mut mv, mut v1) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for l in levels {
            let (expected, r) = misfit(l, gain, offset);
            let w = l.weight / (expected * expected * (1.0 + r * r));
            mm += w * l.mean * l.mean;
            m1 += w * l.mean;
            one += w;
            mv += w * l.mean * l.variance;
            v1 += w * l.variance;
        }
        let determinant = mm * one - m1 * m1;
        (gain, offset) = if determinant > 1e-12 * mm * one {
            ((mv * one - m1 * v1) / determinant, (mm * v1 - m1 * mv) / determinant)
        } else {
            (mv / mm, 0.0)
        };
        if offset < 0.0 {
            (gain, offset) = (mv / mm, 0.0);
        }
        if gain < 0.0 {
            (gain, offset) = (0.0, v1 / one);
        }
    }
    let cost = levels.iter().map(|l| l.weight * misfit(l, gain, offset).1.powi(2).ln_1p()).sum();
    (gain, offset, cost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal, Poisson};

    /// Spectra in ADU that fall from `high` to `high / 20` electrons, brighter to the right.
    fn simulated(shape: (usize, usize, usize), high: f64, gain: f64, read: f64) -> Array3<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let amplifier = Normal::new(0.0, read.max(1e-9)).unwrap();
        Array3::from_shape_fn(shape, |(_, x, e)| {
            let slope = (-3.0 * e as f64 / shape.2 as f64).exp();
            let level = high * slope * (1.0 + 0.2 * x as f64 / shape.1 as f64);
            let electrons = Poisson::new(level).unwrap().sample(&mut random);
            (gain * (electrons + amplifier.sample(&mut random))) as f32
        })
    }

    fn fitted(raw: &Array3<f32>) -> NoiseModel {
        let mut statistics = NoiseStatistics::default();
        statistics.add(raw.view());
        statistics.fit()
    }

    #[test]
    fn gain_and_read_noise_come_back() {
        for gain in [1.0, 1.9, 5.0, 12.0] {
            for (high, read) in [(300.0, 0.0), (40.0, 3.0), (2000.0, 5.0)] {
                let model = fitted(&simulated((12, 16, 400), high, gain, read));
                assert!(model.fitted);
                assert!((model.gain / gain - 1.0).abs() < 0.1, "{gain} {high}: {model:?}");
                if read > 2.0 && high < 100.0 {
                    assert!((model.read_noise / read - 1.0).abs() < 0.2, "{model:?}");
                }
            }
        }
    }

    #[test]
    fn less_than_an_electron_per_voxel_is_enough() {
        let model = fitted(&simulated((24, 24, 400), 0.4, 3.0, 0.0));
        assert!((model.gain / 3.0 - 1.0).abs() < 0.3, "{model:?}");
    }

    #[test]
    fn a_column_of_pixels_is_read_along_energy() {
        let model = fitted(&simulated((60, 1, 400), 300.0, 2.0, 0.0));
        assert!((model.gain / 2.0 - 1.0).abs() < 0.15, "{model:?}");
    }

    #[test]
    fn too_little_or_broken_data_fall_back() {
        for raw in [
            Array3::from_elem((2, 2, 2), 5.0),
            Array3::from_elem((0, 4, 100), 5.0),
            Array3::from_elem((4, 4, 100), f32::NAN),
            Array3::from_elem((4, 4, 100), 0.0),
            Array3::from_elem((4, 4, 100), f32::INFINITY),
        ] {
            let model = fitted(&raw);
            assert_eq!((model.gain, model.read_noise, model.fitted), (1.0, 0.0, false));
        }
    }

    #[test]
    fn missing_voxels_do_not_disturb() {
        let mut raw = simulated((12, 16, 400), 300.0, 2.0, 0.0);
        raw.iter_mut().step_by(97).for_each(|v| *v = f32::NAN);
        raw.iter_mut().skip(1).step_by(1009).for_each(|v| *v = 1e9);
        assert!((fitted(&raw).gain / 2.0 - 1.0).abs() < 0.1);
    }

    #[test]
    fn blocks_of_rows_add_up() {
        let raw = simulated((7, 6, 100), 50.0, 1.0, 1.0);
        let mut whole = NoiseStatistics::default();
        whole.add(raw.view());
        let mut sum = NoiseStatistics::default();
        for rows in [0..1, 1..5, 5..5, 5..7] {
            let mut part = NoiseStatistics::default();
            part.add(raw.slice(s![rows, .., ..]));
            for (a, b) in sum.counts_mut().iter_mut().zip(part.counts()) {
                *a += b;
            }
        }
        assert_eq!(sum, whole);
    }
}
