//! Data-parallel training of the 3D-CVAE. Losses and weights are the same to the bit on any number of ranks and threads; on
//! GPUs with `train.deterministic`.
//!
//! An optimiser step takes `train.global_batch / train.micro_batch` micro-batches. Each is drawn from one lane, and its
//! gradient is formed by the rank that owns that lane, on one thread or a GPU. The gradients are summed exactly, and every
//! rank moves its weights by the same sum.

mod basis;
mod checkpoint;
mod course;
mod cpu;
mod crops;
mod gpu;
mod held;
mod history;
mod micro_batch;
mod optimiser;
mod schedule;
mod step;
mod targets;
mod trainer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use tch::Device;

use crate::comm::Comm;
use crate::config::{self, Config, TrainingLength};
use crate::gpu::device;
use crate::model::{Parameters, Spec};
use crate::stream::{Cube, CubeStatistics};

pub use checkpoint::{Checkpoint, LearnedFrom, LeftOut, Model, Training, step_of};
pub use course::Course;

pub use history::StepLine;
pub use micro_batch::{CropOrigin, Hidden, MicroBatch};
pub use step::StepTimes;
pub use trainer::Trainer;

use crops::Crops;
use history::{EpochLine, History};

/// How a training ended.
pub enum Outcome {
    Finished(Box<Model>),
    /// By a signal, with a checkpoint.
    Stopped,
}

/// Trains on `cubes`, from the newest checkpoint in `directory` if there is one.
///
/// `stop` ends the training after the step in progress, with a checkpoint.
/// # Collective
/// # Errors
/// Unreadable data, a loss that is not finite, a checkpoint of another model, an output that cannot be written.
pub fn train(
    comm: &Comm,
    config: &Config,
    cubes: &[Cube],
    statistics: &CubeStatistics,
    directory: &Path,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let device = device::choose(comm, config.train.device)?;
    let found = Checkpoint::newest(comm, directory)?;
    if let Some(checkpoint) = &found {
        comm.agree(checkpoint.check(config, &cubes[0].energy))?;
        checkpoint.left_out.check(&LeftOut::of(config, cubes))?;
    }
    let mut checkpoint = match found {
        Some(checkpoint) => checkpoint,
        None => begin(comm, config, cubes, statistics, device)?,
    };
    let pixels = cubes.iter().map(|cube| cube.ignored.len()).sum();
    let length = length_of(config, pixels, &checkpoint.model.spec);
    if checkpoint.is_finished(length) {
        return Ok(Outcome::Finished(Box::new(checkpoint.model)));
    }
    let mut crops = Crops::new(comm, config, cubes, &checkpoint.model)?;
    crops.describe(comm, config, length);
    let opened = History::open(comm, directory, checkpoint.step, length);
    let (history, epoch_losses) = comm.agree(opened)?;
    let mut log = Log { history, epoch_losses };
    loop {
        let trainer = Trainer::new(comm, config, device, length, checkpoint)?;
        let step = match trained(trainer, &mut crops, &mut log, directory, stop)? {
            Attempt::Finished(model) => return Ok(Outcome::Finished(model)),
            Attempt::Stopped => return Ok(Outcome::Stopped),
            Attempt::Collapsed(step) => step,
        };
        if comm.is_root() {
            log::warn!(
                "the latent code has collapsed, so that every spectrum is predicted as the mean: the training begins anew \
                 with a lower rate and a lower weight of the Kullback-Leibler term"
            );
        }
        checkpoint = begin(comm, config, cubes, statistics, device)?;
        (checkpoint.step, checkpoint.course) = (step, Course::anew(step));
    }
}

/// How long a network of `spec` is trained on `pixels`. In folds it takes one cycle: another takes twice as long, and where it
/// lowered the loss it found no more.
fn length_of(config: &Config, pixels: usize, spec: &Spec) -> TrainingLength {
    let length = config.train.length(pixels, spec.patch(), config.model.preset);
    if spec.folds() > 1 { TrainingLength { most: length.steps, ..length } } else { length }
}

