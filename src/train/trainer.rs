//! The state of a training, and its optimiser steps over all ranks.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use ndarray::Array3;
use tch::Device;

use super::checkpoint::{Checkpoint, Model};
use super::course::{Course, Verdict};
use super::cpu::CpuStepper;
use super::crops::Crops;
use super::gpu::GpuStepper;
use super::history::StepLine;
use super::micro_batch::MicroBatch;
use super::schedule;
use super::step::{StepPlan, StepTimes};
use crate::comm::Comm;
use crate::config::{Config, TrainingLength};
use crate::model::{Loss, Network, Spec, Weights};
use crate::shard::Lines;

/// Epochs from one judgement of a blind spot to the next.
const BLIND_JUDGED: usize = 4;

/// The state of a training, and what this rank needs to take its steps.
pub struct Trainer<'a> {
    pub(super) comm: &'a Comm,
    pub(super) config: &'a Config,
    pub(super) length: TrainingLength,
    /// On a GPU its weights and moments are those of the start, until [`Trainer::fetch`].
    state: Checkpoint,
    stepper: Stepper,
    latest_kl: f64,
    /// Whether the state holds earlier weights than those on the GPU.
    went_back: bool,
    times: StepTimes,
}

/// Takes the steps on this rank's device.
enum Stepper {
    Cpu(Box<CpuStepper>),
    Gpu(Box<GpuStepper>),
}

impl<'a> Trainer<'a> {
    /// # Collective
    /// # Errors
    /// On a GPU: `comm.backend: nccl` that cannot be had, or too little memory.
    pub fn new(
        comm: &'a Comm,
        config: &'a Config,
        device: Device,
        length: TrainingLength,
        state: Checkpoint,
    ) -> Result<Self> {
        let micro_batches = config.pace().micro_batches();
        let stepper = match device {
            Device::Cpu => Stepper::Cpu(Box::new(CpuStepper::new(comm, &state.model, micro_batches))),
            _ => Stepper::Gpu(Box::new(GpuStepper::new(comm, config, device, &state, length, micro_batches)?)),
        };
        Ok(Trainer {
            comm,
            config,
            length,
            stepper,
            state,
            latest_kl: f64::NAN,
            went_back: false,
            times: StepTimes::default(),
        })
    }

    /// Memory that lines may take on a GPU, bytes; 0 on a CPU. Rank-local.
    pub fn memory_for_lines(&self) -> usize {
        match &self.stepper {
            Stepper::Cpu(_) => 0,
            Stepper::Gpu(gpu) => gpu.memory_for_lines(),
        }
    }

    /// Copies `lines` with their electrons `[y, x, energy]` to the GPU, which cuts patches from them. Rank-local.
    pub fn hold_lines(&mut self, lines: Vec<(Lines, Array3<f32>)>) {
        if let Stepper::Gpu(gpu) = &mut self.stepper {
            gpu.hold_lines(lines);
        }
    }

    pub fn steps_done(&self) -> usize {
        self.state.step
    }

    /// Whether the networks of the folds are still one in `step`.
    pub fn is_together(&self, step: usize) -> bool {
        let age = self.state.course.age(step);
        self.state.model.spec.folds() > 1 && schedule::are_together(age, self.length.steps)
    }

    /// Where the time of the last step went.
    pub fn times(&self) -> StepTimes {
        self.times
    }

    pub fn into_model(mut self) -> Model {
        self.fetch();
        self.state.model
    }

    /// Copies weights and moments to `state` if they are on a GPU. Rank-local.
    fn fetch(&mut self) {
        if let (Stepper::Gpu(gpu), false) = (&self.stepper, self.went_back) {
            gpu.fetch(&mut self.state);
        }
    }

    fn network(&self) -> &Network {
        match &self.stepper {
            Stepper::Cpu(cpu) => cpu.network(),
            Stepper::Gpu(gpu) => gpu.network(),
        }
    }

