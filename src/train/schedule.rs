//! How long a training takes: its steps and epochs, and by step its learning rate and weight of the KL term.

use crate::config::{Auto, Config};

/// Steps of `train.steps: auto` with patches of [`SMALL_PATCH`] pixels: two passes over the archive, within these bounds.
/// Larger patches take fewer steps, in proportion to their pixels.
const AUTO_STEPS: [usize; 2] = [800, 20_000];
const SMALL_PATCH: usize = 12 * 12;

const EPOCHS_BETWEEN_CHECKPOINTS: usize = 10;
/// Where epochs are short, checkpoints are rarer than that: one of a hundred MB takes as long as several steps.
const LEAST_CHECKPOINTS: usize = 20;

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub steps: usize,
    pub steps_per_epoch: usize,
}

impl Schedule {
    /// By the configuration, for an archive of `pixels`.
    pub fn new(config: &Config, pixels: usize, patch_pixels: usize) -> Schedule {
        let train = &config.train;
        let crops = pixels.div_ceil(patch_pixels);
        let steps_per_epoch = crops.div_ceil(train.global_batch).max(1);
        let steps = match (train.steps, train.epochs) {
            (_, Some(epochs)) => epochs * steps_per_epoch,
            (Auto::Given(steps), None) => steps,
            (Auto::Auto, None) => {
                let [least, most] = AUTO_STEPS.map(|steps| (steps * SMALL_PATCH).div_ceil(patch_pixels));
                (2 * steps_per_epoch).clamp(least, most)
            }
        };
        Schedule { steps, steps_per_epoch }
    }

    pub fn epochs_between_checkpoints(&self, config: &Config) -> usize {
        match config.train.checkpoint_epochs {
            Auto::Given(epochs) => epochs,
            Auto::Auto => {
                (self.steps / LEAST_CHECKPOINTS).div_ceil(self.steps_per_epoch).max(EPOCHS_BETWEEN_CHECKPOINTS)
            }
        }
    }

    /// The learning rate of step `step` (from 0): a cosine up to `peak` over the first 30 % of the steps, a cosine down after.
    ///
    /// # Source
    /// Smith & Topin 2018; the shape and the divisors 25 and 1e4 are those of PyTorch's OneCycleLR.
    pub fn learning_rate(&self, step: usize, peak: f64) -> f64 {
        let (start, end) = (peak / 25.0, peak / 25.0 / 1e4);
        let last = (self.steps.max(2) - 1) as f64;
        let rise = (0.3 * self.steps as f64 - 1.0).max(1.0);
        let step = step as f64;
        let cosine = |from: f64, to: f64, share: f64| {
            to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * share.clamp(0.0, 1.0)).cos())
        };
        if step <= rise {
            cosine(start, peak, step / rise)
        } else {
            cosine(peak, end, (step - rise) / (last - rise).max(1.0))
        }
    }

    /// The weight of the Kullback-Leibler term in step `step` (from 0): it grows to `weight` over the first 20 % of the steps.
    pub fn kl_weight(&self, step: usize, weight: f64) -> f64 {
        weight * ((step + 1) as f64 / (0.2 * self.steps as f64).max(1.0)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cycle_rises_to_its_peak_and_ends_near_zero() {
        let schedule = Schedule { steps: 100, steps_per_epoch: 10 };
        let rates: Vec<f64> = (0..100).map(|step| schedule.learning_rate(step, 1.0)).collect();
        assert!((rates[0] - 0.04).abs() < 1e-12);
        assert!((rates[29] - 1.0).abs() < 1e-12);
        assert!(rates[99] < 1e-5);
        assert_eq!(schedule.kl_weight(9, 2.0), 1.0);
        assert_eq!(schedule.kl_weight(50, 2.0), 2.0);
    }
}
