//! What an optimiser step is to do, what came of it and where its time went.

use serde::Serialize;

use crate::config::Reduction;
use crate::model::Loss;

/// What a step is to do, the same on every rank.
pub struct StepPlan {
    /// From 1.
    pub step: usize,
    pub kl_weight: f64,
    /// Whether a blind spot leaves out what it predicts badly.
    pub trim: bool,
    /// What a patch's loss is multiplied with in the step's: 1 / patches.
    pub scale: f64,
    pub reduction: Reduction,
    /// The largest norm of a gradient that is applied unscaled.
    pub clip: f64,
    pub learning_rate: f64,
}

impl StepPlan {
    /// What a gradient of norm `norm` is multiplied with.
    pub fn clip_factor(&self, norm: f64) -> f64 {
        (self.clip / norm).min(1.0)
    }
}

/// What came of a step.
pub struct StepResult {
    /// Of this rank's micro-batches, in their order.
    pub losses: Vec<Loss>,
    /// The norm of the summed gradient, the same on every rank.
    pub grad_norm: f64,
    pub times: StepTimes,
}

/// Seconds that this rank spent in the parts of a step; in a part that threads share, their time divided by the number of
/// threads. A GPU works asynchronously, so there `device` is the whole step.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StepTimes {
    /// Whitening, and handing patches to libtorch.
    pub input: f64,
    /// The network, the loss, and its gradient with respect to the shares.
    pub forward: f64,
    pub backward: f64,
    /// The sum of gradients over ranks, waiting for them included.
    pub reduction: f64,
    /// The norm, clipping and Adam.
    pub optimiser: f64,
    pub device: f64,
}

impl StepTimes {
    /// The sum of the times of micro-batches, divided by the number of threads.
    pub fn of_threads(micro_batches: impl Iterator<Item = StepTimes>) -> StepTimes {
        let share = 1.0 / rayon::current_num_threads() as f64;
        micro_batches.fold(StepTimes::default(), |sum, times| StepTimes {
            input: sum.input + share * times.input,
            forward: sum.forward + share * times.forward,
            backward: sum.backward + share * times.backward,
            ..sum
        })
    }
}