    /// Forms the gradient of the next global batch, sums it over ranks and moves the weights.
    ///
    /// `batch` is this rank's part of it, and may be empty.
    /// # Collective
    /// # Errors
    /// A loss or gradient that is not finite, on every rank.
    pub fn step(&mut self, batch: &[MicroBatch]) -> Result<StepLine> {
        let start = Instant::now();
        let (train, pace, length) = (&self.config.train, self.config.pace(), self.length);
        let (step, course) = (self.state.step, &self.state.course);
        let (cure, (in_cycle, cycle)) = (course.cure(), course.in_cycle(step, length));
        let plan = StepPlan {
            step: step + 1,
            kl_weight: schedule::kl_weight(course.age(step), length.steps, cure.kl_weight * train.kl_weight),
            trim: schedule::trims(course.age(step), length.steps),
            scale: 1.0 / pace.global_batch as f64,
            reduction: train.reduction,
            clip: pace.clip,
            learning_rate: schedule::learning_rate(in_cycle, cycle, cure.learning_rate * pace.learning_rate),
        };
        let result = match &mut self.stepper {
            Stepper::Cpu(cpu) => cpu.step(self.comm, &mut self.state, batch, &plan),
            Stepper::Gpu(gpu) => gpu.step(self.comm, batch, &plan)?,
        };
        let loss = self.mean_loss(batch, &result.losses);
        // Both are the same on every rank, so all stop here, without a checkpoint: the weights may be spoilt by now.
        ensure!(
            loss.total(plan.kl_weight).is_finite() && result.grad_norm.is_finite(),
            "the loss is not finite at step {}: reconstruction {}, KL {}, gradient norm {}; go on from the last \
             checkpoint with a lower train.learning_rate (now {})",
            plan.step,
            loss.reconstruction,
            loss.kl,
            result.grad_norm,
            pace.learning_rate
        );
        if self.is_together(step) {
            match &mut self.stepper {
                Stepper::Cpu(_) => self.state.follow_first_fold(),
                Stepper::Gpu(gpu) => gpu.follow_first_fold(),
            }
        }
        self.times = result.times;
        self.state.step = plan.step;
        self.latest_kl = loss.kl;
        Ok(StepLine {
            step: plan.step,
            steps: self.state.course.end(self.length),
            epoch: step / self.length.steps_per_epoch + 1,
            loss: loss.total(plan.kl_weight),
            reconstruction: loss.reconstruction,
            kl: loss.kl,
            kl_weight: plan.kl_weight,
            grad_norm: result.grad_norm,
            learning_rate: plan.learning_rate,
            patches_per_s: pace.global_batch as f64 / start.elapsed().as_secs_f64(),
        })
    }

    /// The loss of a step per patch, from this rank's `losses` of its `batch`.
    ///
    /// # Collective
    fn mean_loss(&self, batch: &[MicroBatch], losses: &[Loss]) -> Loss {
        let pace = self.config.pace();
        // One rank fills the place of a micro-batch and the others add zeros, so the bits arrive unchanged.
        let mut bits = vec![0i64; 2 * pace.micro_batches()];
        for (loss, drawn) in losses.iter().zip(batch) {
            bits[2 * drawn.index] = loss.reconstruction.to_bits() as i64;
            bits[2 * drawn.index + 1] = loss.kl.to_bits() as i64;
        }
        self.comm.sum_i64(&mut bits);
        let mut mean = Loss::default();
        for pair in bits.chunks(2) {
            mean.reconstruction += f64::from_bits(pair[0] as u64) / pace.global_batch as f64;
            mean.kl += f64::from_bits(pair[1] as u64) / pace.global_batch as f64;
        }
        mean
    }

    /// Whether the network is judged at the end of an epoch that ends no cycle: that of a blind spot, whose epochs are short and
    /// which looks at each patch in many ways, in every fourth.
    pub fn is_judged_in(&self, epoch: usize) -> bool {
        match self.state.model.spec {
            Spec::Blind(_) => epoch.is_multiple_of(BLIND_JUDGED),
            Spec::Patchwise(_) => true,
        }
    }

