//! `train`: how the 3D-CVAE is trained, and for how many steps where none are given.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Preset, SMALL_PATCH};
use super::problems::Problems;
use super::values::Auto;

/// How the 3D-CVAE is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the archive; overrides `steps`.
    pub epochs: Option<usize>,
    /// Optimiser steps; `auto`: as many as it takes to predict each pixel 150 times, at most 700, but at least two passes over
    /// the archive; then, of 600 pixels or more, twice as many more, as long as pixels that are not trained on are predicted
    /// better for it and all together are at most 1000, but not where four networks share the pixels. With the presets
    /// `compact` and `paper` two passes, but at least 800 with patches of 12 x 12 pixels, or 200 with 24 x 24.
    pub steps: Auto<usize>,
    /// Patches per optimiser step over all ranks; `auto`: 8, with the presets `compact` and `paper` 16.
    pub global_batch: Auto<usize>,
    /// Patches whose gradient is computed at once; fixed, so that results do not depend on the number of ranks. `auto`: 2,
    /// with the presets `compact` and `paper` 4.
    pub micro_batch: Auto<usize>,
    /// How gradients are summed over ranks.
    pub reduction: Reduction,
    /// Where the network runs.
    pub device: Device,
    /// Number format of the layers on a GPU; on a CPU it is always f32.
    pub precision: Precision,
    /// On a GPU, uses only cuDNN's reproducible algorithms, even where others are faster; on a CPU everything is
    /// reproducible.
    pub deterministic: bool,
    /// On a GPU, how many of cuDNN's algorithms are tried for each layer at the start; `auto`: 10, or 3 in trainings of
    /// fewer than 2000 steps, which do not earn back the minute that a large network takes to try all.
    pub cudnn_tries: Auto<usize>,
    /// On a GPU, records the work of a micro-batch once, as a CUDA graph, and replays it from then on.
    pub cuda_graphs: bool,
    /// Peak of the one-cycle schedule, for the usual global batch; scale it by the square root of a larger one's factor.
    /// `auto`: 4e-3, with the presets `compact` and `paper` 2e-3.
    pub learning_rate: Auto<f64>,
    /// Weight of the Kullback-Leibler term after warm-up.
    pub kl_weight: f64,
    /// Largest norm of a gradient; `auto`: 350, with the presets `compact` and `paper` 3.5.
    pub clip: Auto<f64>,
    /// Share of the pixels kept for validation, in cells of 6 x 6 that are never predicted in training; 0 for none. With the
    /// presets `compact` and `paper` of the scan lines, in blocks as high as a patch, where that costs at most 12 % of the
    /// crops.
    pub validation: f64,
    /// Epochs between checkpoints; `auto`: 10, but a quarter of the training at most, and a twentieth of it at least.
    pub checkpoint_epochs: Auto<usize>,
    /// Number of latest checkpoints that are kept, at least 1, in case one is damaged; the best is kept as well.
    pub keep_checkpoints: usize,
    /// Number of lanes, contiguous runs of scan lines, into which the archive is cut.
    pub lanes: usize,
}

impl Default for Train {
    fn default() -> Self {
        Train {
            epochs: None,
            steps: Auto::Auto,
            global_batch: Auto::Auto,
            micro_batch: Auto::Auto,
            reduction: Reduction::Exact,
            device: Device::Auto,
            precision: Precision::Auto,
            deterministic: false,
            cudnn_tries: Auto::Auto,
            cuda_graphs: true,
            learning_rate: Auto::Auto,
            kl_weight: 1.0,
            clip: Auto::Auto,
            validation: 0.05,
            checkpoint_epochs: Auto::Auto,
            keep_checkpoints: 2,
            lanes: 64,
        }
    }
}

/// Least and most steps of `train.steps: auto` with small patches. With larger ones both are as many times fewer as
/// these have more pixels.
const AUTO_STEPS: [usize; 2] = [800, 20_000];

