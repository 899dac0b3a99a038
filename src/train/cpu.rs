//! An optimiser step on a CPU: micro-batches side by side, one thread each.

use std::time::Instant;

use rayon::prelude::*;
use tch::{Device, Kind};

use super::checkpoint::{Checkpoint, Model};
use super::micro_batch::MicroBatch;
use super::optimiser::{adam, norm};
use super::step::{StepPlan, StepResult, StepTimes};
use crate::comm::{Comm, GradientSum};
use crate::config::Reduction;
use crate::memory::KeptHeap;
use crate::model::{Loss, Network, Parameters, Weights};

/// What one rank needs for its steps, beside the weights and moments of the [`Checkpoint`].
pub struct CpuStepper {
    workers: Vec<Worker>,
    sum: GradientSum,
    gradient: Vec<f32>,
    /// The mean spectrum `[energy]`, sum 1.
    mean: Vec<f32>,
    code: Vec<usize>,
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
            code: model.spec.code(),
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
        let (mean, code) = (&self.mean, &self.code);
        self.workers
            .par_iter_mut()
            .zip(batch)
            .for_each(|(worker, micro_batch)| worker.run(mean, code, micro_batch, plan));
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
            network: Network::new(&model.spec, &values, &model.mean, Device::Cpu, Kind::Float),
            gradient: Parameters::zeros(model.spec.parameters()),
            loss: Loss::default(),
            times: StepTimes::default(),
        }
    }

    /// Loss and gradient of one micro-batch, on this thread alone. Rank-local.
    fn run(&mut self, mean: &[f32], code: &[usize], batch: &MicroBatch, plan: &StepPlan) {
        let start = Instant::now();
        let batch = batch.on_cpu(mean, code);
        let read = Instant::now();
        let (loss, surrogate) = self.network.loss(&batch, &Weights::new(plan.kl_weight, plan.trim), plan.scale);
        self.loss = loss.read();
        let judged = Instant::now();
        self.network.gradient(&batch, &surrogate, &self.gradient.tensor());
        self.times = StepTimes {
            input: (read - start).as_secs_f64(),
            forward: (judged - read).as_secs_f64(),
            backward: judged.elapsed().as_secs_f64(),
            ..StepTimes::default()
        };
    }
}