    /// The mean loss per pixel of the validation patches at the latent mean, at the pixels that are not trained on, or of a
    /// blind spot also at those that are `trained` on; `None` where there are none.
    ///
    /// # Collective
    pub fn validate(&mut self, crops: &Crops, trained: bool) -> Result<Option<f64>> {
        let count = crops.validation_patches();
        if count == 0 {
            return Ok(None);
        }
        let mut losses = vec![0i64; count];
        let mine = crate::shard::owned(count, self.comm.rank(), self.comm.size());
        let network = self.network();
        let model = &self.state.model;
        let mean: Vec<f32> = model.mean.iter().map(|&m| m as f32).collect();
        let kl_weight = match &model.spec {
            // Whether pixels are predicted well is all that matters.
            Spec::Blind(_) => 0.0,
            Spec::Patchwise(_) => self.config.train.kl_weight,
        };
        let (weights, code) = (Weights::new(kl_weight, false).to_device(network.device()), model.spec.code());
        let mut pixels = 0;
        let worked = mine.clone().try_for_each(|i| {
            let patch = crops.validation_patch(i, trained)?;
            let judged = patch.judged();
            pixels += judged;
            if judged > 0 {
                let batch = patch.on_cpu(&mean, &code).to_device(network.device());
                let (loss, _) = tch::no_grad(|| network.loss(&batch, &weights, 1.0));
                losses[i] = (loss.read().total(kl_weight) * judged as f64).to_bits() as i64;
            }
            Ok(())
        });
        self.comm.agree(worked)?;
        self.comm.sum_i64(&mut losses);
        let pixels = self.comm.sum_u64(pixels);
        let total: f64 = losses.iter().map(|&bits| f64::from_bits(bits as u64)).sum();
        Ok((pixels > 0).then(|| total / pixels as f64))
    }

    /// How well the network of a finished cycle predicts the pixels that it is asked for, nats a pixel: the lower, the better.
    /// `held` is its loss at pixels that it was not trained on.
    ///
    /// Where it is asked for those that it was trained on, what it has learned of their noise by heart makes its prediction
    /// worse by as much as `held` exceeds the loss there. Folds are only asked for pixels that they were not trained on.
    ///
    /// # Collective
    fn judge(&mut self, crops: &Crops, held: Option<f64>) -> Result<Option<f64>> {
        match &self.state.model.spec {
            Spec::Blind(spec) if spec.folds == 1 => {
                let trained = self.validate(crops, true)?;
                Ok(held.zip(trained).map(|(held, trained)| held + (held - trained).max(0.0)))
            }
            _ => Ok(held),
        }
    }

    /// Ends a cycle of the course: judges the network, whose loss at pixels that it was not trained on is `held`, and keeps its
    /// weights, or goes back to those of the cycle before.
    ///
    /// # Collective
    pub fn end_cycle(&mut self, crops: &Crops, held: Option<f64>) -> Result<()> {
        let judged = if self.length.most > self.length.steps { self.judge(crops, held)? } else { None };
        self.fetch();
        let state = &mut self.state;
        let verdict = state.course.end_cycle(judged, held, self.length);
        if let (Some(held), Some(judged), true) = (held, judged, self.comm.is_root()) {
            let by_heart = judged - held;
            log::info!("step={} held_out={held:.2} by_heart={by_heart:.2} nats a pixel: {verdict:?}", state.step);
        }
        match verdict {
            Verdict::Better => state.best = Some(state.model.parameters.values().to_vec()),
            Verdict::Best => state.best = None,
            Verdict::Worse => self.go_back(),
        }
        Ok(())
    }

    /// Ends the training with the weights of the cycle before, if the one under way will not help by its loss `held` so far.
    ///
    /// # Collective
    pub fn give_up(&mut self, held: Option<f64>) {
        if self.state.course.gives_up(self.state.step, held, self.length) {
            self.fetch();
            self.go_back();
        }
    }

    /// Takes back the weights of the best cycle; no step follows.
    fn go_back(&mut self) {
        self.went_back = true;
        let best = self.state.best.take().expect("a cycle before was judged");
        self.state.model.parameters.values_mut().copy_from_slice(&best);
    }

    pub fn course(&self) -> &Course {
        &self.state.course
    }

    /// Whether the network that is trained now has collapsed, if it is time to look.
    pub fn has_collapsed(&self) -> bool {
        let is_blind = matches!(self.state.model.spec, Spec::Blind(_));
        let looked_at = self.state.course.looks_for_collapse(self.state.step, self.length);
        is_blind && looked_at && Course::has_collapsed(self.latest_kl)
    }

    /// # Collective
    pub fn write_checkpoint(&mut self, directory: &Path) -> Result<()> {
        self.fetch();
        self.comm.on_root(|| self.state.write(directory))
    }

    /// Warns where the decoder ignores its latent code, since it then finds no anomaly. Rank-local.
    pub fn warn_of_collapse(&self) {
        let [y, x] = self.state.model.spec.patch();
        let nats = self.latest_kl * (y * x) as f64;
        if self.comm.is_root() && nats < 0.1 {
            log::warn!(
                "the latent code carries only {nats:.3} nats per patch: the posterior has collapsed and every spectrum \
                 is reconstructed as the mean; train longer (train.steps) or lower train.kl_weight"
            );
        }
    }
}
