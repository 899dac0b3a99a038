//! One optimiser step over all ranks.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use ndarray::Array3;
use serde::Serialize;
use tch::{Device, Tensor};

use super::checkpoint::{Checkpoint, Model};
use super::crops::{Crops, MicroBatch};
use super::gpu::Gpu;
use super::host::{Host, tensors};
use super::log::StepLine;
use super::optimiser::{one_cycle, warm_up};
use crate::comm::Comm;
use crate::config::{Config, Reduction, TrainingLength};
use crate::model::{Loss, Network};
use crate::shard::Lines;

/// The state of a training and what one rank needs to take its steps.
pub struct Engine<'a> {
    comm: &'a Comm,
    config: &'a Config,
    length: TrainingLength,
    /// On a GPU its tensors are those of the start, until [`Engine::fetch`].
    state: Checkpoint,
    backend: Backend,
    latest_kl: f64,
    times: Times,
}

/// Where steps are worked out.
enum Backend {
    Host(Box<Host>),
    Gpu(Box<Gpu>),
}

/// What a step is to do, the same on every rank.
pub struct StepPlan {
    /// From 1.
    pub step: usize,
    pub kl_weight: f64,
    /// Of the loss of a micro-batch in that of the step.
    pub scale: f64,
    pub reduction: Reduction,
    pub clip: f64,
    pub learning_rate: f64,
}

impl StepPlan {
    /// What a gradient of this norm is multiplied with.
    pub fn factor(&self, norm: f64) -> f64 {
        (self.clip / norm).min(1.0)
    }
}

/// What came of a step.
pub struct Done {
    /// Of this rank's micro-batches, in their order.
    pub losses: Vec<Loss>,
    /// Of the summed gradient, the same on every rank.
    pub norm: f64,
    pub times: Times,
}

/// Seconds of this rank in the parts of its last step; of a part that threads share, their time divided by the threads.
/// A GPU works behind its host's back: there all is one, `device`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// Whitening, and handing patches to libtorch.
    pub input: f64,
    pub forward: f64,
    /// The loss and its gradient with respect to the logits.
    pub loss: f64,
    pub backward: f64,
    /// The sum of gradients over ranks, waiting for them included.
    pub reduction: f64,
    /// The norm, clipping and Adam.
    pub optimiser: f64,
    pub device: f64,
}

impl<'a> Engine<'a> {
    /// # Collective
    /// # Errors
    /// `comm.backend: nccl` that cannot be had.
    pub fn new(
        comm: &'a Comm,
        config: &'a Config,
        device: Device,
        length: TrainingLength,
        state: Checkpoint,
    ) -> Result<Self> {
        let slots = config.train.global_batch / config.train.micro_batch;
        let backend = match device {
            Device::Cpu => Backend::Host(Box::new(Host::new(comm, &state.model, slots))),
            _ => Backend::Gpu(Box::new(Gpu::new(comm, config, device, &state, length, slots)?)),
        };
        Ok(Engine { comm, config, length, backend, state, latest_kl: f64::NAN, times: Times::default() })
    }

    /// Bytes that lines may take on a GPU; 0 on a CPU. Rank-local.
    pub fn room(&self) -> usize {
        match &self.backend {
            Backend::Host(_) => 0,
            Backend::Gpu(gpu) => gpu.room(),
        }
    }

    /// Takes `lines` with their electrons `[y, x, energy]` to the GPU, which cuts patches from them. Rank-local.
    pub fn hold(&mut self, lines: Vec<(Lines, Array3<f32>)>) {
        if let Backend::Gpu(gpu) = &mut self.backend {
            gpu.hold(lines);
        }
    }

    pub fn steps_done(&self) -> usize {
        self.state.step
    }

    /// Where the time of the last step went.
    pub fn times(&self) -> Times {
        self.times
    }

    pub fn into_model(mut self) -> Model {
        self.fetch();
        self.state.model
    }

    /// Brings weights and moments to the host, where they are not. Rank-local.
    fn fetch(&mut self) {
        if let Backend::Gpu(gpu) = &self.backend {
            gpu.fetch(&mut self.state);
        }
    }

    fn network(&self) -> &Network {
        match &self.backend {
            Backend::Host(host) => host.network(),
            Backend::Gpu(gpu) => gpu.network(),
        }
    }

