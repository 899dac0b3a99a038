//! One optimiser step over all ranks.

use std::path::Path;
use std::time::Instant;

use anyhow::{ensure, Result};
use ndarray::{Array3, ArrayViewMut3};
use rayon::prelude::*;
use tch::{Device, Tensor};

use super::checkpoint::{Checkpoint, Model};
use super::crops::Crops;
use super::log::StepLine;
use super::optimiser::{adam, norm, one_cycle, warm_up};
use super::Length;
use crate::comm::{Comm, GradientSum};
use crate::config::{Config, Reduction};
use crate::model::{Loss, Network, Parameters, Target};
use crate::preprocess::whiten::whiten;

/// The state of a training and what one rank needs to take its steps.
pub struct Engine<'a> {
    comm: &'a Comm,
    config: &'a Config,
    length: Length,
    state: Checkpoint,
    workers: Vec<Worker>,
    reduction: GradientSum,
    gradient: Vec<f32>,
    latest_kl: f64,
}

/// What one micro-batch is worked on with.
struct Worker {
    network: Network,
    gradient: Parameters,
    loss: Loss,
}

/// A micro-batch to work on.
struct Work<'a> {
    step: usize,
    slot: usize,
    kl_weight: f64,
    crops: &'a Crops<'a>,
}

impl<'a> Engine<'a> {
    pub fn new(
        comm: &'a Comm,
        config: &'a Config,
        device: Device,
        length: Length,
        state: Checkpoint,
    ) -> Self {
        let slots = config.train.global_batch / config.train.micro_batch;
        let count = state.model.spec.parameters();
        let mine = slots.div_ceil(comm.size()).min(slots) + 1;
        let workers = (0..mine.min(slots))
            .map(|_| Worker::new(&state.model, device))
            .collect();
        Engine {
            comm,
            config,
            length,
            workers,
            reduction: GradientSum::new(count, slots),
            gradient: vec![0.0; count],
            state,
            latest_kl: f64::NAN,
        }
    }

    pub fn steps_done(&self) -> usize {
        self.state.step
    }

    pub fn into_model(self) -> Model {
        self.state.model
    }

    /// Forms the gradient of the next global batch, sums it over ranks and moves the weights.
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data; a loss or gradient that is not finite, on all ranks alike.
    pub fn step(&mut self, crops: &Crops) -> Result<StepLine> {
        let begun = Instant::now();
        let train = &self.config.train;
        let step = self.state.step;
        let slots = train.global_batch / train.micro_batch;
        let kl_weight = warm_up(step, self.length.steps, train.kl_weight);
        let mine = crops.mine(step, slots);
        let device = self.workers.first().map(|worker| worker.network.device());
        while self.workers.len() < mine.len() {
            // More lanes of this batch are this rank's than the average.
            let device = device.unwrap_or(Device::Cpu);
            self.workers.push(Worker::new(&self.state.model, device));
        }
        let worked: Result<()> =
            self.workers
                .par_iter_mut()
                .zip(&mine)
                .try_for_each(|(worker, &slot)| {
                    worker.run(
                        self.config,
                        Work {
                            step,
                            slot,
                            kl_weight,
                            crops,
                        },
                    )
                });
        self.comm.agree(worked)?;

        // Each slot is filled by one rank, and added to zeros by the others: its bits arrive as they are.
        let mut losses = vec![0i64; 2 * slots];
        for (worker, &slot) in self.workers.iter().zip(&mine) {
            losses[2 * slot] = worker.loss.reconstruction.to_bits() as i64;
            losses[2 * slot + 1] = worker.loss.kl.to_bits() as i64;
        }
        self.comm.sum_i64(&mut losses);
        let mut loss = Loss::default();
        for pair in losses.chunks(2) {
            loss.reconstruction += f64::from_bits(pair[0] as u64) / train.global_batch as f64;
            loss.kl += f64::from_bits(pair[1] as u64) / train.global_batch as f64;
        }
        let local: Vec<&[f32]> = self.workers[..mine.len()]
            .iter()
            .map(|worker| worker.gradient.values())
            .collect();
        match train.reduction {
            Reduction::Exact => self.reduction.exact(self.comm, &local, &mut self.gradient),
            Reduction::Fast => self.reduction.fast(self.comm, &local, &mut self.gradient),
        }
        let norm = norm(&self.gradient);
        // Both are the same on every rank, so every rank stops.
        ensure!(
            loss.total(kl_weight).is_finite() && norm.is_finite(),
            "the loss is not finite at step {}: reconstruction {}, KL {}, gradient norm {norm}; go on from the last \
             checkpoint with a lower train.learning_rate (now {})",
            step + 1,
            loss.reconstruction,
            loss.kl,
            train.learning_rate
        );
        let learning_rate = one_cycle(step, self.length.steps, train.learning_rate);
        adam(
            self.state.model.parameters.values_mut(),
            &mut self.state.first_moment,
            &mut self.state.second_moment,
            &self.gradient,
            (train.clip / norm).min(1.0),
            learning_rate,
            step + 1,
        );
        for worker in &mut self.workers {
            worker.network.refresh(&self.state.model.parameters);
        }
        self.state.step += 1;
        self.latest_kl = loss.kl;
        Ok(StepLine {
            step: step + 1,
            epoch: step / self.length.steps_per_epoch + 1,
            loss: loss.total(kl_weight),
            reconstruction: loss.reconstruction,
            kl: loss.kl,
            kl_weight,
            grad_norm: norm,
            learning_rate,
            patches_per_s: train.global_batch as f64 / begun.elapsed().as_secs_f64(),
        })
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
        let worker = &self.workers[0];
        let kl_weight = self.config.train.kl_weight;
        let worked = mine.clone().try_for_each(|i| {
            let patch = crops.validation_patch(i)?;
            let target = target(&worker.network, crops.mean(), &[patch]);
            let (loss, _) = tch::no_grad(|| worker.network.loss(&target, None, kl_weight, 1.0));
            losses[i] = loss.total(kl_weight).to_bits() as i64;
            Ok(())
        });
        self.comm.agree(worked)?;
        self.comm.sum_i64(&mut losses);
        let total: f64 = losses.iter().map(|&bits| f64::from_bits(bits as u64)).sum();
        Ok(Some(total / count as f64))
    }

