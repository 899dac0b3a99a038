//! `coreloss bench train`: training steps on made-up patches, taken as in `coreloss train`.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::{median, print};
use crate::comm::{Comm, GradientSum};
use crate::config::{Auto, Config, Overrides, TrainingLength};
use crate::cube::Axis;
use crate::gpu::{GpuGradientSum, Kernels, Stream, device};
use crate::invalid::Invalid;
use crate::memory::peak_rss_mib;
use crate::model::{Parameters, Spec, hidden_pixels};
use crate::preprocess::noise::NoiseModel;
use crate::shard::Lines;
use crate::train::{
    Checkpoint, Course, CropOrigin, Hidden, LearnedFrom, LeftOut, MicroBatch, Model, StepTimes, Trainer,
};

/// What to measure.
#[derive(Args)]
pub struct TrainBench {
    /// JSON file with the layers; by default the configuration's preset at 480 channels.
    #[arg(long)]
    pub spec: Option<PathBuf>,
    /// Patches per rank and step, a multiple of train.micro_batch.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Steps to measure.
    #[arg(long, default_value_t = 20)]
    pub steps: usize,
    /// Steps before them.
    #[arg(long, default_value_t = 3)]
    pub warmup: usize,
    /// Only measures steps, not the rates of matrix products and of sums over ranks.
    #[arg(long)]
    pub steps_only: bool,
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Channels if no specification is given.
const ENERGY: usize = 480;

/// Medians over the steps.
#[derive(Serialize)]
struct Figures {
    what: &'static str,
    ranks: usize,
    threads: usize,
    batch_per_rank: usize,
    micro_batch: usize,
    parameters: usize,
    step_ms: f64,
    samples_per_s: f64,
    /// Shares of a step, on root.
    share: StepTimes,
    /// Rate of the layers' multiplications and additions, all ranks together.
    gflop_per_s: f64,
    #[serde(flatten)]
    beside: Option<StepShares>,
    first_loss: f64,
    last_loss: f64,
    peak_rss_mib: Vec<f64>,
}

/// What the steps are compared with.
#[derive(Serialize)]
struct StepShares {
    /// Time of one sum over ranks, exact and fast, and the share of a step that exactness costs.
    exact_ms: f64,
    fast_ms: f64,
    price_of_exact: f64,
    matrix_product_gflop_per_s: f64,
    share_of_matrix_product: f64,
}

/// Times optimiser steps: noise, full loss, clipping and Adam, but no reading of patches.
///
/// # Collective
/// # Errors
/// A specification that cannot be read; a batch that is not a multiple of the micro-batch.
pub fn train(comm: &Comm, config: &Config, bench: &TrainBench) -> Result<()> {
    let spec = comm.agree(read_spec(config, bench.spec.as_deref()))?;
    let mut config = config.clone();
    config.train.global_batch = Auto::Given(bench.batch * comm.size());
    let micro_batch = config.pace().micro_batch;
    comm.agree(check(bench, micro_batch))?;
    let device = device::choose(comm, config.train.device)?;
    let steps = bench.warmup + bench.steps;
    let length = TrainingLength { steps, most: steps, steps_per_epoch: bench.steps };
    let micro_batches = bench.batch / micro_batch;
    let mut batch: Vec<MicroBatch> =
        (0..micro_batches).map(|i| made_up(&spec, comm.rank() * micro_batches + i, micro_batch)).collect();
    let state = untrained(&spec, &config);
    let mut trainer = Trainer::new(comm, &config, device, length, state)?;
    if device != Device::Cpu {
        // As in a training whose data fit on the GPU.
        for micro_batch in &mut batch {
            let patches = micro_batch.origins.iter().zip(micro_batch.patches.drain(..));
            let lines = patches.map(|(origin, patch)| {
                let (cube, rows) = (origin.cube, 0..spec.patch()[0]);
                (Lines { cube, rows }, patch)
            });
            trainer.hold_lines(lines.collect());
        }
    }
    let (mut losses, mut seconds, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..length.steps {
        comm.barrier();
        let begun = Instant::now();
        losses.push(trainer.step(&batch)?.loss);
        if step >= bench.warmup {
            seconds.push(begun.elapsed().as_secs_f64());
            times.push(trainer.times());
        }
    }
    drop(trainer);
    let step = median(seconds);
    let samples = config.pace().global_batch as f64 / step;
    let flops = samples * spec.flops_per_sample() / 1e9;
    let beside = if bench.steps_only {
        None
    } else {
        let kind = device::layer_kind(config.train.precision, device);
        let rate = flop_rate(comm, device, kind);
        let [exact, fast] = match device {
            Device::Cpu => reductions(comm, spec.parameters(), micro_batches),
            _ => gpu_reductions(comm, &config, device, &spec, micro_batches)?,
        };
        Some(StepShares {
            exact_ms: 1e3 * exact,
            fast_ms: 1e3 * fast,
            price_of_exact: (exact - fast) / step,
            matrix_product_gflop_per_s: rate,
            share_of_matrix_product: flops / rate,
        })
    };
    let figures = Figures {
        what: "train",
        ranks: comm.size(),
        threads: rayon::current_num_threads(),
        batch_per_rank: bench.batch,
        micro_batch,
        parameters: spec.parameters(),
        step_ms: 1e3 * step,
        samples_per_s: samples,
        share: shares(&times, step),
        gflop_per_s: flops,
        beside,
        first_loss: losses[0],
        last_loss: losses[losses.len() - 1],
        peak_rss_mib: comm.all_gather(&peak_rss_mib()),
    };
    print(comm, &figures, bench.json);
    Ok(())
}

fn check(bench: &TrainBench, micro_batch: usize) -> Result<()> {
    if bench.batch == 0 || !bench.batch.is_multiple_of(micro_batch) || bench.steps == 0 {
        let message = format!(
            "bench train: --batch {} is no multiple of train.micro_batch {micro_batch}, or --steps is 0: choose \
             --batch {micro_batch}, or --set train.micro_batch={}",
            bench.batch,
            bench.batch.max(1)
        );
        return Err(Invalid(message).into());
    }
    Ok(())
}

/// The layers from the JSON file at `path`, or from the configuration. Rank-local.
pub(super) fn read_spec(config: &Config, path: Option<&Path>) -> Result<Spec> {
    let Some(path) = path else {
        return Spec::new(&config.model, ENERGY);
    };
    let what = || format!("the specification {}", path.display());
    let text = fs::read_to_string(path).with_context(what)?;
    let spec: Spec = serde_json::from_str(&text).with_context(what)?;
    spec.check().with_context(what)?;
    Ok(spec)
}

/// A model before its first step.
fn untrained(spec: &Spec, config: &Config) -> Checkpoint {
    let mean = vec![1.0 / spec.energy() as f64; spec.energy()];
    let count = spec.parameters();
    Checkpoint {
        model: Model {
            energy: Axis::energy_loss(0.0, 1.0, spec.energy()),
            noise: NoiseModel::with_gain(1.0),
            parameters: Parameters::initial(spec, &mean, config.seed),
            mean,
            spec: spec.clone(),
        },
        first_moment: vec![0.0; count],
        second_moment: vec![0.0; count],
        step: 0,
        course: Course::default(),
        best: None,
        config: config.clone(),
        left_out: LeftOut::default(),
        learned_from: LearnedFrom::default(),
    }
}

/// Patches of uniform random electrons, the same for any number of ranks.
fn made_up(spec: &Spec, index: usize, patches: usize) -> MicroBatch {
    let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
    let ([rows, columns], code) = (spec.patch(), spec.code().iter().product::<usize>());
    MicroBatch {
        index,
        origins: (0..patches).map(|i| CropOrigin { cube: index * patches + i, y: 0, x: 0 }).collect(),
        patches: (0..patches)
            .map(|_| Array3::from_shape_simple_fn((rows, columns, spec.energy()), || 20.0 * rng.random::<f32>()))
            .collect(),
        noise: (0..patches * code).map(|_| StandardNormal.sample(&mut rng)).collect(),
        hidden: match spec {
            Spec::Blind(spec) => Some(hidden(spec.patch, patches)),
            Spec::Patchwise(_) => None,
        },
    }
}

/// A block of hidden pixels in each patch, all of them targets.
fn hidden(patch: [usize; 2], patches: usize) -> Hidden {
    let pixels = hidden_pixels(patch, [4, 4]);
    let of_patch = |i: usize| pixels.iter().map(move |&pixel| (i * patch[0] * patch[1] + pixel) as i64);
    Hidden { targets: vec![1.0; patches * pixels.len()], pixels: (0..patches).flat_map(of_patch).collect(), fold: 0 }
}

/// The median share of each part of a step.
fn shares(times: &[StepTimes], step: f64) -> StepTimes {
    let share = |part: fn(&StepTimes) -> f64| median(times.iter().map(part).collect()) / step;
    StepTimes {
        input: share(|times| times.input),
        forward: share(|times| times.forward),
        backward: share(|times| times.backward),
        reduction: share(|times| times.reduction),
        optimiser: share(|times| times.optimiser),
        device: share(|times| times.device),
    }
}

/// Rate of matrix products of `kind` on all threads of all ranks at once, or on their GPUs, GFLOP/s in total.
///
/// # Collective
fn flop_rate(comm: &Comm, device: Device, kind: Kind) -> f64 {
    comm.barrier();
    let rate = match device {
        Device::Cpu => rayon::broadcast(|_| device::matrix_product_rate(device, kind)).iter().sum(),
        _ => device::matrix_product_rate(device, kind),
    };
    comm.all_gather(&rate).iter().sum::<f64>() / 1e9
}

/// Seconds of one exact and one fast sum of this many gradients per rank; the two take turns.
///
/// # Collective
fn reductions(comm: &Comm, parameters: usize, micro_batches: usize) -> [f64; 2] {
    let gradients = vec![vec![1e-3f32; parameters]; micro_batches];
    let local: Vec<&[f32]> = gradients.iter().map(|gradient| &gradient[..]).collect();
    let mut total = vec![0.0; parameters];
    let mut sum = GradientSum::new(parameters, micro_batches * comm.size());
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..9 {
        for (way, seconds) in seconds.iter_mut().enumerate() {
            comm.barrier();
            let begun = Instant::now();
            match way {
                0 => sum.exact(comm, &local, &mut total),
                _ => sum.fast(comm, &local, &mut total),
            }
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    seconds.map(median)
}

/// As [`reductions`], between GPUs.
///
/// # Collective
fn gpu_reductions(comm: &Comm, config: &Config, device: Device, spec: &Spec, micro_batches: usize) -> Result<[f64; 2]> {
    let parameters = spec.parameters() as i64;
    let stream = comm.agree(Stream::begin(device))?;
    let kernels = Rc::new(comm.agree(Kernels::new())?);
    let mut sum = GpuGradientSum::new(comm, config.comm.backend, device, stream, kernels, micro_batches * comm.size())?;
    let gradients: Vec<Tensor> = (0..micro_batches)
        .map(|_| Tensor::full([GpuGradientSum::padded(parameters)], 1e-3, (Kind::Float, device)))
        .collect();
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..9 {
        for (way, seconds) in seconds.iter_mut().enumerate() {
            comm.barrier();
            let begun = Instant::now();
            let total = match way {
                0 => sum.exact(comm, &gradients, parameters)?,
                _ => sum.fast(comm, &gradients, parameters)?,
            };
            total.get(0).double_value(&[]);
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(seconds.map(median))
}