const EPOCHS_BETWEEN_CHECKPOINTS: usize = 10;
/// At least so many checkpoints where epochs are long.
const FEWEST_CHECKPOINTS: usize = 4;
/// At most so many checkpoints where epochs are short: one of a hundred MB takes as long as a few steps.
const MOST_CHECKPOINTS: usize = 20;

/// How often a blind spot predicts each pixel in the first cycle of `train.steps: auto`, in at most so many steps: more learns
/// the noise of small fields by heart.
const BLIND_VISITS: usize = 150;
const BLIND_STEPS: usize = 700;
/// In all cycles together.
const BLIND_MOST: usize = 1000;
/// In fields of fewer pixels networks add nothing, and take one cycle.
const BLIND_PIXELS: usize = 600;
/// Epochs of a blind spot, of which a training has so many at most: a pass over a small field is a step or two.
const BLIND_EPOCHS: usize = 14;

/// What a step of training takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Patches over all ranks.
    pub global_batch: usize,
    /// Patches whose gradient is computed at once.
    pub micro_batch: usize,
    /// Peak of the one-cycle schedule.
    pub learning_rate: f64,
    /// Largest norm of a gradient.
    pub clip: f64,
}

impl Pace {
    pub fn micro_batches(&self) -> usize {
        self.global_batch / self.micro_batch
    }
}

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingLength {
    /// Of the first cycle of the learning rate.
    pub steps: usize,
    /// Of all cycles together at most.
    pub most: usize,
    pub steps_per_epoch: usize,
}

impl Train {
    /// What a step takes: what is given, else what suits `preset`.
    pub(super) fn pace(&self, preset: Preset) -> Pace {
        let usual = match preset {
            Preset::Blind => Pace { global_batch: 8, micro_batch: 2, learning_rate: 4e-3, clip: 350.0 },
            Preset::Compact | Preset::Paper => {
                Pace { global_batch: 16, micro_batch: 4, learning_rate: 2e-3, clip: 3.5 }
            }
        };
        Pace {
            global_batch: self.global_batch.or(usual.global_batch),
            micro_batch: self.micro_batch.or(usual.micro_batch),
            learning_rate: self.learning_rate.or(usual.learning_rate),
            clip: self.clip.or(usual.clip),
        }
    }

    /// The length of a training of `preset` on `pixels` in patches of `patch` pixels `[y, x]`.
    pub fn length(&self, pixels: usize, patch: [usize; 2], preset: Preset) -> TrainingLength {
        let area = |[y, x]: [usize; 2]| y * x;
        let (crops, batch) = (pixels.div_ceil(area(patch)), self.pace(preset).global_batch);
        let pass = crops.div_ceil(batch).max(1);
        // A quarter of a field is hidden at a time, and half of a scan.
        let hidden = batch * pixels.min(area(patch)) / if patch[0] == 1 { 2 } else { 4 };
        let visits = (BLIND_VISITS * pixels).div_ceil(hidden.max(1)).min(BLIND_STEPS);
        let steps_per_epoch = match preset {
            Preset::Blind => pass.max(visits.div_ceil(BLIND_EPOCHS)),
            Preset::Compact | Preset::Paper => pass,
        };
        let auto = self.steps == Auto::Auto && self.epochs.is_none();
        let steps = match (self.steps, self.epochs) {
            (_, Some(epochs)) => epochs * steps_per_epoch,
            (Auto::Given(steps), None) => steps,
            (Auto::Auto, None) if preset == Preset::Blind => visits.max((2 * pass).min(AUTO_STEPS[1])),
            (Auto::Auto, None) => {
                let [least, most] = AUTO_STEPS.map(|steps| (steps * area(SMALL_PATCH)).div_ceil(area(patch)));
                (2 * pass).clamp(least, most)
            }
        };
        let goes_on = auto && preset == Preset::Blind && pixels >= BLIND_PIXELS;
        let most = if goes_on { steps.max(BLIND_MOST) } else { steps };
        TrainingLength { steps, most, steps_per_epoch }
    }