    /// Forms the gradient of the next global batch, sums it over ranks and moves the weights.
    ///
    /// `batch` is this rank's part of it, and may be empty.
    /// # Collective
    /// # Errors
    /// A loss or gradient that is not finite, on all ranks alike.
    pub fn step(&mut self, batch: &[MicroBatch]) -> Result<StepLine> {
        let begun = Instant::now();
        let train = &self.config.train;
        let step = self.state.step;
        let plan = StepPlan {
            step: step + 1,
            kl_weight: warm_up(step, self.length.steps, train.kl_weight),
            scale: 1.0 / train.global_batch as f64,
            reduction: train.reduction,
            clip: train.clip,
            learning_rate: one_cycle(step, self.length.steps, train.learning_rate),
        };
        let done = match &mut self.backend {
            Backend::Host(host) => host.step(self.comm, &mut self.state, batch, &plan),
            Backend::Gpu(gpu) => gpu.step(self.comm, batch, &plan)?,
        };
        let loss = self.mean_loss(batch, &done.losses);
        // Both are the same on every rank, so every rank stops; the weights, which may be lost by now, go with it.
        ensure!(
            loss.total(plan.kl_weight).is_finite() && done.norm.is_finite(),
            "the loss is not finite at step {}: reconstruction {}, KL {}, gradient norm {}; go on from the last \
             checkpoint with a lower train.learning_rate (now {})",
            plan.step,
            loss.reconstruction,
            loss.kl,
            done.norm,
            train.learning_rate
        );
        self.times = done.times;
        self.state.step = plan.step;
        self.latest_kl = loss.kl;
        Ok(StepLine {
            step: plan.step,
            steps: self.length.steps,
            epoch: step / self.length.steps_per_epoch + 1,
            loss: loss.total(plan.kl_weight),
            reconstruction: loss.reconstruction,
            kl: loss.kl,
            kl_weight: plan.kl_weight,
            grad_norm: done.norm,
            learning_rate: plan.learning_rate,
            patches_per_s: train.global_batch as f64 / begun.elapsed().as_secs_f64(),
        })
    }

    /// The loss of a step, per patch, from what each rank knows of it.
    ///
    /// # Collective
    fn mean_loss(&self, batch: &[MicroBatch], losses: &[Loss]) -> Loss {
        let train = &self.config.train;
        // Each slot is filled by one rank, and added to zeros by the others: its bits arrive as they are.
        let mut bits = vec![0i64; 2 * train.global_batch / train.micro_batch];
        for (loss, drawn) in losses.iter().zip(batch) {
            bits[2 * drawn.slot] = loss.reconstruction.to_bits() as i64;
            bits[2 * drawn.slot + 1] = loss.kl.to_bits() as i64;
        }
        self.comm.sum_i64(&mut bits);
        let mut mean = Loss::default();
        for pair in bits.chunks(2) {
            mean.reconstruction += f64::from_bits(pair[0] as u64) / train.global_batch as f64;
            mean.kl += f64::from_bits(pair[1] as u64) / train.global_batch as f64;
        }
        mean
    }

    /// The mean loss of the validation patches at the latent mean; `None` where there are none.
    ///
    /// # Collective
    pub fn validate(&mut self, crops: &Crops) -> Result<Option<f64>> {
        let count = crops.validation_patches();
        if count == 0 {
            return Ok(None);
        }
        let mut losses = vec![0i64; count];
        let mine = crate::shard::owned(count, self.comm.rank(), self.comm.size());
        let network = self.network();
        let mean: Vec<f32> = self.state.model.mean.iter().map(|&m| m as f32).collect();
        let kl_weight = self.config.train.kl_weight;
        let weight = Tensor::from(kl_weight).to_device(network.device());
        let worked = mine.clone().try_for_each(|i| {
            let patch = crops.validation_patch(i)?;
            let (input, counts) = tensors(&mean, &[patch]);
            let [input, counts] = [input, counts].map(|t| t.to_device(network.device()));
            let answer = tch::no_grad(|| network.answer(&input, None));
            let (loss, _) = tch::no_grad(|| answer.loss(&counts, &weight, 1.0));
            losses[i] = loss.read().total(kl_weight).to_bits() as i64;
            Ok(())
        });
        self.comm.agree(worked)?;
        self.comm.sum_i64(&mut losses);
        let total: f64 = losses.iter().map(|&bits| f64::from_bits(bits as u64)).sum();
        Ok(Some(total / count as f64))
    }

    /// # Collective
    pub fn write_checkpoint(&mut self, directory: &Path) -> Result<()> {
        self.fetch();
        self.comm.on_root(|| self.state.write(directory))
    }

    /// A decoder that ignores its code finds no anomaly: say so. Rank-local.
    pub fn warn_of_collapse(&self) {
        let nats = self.latest_kl * self.state.model.spec.pixels() as f64;
        if self.comm.is_root() && nats < 0.1 {
            log::warn!(
                "the latent code carries only {nats:.3} nats per patch: the posterior has collapsed and every spectrum \
                 is answered by the mean; train longer (train.steps) or lower train.kl_weight"
            );
        }
    }
}

impl Times {
    /// What micro-batches took together, shared out over the threads.
    pub fn of_threads(all: impl Iterator<Item = Times>) -> Times {
        let share = 1.0 / rayon::current_num_threads() as f64;
        all.fold(Times::default(), |sum, times| Times {
            input: sum.input + share * times.input,
            forward: sum.forward + share * times.forward,
            loss: sum.loss + share * times.loss,
            backward: sum.backward + share * times.backward,
            ..sum
        })
    }
}
