//! The step's work on a CPU: micro-batches side by side, one thread each.

use std::time::Instant;

use ndarray::{Array3, ArrayViewMut3};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, Model};
use super::crops::MicroBatch;
use super::optimiser::{adam, norm};
use super::step::{Done, StepPlan, Times};
use crate::comm::{Comm, GradientSum};
use crate::config::Reduction;
use crate::memory::KeptHeap;
use crate::model::{Loss, Network, Parameters};
use crate::preprocess::whiten::whiten;

/// What one rank needs for its steps, whose weights and moments are those of the [`Checkpoint`].
pub struct Host {
    workers: Vec<Worker>,
    reduction: GradientSum,
    gradient: Vec<f32>,
    /// The mean spectrum `[energy]`, sum 1.
    mean: Vec<f32>,
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

impl Host {
    /// For `slots` micro-batches a step over all ranks.
    pub fn new(comm: &Comm, model: &Model, slots: usize) -> Host {
        let count = model.spec.parameters();
        let mine = slots.div_ceil(comm.size()) + 1;
        Host {
            workers: (0..mine.min(slots)).map(|_| Worker::new(model)).collect(),
            reduction: GradientSum::new(count, slots),
            gradient: vec![0.0; count],
            mean: model.mean.iter().map(|&m| m as f32).collect(),
            _heap: KeptHeap::new(),
        }
    }

    pub fn network(&self) -> &Network {
        &self.workers[0].network
    }

    /// Forms the gradient of this rank's `batch`, sums it over ranks and moves the weights of `state`.
    ///
    /// # Collective
    pub fn step(&mut self, comm: &Comm, state: &mut Checkpoint, batch: &[MicroBatch], plan: &StepPlan) -> Done {
        while self.workers.len() < batch.len() {
            // More lanes of this batch are this rank's than the average.
            self.workers.push(Worker::new(&state.model));
        }
        self.workers
            .par_iter_mut()
            .zip(batch)
            .for_each(|(worker, micro_batch)| worker.run(&self.mean, micro_batch, plan));
        let worked = Instant::now();
        let used = &self.workers[..batch.len()];
        let local: Vec<&[f32]> = used.iter().map(|worker| worker.gradient.values()).collect();
        match plan.reduction {
            Reduction::Exact => self.reduction.exact(comm, &local, &mut self.gradient),
            Reduction::Fast => self.reduction.fast(comm, &local, &mut self.gradient),
        }
        let reduced = Instant::now();
        let norm = norm(&self.gradient);
        adam(
            state.model.parameters.values_mut(),
            &mut state.first_moment,
            &mut state.second_moment,
            &self.gradient,
            plan.factor(norm),
            plan.learning_rate,
            plan.step,
        );
        Done {
            losses: used.iter().map(|worker| worker.loss).collect(),
            norm,
            times: Times {
                reduction: (reduced - worked).as_secs_f64(),
                optimiser: reduced.elapsed().as_secs_f64(),
                ..Times::of_threads(used.iter().map(|worker| worker.times))
            },
        }
    }
}

impl Worker {
    fn new(model: &Model) -> Worker {
        let values = model.parameters.tensor();
        Worker {
            network: Network::new(&model.spec, &values, Device::Cpu, Kind::Float),
            gradient: Parameters::zeros(model.spec.parameters()),
            loss: Loss::default(),
            times: Times::default(),
        }
    }

    /// Loss and gradient of one micro-batch, on this thread alone. Rank-local.
    fn run(&mut self, mean: &[f32], batch: &MicroBatch, plan: &StepPlan) {
        let begun = Instant::now();
        let (input, counts) = tensors(mean, &batch.patches);
        let noise = Tensor::from_slice(&batch.noise).view([batch.patches.len() as i64, -1]);
        let taken = Instant::now();
        let answer = self.network.answer(&input, Some(&noise));
        let answered = Instant::now();
        let (loss, surrogate) = answer.loss(&counts, &Tensor::from(plan.kl_weight), plan.scale);
        self.loss = loss.read();
        let judged = Instant::now();
        self.network.gradient(&surrogate, &self.gradient.tensor());
        self.times = Times {
            input: (taken - begun).as_secs_f64(),
            forward: (answered - taken).as_secs_f64(),
            loss: (judged - answered).as_secs_f64(),
            backward: judged.elapsed().as_secs_f64(),
            ..Times::default()
        };
    }
}

/// Patches `[y, x, energy]` of electrons as a batch: whitened `[batch, 1, y, x, energy]`, and the electrons themselves
/// `[batch, y, x, energy]`. Rank-local.
pub fn tensors(mean: &[f32], patches: &[Array3<f32>]) -> (Tensor, Tensor) {
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
    let tensor = |values: &[f32]| Tensor::from_slice(values).view(shape);
    (tensor(&input).unsqueeze(1), tensor(&counts))
}