/// The history, and the losses of the epoch in progress.
struct Log {
    history: History,
    epoch_losses: Vec<f64>,
}

/// How an attempt to train ended.
enum Attempt {
    Finished(Box<Model>),
    Stopped,
    /// After so many steps, the network predicts the mean spectrum everywhere.
    Collapsed(usize),
}

/// Takes the steps of a training.
///
/// # Collective
fn trained(
    mut trainer: Trainer,
    crops: &mut Crops,
    Log { history, epoch_losses }: &mut Log,
    directory: &Path,
    stop: &AtomicBool,
) -> Result<Attempt> {
    let (comm, config, length) = (trainer.comm, trainer.config, trainer.length);
    if let Some(lines) = crops.lines_for_gpu(trainer.memory_for_lines()) {
        trainer.hold_lines(lines);
    }
    let mut next = crops.draw(trainer.steps_done(), trainer.is_together(trainer.steps_done()));
    while !trainer.course().finished {
        let batch = comm.agree(next)?;
        // The next batch is read during this step.
        let following = trainer.steps_done() + 1;
        let has_more = following < trainer.course().last(length);
        let together = trainer.is_together(following);
        let (line, drawn) = std::thread::scope(|scope| {
            let ahead = scope.spawn(|| match has_more {
                true => crops.draw(following, together),
                false => Ok(Vec::new()),
            });
            (trainer.step(&batch), ahead.join())
        });
        next = drawn.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let line = line?;
        epoch_losses.push(line.loss);
        history.step(&line);
        let done = trainer.steps_done();
        let cycle_over = done == trainer.course().end(length);
        let epoch_over = done.is_multiple_of(length.steps_per_epoch) || cycle_over;
        let epoch = done.div_ceil(length.steps_per_epoch);
        let mut held = None;
        if epoch_over {
            if cycle_over || trainer.is_judged_in(epoch) {
                held = trainer.validate(crops, false)?;
            }
            comm.agree(history.epoch(&EpochLine {
                epoch,
                step: done,
                train: epoch_losses.iter().sum::<f64>() / epoch_losses.len() as f64,
                validation: held,
            }))?;
            epoch_losses.clear();
        }
        if trainer.has_collapsed() {
            return Ok(Attempt::Collapsed(done));
        }
        if cycle_over {
            trainer.end_cycle(crops, held)?;
        } else {
            trainer.give_up(held);
        }
        let finished = trainer.course().finished;
        let stopping = comm.any(stop.load(Ordering::Relaxed));
        let due = epoch_over && epoch.is_multiple_of(config.train.epochs_between_checkpoints(length));
        if due || stopping || finished {
            comm.agree(history.flush())?;
            trainer.write_checkpoint(directory)?;
            let kept = config.train.keep_checkpoints;
            comm.on_root(|| checkpoint::remove_old(directory, done, kept, &history.epochs()))?;
        }
        if stopping && !finished {
            return Ok(Attempt::Stopped);
        }
    }
    trainer.warn_of_collapse();
    Ok(Attempt::Finished(Box::new(trainer.into_model())))
}

/// What a few steps show of a whole training.
pub struct Rehearsal {
    /// After those steps.
    pub model: Model,
    /// Of the whole training.
    pub length: TrainingLength,
    pub seconds_per_step: f64,
}

