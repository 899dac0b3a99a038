//! An optimiser step on a CPU: micro-batches side by side, one thread each.

use std::time::Instant;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, Model};
use super::crops::MicroBatch;
use super::optimiser::{adam, norm};
use super::step::{StepPlan, StepResult, StepTimes};
use crate::comm::{Comm, GradientSum};
use crate::config::Reduction;
use crate::memory::KeptHeap;
use crate::model::{Loss, Network, Parameters, whitened_batch};

/// What one rank needs for its steps, beside the weights and moments of the [`Checkpoint`].
pub struct CpuStepper {
    workers: Vec<Worker>,
    sum: GradientSum,
    gradient: Vec<f32>,
    /// The mean spectrum `[energy]`, sum 1.
    mean: Vec<f32>,
    /// Dropped last, so that the memory of the fields above goes back to the system.
    _heap: KeptHeap,
}

/// What one thread needs for a micro-batch.
struct Worker {
    network: Network,
    gradient: Parameters,
    loss: Loss,
    times: StepTimes,
}

impl CpuStepper {
    /// For `micro_batches` per step over all ranks.
    pub fn new(comm: &Comm, model: &Model, micro_batches: usize) -> CpuStepper {
        let count = model.spec.parameters();
        let mine = micro_batches.div_ceil(comm.size()) + 1;
        CpuStepper {
            workers: (0..mine.min(micro_batches)).map(|_| Worker::new(model)).collect(),
            sum: GradientSum::new(count, micro_batches),
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
    pub fn step(&mut self, comm: &Comm, state: &mut Checkpoint, batch: &[MicroBatch], plan: &StepPlan) -> StepResult {
        while self.workers.len() < batch.len() {
            // This rank's lanes have more than an even share of the batch.
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
            Reduction::Exact => self.sum.exact(comm, &local, &mut self.gradient),
            Reduction::Fast => self.sum.fast(comm, &local, &mut self.gradient),
        }
        let reduced = Instant::now();
        let grad_norm = norm(&self.gradient);
        adam(
            state.model.parameters.values_mut(),
            &mut state.first_moment,
            &mut state.second_moment,
            &self.gradient,
            plan.clip_factor(grad_norm),
            plan.learning_rate,
            plan.step,
        );
        StepResult {
            losses: used.iter().map(|worker| worker.loss).collect(),
            grad_norm,
            times: StepTimes {
                reduction: (reduced - worked).as_secs_f64(),
                optimiser: reduced.elapsed().as_secs_f64(),
                ..StepTimes::of_threads(used.iter().map(|worker| worker.times))
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
            times: StepTimes::default(),
        }
    }

    /// Loss and gradient of one micro-batch, on this thread alone. Rank-local.
    fn run(&mut self, mean: &[f32], batch: &MicroBatch, plan: &StepPlan) {
        let start = Instant::now();
        let (input, counts) = whitened_batch(&batch.patches, mean);
        let noise = Tensor::from_slice(&batch.noise).view([batch.patches.len() as i64, -1]);
        let whitened = Instant::now();
        let output = self.network.forward(&input, Some(&noise));
        let forwarded = Instant::now();
        let (loss, surrogate) = output.loss(&counts, &Tensor::from(plan.kl_weight), plan.scale);
        self.loss = loss.read();
        let judged = Instant::now();
        self.network.gradient(&surrogate, &self.gradient.tensor());
        self.times = StepTimes {
            input: (whitened - start).as_secs_f64(),
            forward: (forwarded - whitened).as_secs_f64(),
            loss: (judged - forwarded).as_secs_f64(),
            backward: judged.elapsed().as_secs_f64(),
            ..StepTimes::default()
        };
    }
}