    /// # Collective
    pub fn write_checkpoint(&self, directory: &Path) -> Result<()> {
        self.comm.agree(if self.comm.is_root() {
            self.state.write(directory)
        } else {
            Ok(())
        })
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

impl Worker {
    fn new(model: &Model, device: Device) -> Worker {
        Worker {
            network: Network::new(&model.spec, &model.parameters, device),
            gradient: Parameters::zeros(model.spec.parameters()),
            loss: Loss::default(),
        }
    }

    /// Loss and gradient of one micro-batch, on this thread alone. Rank-local.
    fn run(&mut self, config: &Config, work: Work) -> Result<()> {
        let train = &config.train;
        let slots = train.global_batch / train.micro_batch;
        let (mut counts, mut noise) = (Vec::new(), Vec::new());
        for sample in 0..train.micro_batch {
            let crop = work
                .crops
                .draw(work.step, work.slot, slots, sample, train.micro_batch)?;
            counts.push(crop.counts);
            noise.extend(crop.noise);
        }
        let target = target(&self.network, work.crops.mean(), &counts);
        let noise = Tensor::from_slice(&noise)
            .view([train.micro_batch as i64, -1])
            .to_device(self.network.device());
        let scale = 1.0 / train.global_batch as f64;
        let (loss, surrogate) = self
            .network
            .loss(&target, Some(&noise), work.kl_weight, scale);
        self.loss = loss;
        self.network.gradient(&surrogate, &mut self.gradient);
        Ok(())
    }
}

/// Stacks patches `[y, x, energy]` into a batch on the network's device.
fn target(network: &Network, mean: &[f32], patches: &[Array3<f32>]) -> Target {
    let (y, x, energy) = patches[0].dim();
    let size = y * x * energy;
    let mut input = vec![0f32; patches.len() * size];
    let mut counts = Vec::with_capacity(input.len());
    for (patch, input) in patches.iter().zip(input.chunks_mut(size)) {
        let input = ArrayViewMut3::from_shape((y, x, energy), input).expect("a patch's size");
        whiten(patch.view(), mean, input);
        counts.extend(patch.iter());
    }
    let shape = [patches.len(), y, x, energy].map(|n| n as i64);
    let tensor = |values: &[f32]| {
        Tensor::from_slice(values)
            .view(shape)
            .to_device(network.device())
    };
    Target {
        input: tensor(&input).unsqueeze(1),
        counts: tensor(&counts),
    }
}
