//! One optimiser step over all ranks.

use std::path::Path;
use std::time::Instant;

use anyhow::{ensure, Result};
use ndarray::{Array3, ArrayViewMut3};
use rayon::prelude::*;
use serde::Serialize;
use tch::{Device, Tensor};

use super::checkpoint::{Checkpoint, Model};
use super::crops::{Crops, MicroBatch};
use super::heap::KeptHeap;
use super::log::StepLine;
use super::optimiser::{adam, norm, one_cycle, warm_up};
use super::Length;
use crate::comm::{Comm, GradientSum};
use crate::config::{Config, Reduction};
use crate::model::{Loss, Network, Parameters};
use crate::preprocess::whiten::whiten;

/// The state of a training and what one rank needs to take its steps.
pub struct Engine<'a> {
    comm: &'a Comm,
    config: &'a Config,
    device: Device,
    length: Length,
    state: Checkpoint,
    workers: Vec<Worker>,
    reduction: GradientSum,
    gradient: Vec<f32>,
    /// The mean spectrum `[energy]`, sum 1.
    mean: Vec<f32>,
    latest_kl: f64,
    times: Times,
    /// Dropped last: what the fields above free is given back then.
    _heap: KeptHeap,
}

/// What one micro-batch is worked on with.
struct Worker {
    network: Network,
    gradient: Parameters,
    loss: Loss,
    times: Times,
}

/// Seconds of this rank in the parts of its last step; of a part that threads share, their time divided by the threads.
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
            device,
            length,
            workers,
            reduction: GradientSum::new(count, slots),
            gradient: vec![0.0; count],
            mean: state.model.mean.iter().map(|&m| m as f32).collect(),
            state,
            latest_kl: f64::NAN,
            times: Times::default(),
            _heap: KeptHeap::new(),
        }
    }

    pub fn steps_done(&self) -> usize {
        self.state.step
    }

    /// Where the time of the last step went.
    pub fn times(&self) -> Times {
        self.times
    }

    pub fn into_model(self) -> Model {
        self.state.model
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
        let slots = train.global_batch / train.micro_batch;
        let kl_weight = warm_up(step, self.length.steps, train.kl_weight);
        while self.workers.len() < batch.len() {
            // More lanes of this batch are this rank's than the average.
            self.workers
                .push(Worker::new(&self.state.model, self.device));
        }
        let scale = 1.0 / train.global_batch as f64;
        self.workers
            .par_iter_mut()
            .zip(batch)
            .for_each(|(worker, micro_batch)| {
                worker.run(&self.mean, micro_batch, kl_weight, scale)
            });

        // Each slot is filled by one rank, and added to zeros by the others: its bits arrive as they are.
        let mut losses = vec![0i64; 2 * slots];
        for (worker, drawn) in self.workers.iter().zip(batch) {
            losses[2 * drawn.slot] = worker.loss.reconstruction.to_bits() as i64;
            losses[2 * drawn.slot + 1] = worker.loss.kl.to_bits() as i64;
        }
        self.comm.sum_i64(&mut losses);
        let mut loss = Loss::default();
        for pair in losses.chunks(2) {
            loss.reconstruction += f64::from_bits(pair[0] as u64) / train.global_batch as f64;
            loss.kl += f64::from_bits(pair[1] as u64) / train.global_batch as f64;
        }
        let local: Vec<&[f32]> = self.workers[..batch.len()]
            .iter()
            .map(|worker| worker.gradient.values())
            .collect();
        let worked = Instant::now();
        match train.reduction {
            Reduction::Exact => self.reduction.exact(self.comm, &local, &mut self.gradient),
            Reduction::Fast => self.reduction.fast(self.comm, &local, &mut self.gradient),
        }
        let reduced = Instant::now();
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
        self.times = Times {
            reduction: (reduced - worked).as_secs_f64(),
            optimiser: reduced.elapsed().as_secs_f64(),
            ..Times::of_threads(
                self.workers[..batch.len()]
                    .iter()
                    .map(|worker| worker.times),
            )
        };
        self.state.step += 1;
        self.latest_kl = loss.kl;
        Ok(StepLine {
            step: step + 1,
            steps: self.length.steps,
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
            let (input, counts) = worker.tensors(&self.mean, &[patch]);
            let answer = tch::no_grad(|| worker.network.answer(&input, None));
            let (loss, _) = tch::no_grad(|| answer.loss(&counts, kl_weight, 1.0));
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

impl Worker {
    fn new(model: &Model, device: Device) -> Worker {
        Worker {
            network: Network::new(&model.spec, &model.parameters, device),
            gradient: Parameters::zeros(model.spec.parameters()),
            loss: Loss::default(),
            times: Times::default(),
        }
    }

    /// Loss and gradient of one micro-batch, on this thread alone. Rank-local.
    fn run(&mut self, mean: &[f32], batch: &MicroBatch, kl_weight: f64, scale: f64) {
        let begun = Instant::now();
        let (input, counts) = self.tensors(mean, &batch.patches);
        let noise = Tensor::from_slice(&batch.noise)
            .view([batch.patches.len() as i64, -1])
            .to_device(self.network.device());
        let taken = Instant::now();
        let answer = self.network.answer(&input, Some(&noise));
        let answered = Instant::now();
        let (loss, surrogate) = answer.loss(&counts, kl_weight, scale);
        let judged = Instant::now();
        self.network.gradient(&surrogate, &mut self.gradient);
        self.loss = loss;
        self.times = Times {
            input: (taken - begun).as_secs_f64(),
            forward: (answered - taken).as_secs_f64(),
            loss: (judged - answered).as_secs_f64(),
            backward: judged.elapsed().as_secs_f64(),
            ..Times::default()
        };
    }

    /// Patches `[y, x, energy]` as a batch on the network's device: whitened `[batch, 1, y, x, energy]`, and the
    /// electrons themselves `[batch, y, x, energy]`.
    fn tensors(&self, mean: &[f32], patches: &[Array3<f32>]) -> (Tensor, Tensor) {
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
                .to_device(self.network.device())
        };
        (tensor(&input).unsqueeze(1), tensor(&counts))
    }
}

impl Times {
    /// What micro-batches took together, shared out over the threads.
    fn of_threads(all: impl Iterator<Item = Times>) -> Times {
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
