//! The detector: from expected electrons to the numbers that a camera writes.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Poisson, StandardNormal};

use super::random::{Purpose, Randomness};

/// Channels on either side that the light of an electron reaches.
pub const SPREAD: usize = 2;
/// Gaussian sigma of that spread, channels.
const SPREAD_SIGMA: f64 = 0.6;
/// Relative sensitivity of channels, rms.
const FIXED_PATTERN: f64 = 0.003;
/// From this expectation on a corrected normal deviate replaces the Poisson one.
const NORMAL_FROM: f32 = 30.0;
/// Electrons of a cosmic ray, log-uniform between these.
const SPIKE_ELECTRONS: [f64; 2] = [500.0, 20_000.0];

/// The camera of one cube.
pub struct Detector {
    gain: f32,
    read_noise: f32,
    spike_rate: f64,
    /// ADU per electron of each channel, relative to `gain`.
    pattern: Vec<f32>,
    spread: [f32; 2 * SPREAD + 1],
}

impl Detector {
    /// `gain` in ADU per electron, `read_noise` in electrons rms, `spike_rate` per voxel.
    pub fn new(channels: usize, gain: f64, read_noise: f64, spike_rate: f64, randomness: Randomness) -> Detector {
        let mut random = randomness.stream(Purpose::FixedPattern, 0);
        let pattern = (0..channels)
            .map(|_| {
                let deviate: f64 = StandardNormal.sample(&mut random);
                (1.0 + FIXED_PATTERN * deviate) as f32
            })
            .collect();
        let weights: [f64; 2 * SPREAD + 1] = std::array::from_fn(|i| {
            let distance = (i as f64 - SPREAD as f64) / SPREAD_SIGMA;
            (-0.5 * distance * distance).exp()
        });
        let total: f64 = weights.iter().sum();
        Detector {
            gain: gain as f32,
            read_noise: read_noise as f32,
            spike_rate,
            pattern,
            spread: weights.map(|w| (w / total) as f32),
        }
    }

    /// The light in channel `e` from electrons that `arrivals` counts per channel, beginning [`SPREAD`] channels below
    /// 0.
    fn light(&self, arrivals: &[f32], e: usize) -> f32 {
        let arrivals = &arrivals[e..e + 2 * SPREAD + 1];
        arrivals.iter().zip(&self.spread).map(|(n, w)| n * w).sum()
    }

    /// The reading of `electrons` in one channel, ADU.
    pub fn adu(&self, electrons: f64) -> f32 {
        self.gain * electrons as f32
    }

    /// Records `expected` electrons without noise, in ADU; shapes as for [`Detector::count`].
    pub fn record(&self, expected: &[f32], out: &mut [f32]) {
        for (e, value) in out.iter_mut().enumerate() {
            *value = self.gain * self.light(expected, e) * self.pattern[e];
        }
    }

    /// Counts one spectrum: replaces `expected` electrons by those that arrive, and writes `out` in ADU.
    ///
    /// `expected` has [`SPREAD`] channels more than `out` on either side.
    pub fn count(&self, expected: &mut [f32], random: &mut impl Rng, out: &mut [f32]) {
        assert_eq!(expected.len(), out.len() + 2 * SPREAD, "spectrum and margins differ");
        for value in expected.iter_mut() {
            *value = poisson(*value, random);
        }
        for (e, value) in out.iter_mut().enumerate() {
            let light = self.light(expected, e);
            let amplifier: f32 = StandardNormal.sample(random);
            *value = self.gain * (light * self.pattern[e] + self.read_noise * amplifier);
        }
        // They are so rare that one per spectrum is enough.
        if random.random::<f64>() < self.spike_rate * out.len() as f64 {
            let channel = random.random_range(0..out.len());
            let [low, high] = SPIKE_ELECTRONS;
            let electrons = low * (high / low).powf(random.random::<f64>());
            out[channel] += self.gain * electrons as f32;
        }
    }
}

/// A Poisson deviate; for a large `expected` a normal one, corrected for skewness.
///
/// # Source
/// Cornish & Fisher 1937, first correction: `x + (z^2 - 1) / 6`.
fn poisson(expected: f32, random: &mut impl Rng) -> f32 {
    if expected >= NORMAL_FROM {
        let z: f32 = StandardNormal.sample(random);
        let deviate = expected + expected.sqrt() * z + (z * z - 1.0) / 6.0;
        deviate.max(0.0).round()
    } else {
        Poisson::new(expected).map_or(0.0, |distribution| distribution.sample(random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: Randomness = Randomness { seed: 9, cube: 1 };

    #[test]
    fn mean_variance_and_skewness_are_poisson_on_both_sides_of_the_switch() {
        for expected in [0.3f32, 25.0, 31.0, 400.0] {
            let mut random = RANDOM.stream(Purpose::Pixel, 0);
            let draws: Vec<f64> = (0..200_000).map(|_| poisson(expected, &mut random) as f64).collect();
            let moment = |center: f64, power: i32| {
                draws.iter().map(|d| (d - center).powi(power)).sum::<f64>() / draws.len() as f64
            };
            let mean = moment(0.0, 1);
            let variance = moment(mean, 2);
            let skewness = moment(mean, 3) / variance.powf(1.5);
            let lambda = expected as f64;
            assert!((mean / lambda - 1.0).abs() < 0.01, "{expected}: mean {mean}");
            assert!((variance / lambda - 1.0).abs() < 0.02, "{expected}: variance {variance}");
            assert!((skewness - lambda.powf(-0.5)).abs() < 0.03, "{expected}: skewness {skewness}");
        }
        assert_eq!(poisson(0.0, &mut RANDOM.stream(Purpose::Pixel, 0)), 0.0);
    }

    #[test]
    fn light_spreads_without_loss() {
        let detector = Detector::new(600, 2.0, 0.0, 0.0, RANDOM);
        let mut out = vec![0.0; 600];
        let mut expected = vec![100.0; 604];
        detector.count(&mut expected, &mut RANDOM.stream(Purpose::Pixel, 3), &mut out);
        let mean = out.iter().sum::<f32>() / 600.0;
        let variance = out.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 600.0;
        // Gain 2: the mean is 200. The squared weights of the spread sum to .495: the variance is about 2 * 200 * .495.
        assert!((mean - 200.0).abs() < 3.0, "{mean}");
        assert!((variance / 198.0 - 1.0).abs() < 0.2, "{variance}");
    }
}