    /// Epochs between two checkpoints of a training of this length.
    pub fn epochs_between_checkpoints(&self, length: TrainingLength) -> usize {
        match self.checkpoint_epochs {
            Auto::Given(epochs) => epochs,
            Auto::Auto => {
                let usual = EPOCHS_BETWEEN_CHECKPOINTS.min(length.steps / length.steps_per_epoch / FEWEST_CHECKPOINTS);
                (length.steps / MOST_CHECKPOINTS).div_ceil(length.steps_per_epoch).max(usual).max(1)
            }
        }
    }

    pub(super) fn validate(&self, preset: Preset, problems: &mut Problems) {
        let Pace { global_batch, micro_batch, learning_rate, clip } = self.pace(preset);
        problems.require(self.epochs != Some(0), "train.epochs: at least 1");
        problems.require(self.steps != Auto::Given(0), "train.steps: at least 1, or auto");
        problems.require(
            micro_batch > 0 && global_batch > 0 && global_batch.is_multiple_of(micro_batch),
            "train.global_batch: a multiple of train.micro_batch, at least one of it",
        );
        problems.require(micro_batch > 0, "train.micro_batch: at least 1");
        problems.require(self.cudnn_tries != Auto::Given(0), "train.cudnn_tries: at least 1, or auto");
        problems.require(learning_rate > 0.0 && learning_rate.is_finite(), "train.learning_rate: above 0");
        problems.require(self.kl_weight >= 0.0 && self.kl_weight.is_finite(), "train.kl_weight: 0 or more");
        problems.require(clip > 0.0, "train.clip: above 0");
        problems.require((0.0..=0.5).contains(&self.validation), "train.validation: from 0 to 0.5");
        problems.require(self.checkpoint_epochs != Auto::Given(0), "train.checkpoint_epochs: at least 1, or auto");
        problems.require(self.keep_checkpoints > 0, "train.keep_checkpoints: at least 1");
        problems.require(self.lanes > 0, "train.lanes: at least 1");
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Equal to the bit for any number of ranks and threads.
    #[default]
    Exact,
    /// Plain sums: the last bits depend on the number of ranks.
    Fast,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// On a GPU where there is one.
    #[default]
    Auto,
    /// On the CPU.
    Cpu,
    /// On a GPU; an error where there is none.
    Cuda,
}

/// Number format of the network's layers while it is trained on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `bf16`.
    #[default]
    Auto,
    /// Convolutions in TF32, as libtorch has them.
    F32,
    /// Twice as fast or more; weights, moments, sums, latent codes and the loss stay in f32.
    Bf16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_given_or_enough() {
        let steps = |train: &Train, pixels, patch| train.length(pixels, patch, Preset::Compact).steps;
        let auto = Train::default();
        assert_eq!([steps(&auto, 100, [12, 12]), steps(&auto, 100, [24, 24])], [800, 200]);
        // Two passes in batches of 16 patches.
        assert_eq!(steps(&auto, 576 * 16 * 300, [24, 24]), 600);
        let given = Train { steps: Auto::Given(7), ..auto.clone() };
        assert_eq!(steps(&given, 576 * 16 * 300, [24, 24]), 7);
        let epochs = Train { epochs: Some(3), ..given };
        assert_eq!(steps(&epochs, 576 * 16 * 300, [24, 24]), 900);
        let blind = |pixels| auto.length(pixels, [32, 32], Preset::Blind);
        assert_eq!(blind(96 * 96), TrainingLength { steps: 675, most: 1000, steps_per_epoch: 49 });
        assert_eq!(blind(17 * 19), TrainingLength { steps: 75, most: 75, steps_per_epoch: 6 });
        // Two passes in batches of 8 patches.
        assert_eq!(blind(1024 * 8 * 400), TrainingLength { steps: 800, most: 1000, steps_per_epoch: 400 });
    }
}