/// Takes a few steps to warm up and times `steps` more, on `cubes` of an archive of `pixels`; writes nothing.
///
/// # Collective
/// # Errors
/// As [`train`].
pub fn rehearse(
    comm: &Comm,
    config: &Config,
    cubes: &[Cube],
    statistics: &CubeStatistics,
    pixels: usize,
    steps: usize,
) -> Result<Rehearsal> {
    let device = device::choose(comm, config.train.device)?;
    let start = begin(comm, config, cubes, statistics, device)?;
    let length = length_of(config, pixels, &start.model.spec);
    let mut crops = Crops::new(comm, config, cubes, &start.model)?;
    let mut trainer = Trainer::new(comm, config, device, length, start)?;
    if let Some(lines) = crops.lines_for_gpu(trainer.memory_for_lines()) {
        trainer.hold_lines(lines);
    }
    let mut step = || -> Result<StepLine> {
        let batch = comm.agree(crops.draw(trainer.steps_done(), trainer.is_together(trainer.steps_done())))?;
        trainer.step(&batch)
    };
    let warm_up = match device {
        Device::Cpu => 1,
        // Until micro-batches are recorded.
        _ => 5,
    };
    for _ in 0..warm_up {
        step()?;
    }
    let start = std::time::Instant::now();
    for _ in 0..steps {
        step()?;
    }
    let seconds = comm.max_f64(start.elapsed().as_secs_f64());
    Ok(Rehearsal { length, seconds_per_step: seconds / steps as f64, model: trainer.into_model() })
}

/// The state before the first step.
///
/// # Collective
/// # Errors
/// Unreadable data, a model that is too large for `io.memory_mib`.
fn begin(
    comm: &Comm,
    config: &Config,
    cubes: &[Cube],
    statistics: &CubeStatistics,
    device: Device,
) -> Result<Checkpoint> {
    let mean = crate::stream::mean_spectrum(comm, cubes, statistics)?;
    let model =
        config::Model { patch: Some(config.model.patch_for(cubes.iter().map(Cube::shape))), ..config.model.clone() };
    let mut spec = Spec::new(&model, cubes[0].energy.size)?;
    if let Spec::Blind(spec) = &mut spec
        && config.archive.train_inputs.is_none()
    {
        (spec.folds, spec.cell) = targets::folds(mean.pixels, cubes.len());
    }
    // Weights and two moments; on a CPU a gradient, and one for each micro-batch.
    let gradients = match device {
        Device::Cpu => 1 + config.pace().micro_batches(),
        _ => 0,
    };
    let needed = 4 * (spec.parameters() * (3 + gradients)) as u64;
    let allowed = config.io.memory_mib << 20;
    ensure!(
        needed <= allowed.max(1 << 30),
        "the model has {} parameters and needs {} MiB per rank with its optimiser and gradients, above io.memory_mib: \
         {}; raise io.memory_mib, choose model.preset: compact or a smaller model.patch, or crop with \
         archive.energy_range_ev",
        spec.parameters(),
        needed >> 20,
        config.io.memory_mib
    );
    if comm.is_root() {
        let noise = &statistics.noise;
        log::info!(
            "gain={:.3} read_noise={:.2} electrons_per_pixel={:.0} spike_share={:.1e} parameters={}",
            noise.gain,
            noise.read_noise,
            mean.electrons_per_pixel,
            mean.spike_share,
            spec.parameters()
        );
        if mean.spike_share > 1e-4 {
            log::warn!(
                "{:.1e} of the voxels were taken for spikes, more than cosmic rays explain: check preprocess.gain, or \
                 set preprocess.despike: false",
                mean.spike_share
            );
        }
    }
    let mut parameters = Parameters::initial(&spec, &mean.shares, config.seed);
    if let Spec::Blind(spec) = &spec {
        let basis = basis::of(comm, config, cubes, statistics, &mean, spec.components)?;
        parameters.begin_with(spec, &mean.shares, &basis);
    }
    let count = spec.parameters();
    Ok(Checkpoint {
        model: Model { energy: cubes[0].energy.clone(), mean: mean.shares, noise: statistics.noise, parameters, spec },
        first_moment: vec![0.0; count],
        second_moment: vec![0.0; count],
        step: 0,
        course: Course::default(),
        best: None,
        config: config.clone(),
        left_out: LeftOut::of(config, cubes),
        learned_from: LearnedFrom::of(comm, config, cubes)?,
    })
}
