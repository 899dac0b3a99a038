//! An optimiser step on a GPU. Weights, moments and gradients stay there, and the patches too where the archive fits.
//!
//! The host only starts the work, and waits for it once a step, when it reads the loss.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, ensure};
use ndarray::Array3;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::checkpoint::Checkpoint;
use super::held::HeldLines;
use super::micro_batch::MicroBatch;
use super::optimiser::Adam;
use super::step::{StepPlan, StepResult, StepTimes};
use crate::comm::Comm;
use crate::config::{Auto, Config, Reduction, TrainingLength};
use crate::gpu::{Cudnn, GpuGradientSum, Graph, Kernels, Stream, arguments, device};
use crate::model::{Batch, DeviceLoss, Hiding, Loss, Network, Spec, Weights, whitened};
use crate::shard::Lines;

/// Lines may take the GPU's free memory divided by this.
const SHARE_OF_LINES: usize = 4;
/// Times that a micro-batch is computed before it is recorded: by then libtorch and cuDNN have chosen their algorithms.
const WARM_UP: usize = 3;
/// Steps after which a training has earned back the time in which cuDNN tries all its algorithms.
const LONG: usize = 2000;

/// The tensors of a training, f32 on one GPU.
pub struct GpuStepper {
    device: Device,
    spec: Spec,
    network: Network,
    weights: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    kernels: Rc<Kernels>,
    sum: GpuGradientSum,
    /// Whether micro-batches are recorded.
    graphs: bool,
    buffers: Vec<Buffers>,
    /// The mean spectrum `[energy]`, sum 1.
    mean: Tensor,
    weighing: Weights,
    held: HeldLines,
    stream: Stream,
    ranks_per_gpu: usize,
}

/// What the n-th micro-batch of every step is computed with; the tensors stay where they are, as its graph needs.
struct Buffers {
    /// Where its patches lie among the held pixels, `[2, batch, 1, 1]`: see [`HeldLines::locate`].
    located: Tensor,
    /// Electrons `[batch, y, x, energy]` that come from the host: here, and in host memory that the driver has pinned.
    counts: Option<(Tensor, Tensor)>,
    /// `[batch, ...]` as the latent code.
    noise: Tensor,
    /// What is hidden from a blind spot.
    hiding: Option<Hiding>,
    /// `[parameters]`, padded for [`GpuGradientSum`].
    gradient: Tensor,
    loss: Option<DeviceLoss>,
    /// Times that it was computed.
    done: usize,
    graph: Option<Graph>,
}

impl GpuStepper {
    /// For `micro_batches` per step over all ranks.
    ///
    /// # Collective
    /// # Errors
    /// `comm.backend: nccl` that cannot be had, too little memory, or what CUDA or libtorch says.
    pub fn new(
        comm: &Comm,
        config: &Config,
        device: Device,
        state: &Checkpoint,
        length: TrainingLength,
        micro_batches: usize,
    ) -> Result<GpuStepper> {
        let (spec, train) = (&state.model.spec, &config.train);
        let tries = match train.cudnn_tries {
            Auto::Given(tries) => tries,
            Auto::Auto if length.steps < LONG => 3,
            Auto::Auto => 10,
        };
        let cudnn = match train.deterministic {
            true => Cudnn::Deterministic,
            false => Cudnn::Benchmark(tries),
        };
        comm.agree(cudnn.set())?;
        let stream = comm.agree(Stream::begin(device))?;
        let ranks_per_gpu = device::ranks_per_gpu(comm, device);
        let weights = state.model.parameters.tensor().to_device(device);
        let mine = micro_batches.div_ceil(comm.size());
        comm.agree(check_memory(spec, mine, ranks_per_gpu))?;
        let kernels = Rc::new(comm.agree(Kernels::new())?);
        let backend = config.comm.backend;
        let moment = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let mean: Vec<f32> = state.model.mean.iter().map(|&m| m as f32).collect();
        let kind = match spec {
            Spec::Blind(_) => Kind::Float,
            Spec::Patchwise(_) => device::layer_kind(train.precision, device),
        };
        if comm.is_root() {
            log::info!("device={device:?} ranks_per_gpu={ranks_per_gpu} layers={kind:?}");
        }
        Ok(GpuStepper {
            network: Network::new(spec, &weights, &state.model.mean, device, kind),
            first_moment: moment(&state.first_moment),
            second_moment: moment(&state.second_moment),
            sum: GpuGradientSum::new(comm, backend, device, stream, Rc::clone(&kernels), micro_batches)?,
            kernels,
            graphs: train.cuda_graphs && !matches!(spec, Spec::Blind(spec) if spec.folds > 1),
            buffers: Vec::new(),
            mean: Tensor::from_slice(&mean).to_device(device),
            weighing: Weights::new(0.0, false).to_device(device),
            held: HeldLines::default(),
            spec: spec.clone(),
            weights,
            device,
            stream,
            ranks_per_gpu,
        })
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Memory that lines may take here, bytes. Rank-local.
    pub fn memory_for_lines(&self) -> usize {
        device::free_memory().unwrap_or(0) / SHARE_OF_LINES / self.ranks_per_gpu
    }

    /// Takes `lines` with their electrons `[y, x, energy]`. Rank-local.
    pub fn hold_lines(&mut self, lines: Vec<(Lines, Array3<f32>)>) {
        self.held.add(lines, self.device);
    }

    /// Copies weights and moments to `state`. Rank-local.
    pub fn fetch(&self, state: &mut Checkpoint) {
        let copy = |tensor: &Tensor, values: &mut [f32]| {
            let count = values.len();
            tensor.to_device(Device::Cpu).copy_data(values, count);
        };
        copy(&self.weights, state.model.parameters.values_mut());
        copy(&self.first_moment, &mut state.first_moment);
        copy(&self.second_moment, &mut state.second_moment);
    }

    /// Gives all folds the weights and moments of the first. Rank-local.
    pub fn follow_first_fold(&mut self) {
        let folds = self.spec.folds() as i64;
        tch::no_grad(|| {
            for values in [&self.weights, &self.first_moment, &self.second_moment] {
                let folds_of = values.view([folds, -1]);
                folds_of.narrow(0, 1, folds - 1).copy_(&folds_of.narrow(0, 0, 1));
            }
        });
    }

    /// Forms the gradient of this rank's `batch`, sums it over ranks and moves the weights.
    ///
    /// # Collective
    /// # Errors
    /// What the driver or libtorch says, on every rank.
    pub fn step(&mut self, comm: &Comm, batch: &[MicroBatch], plan: &StepPlan) -> Result<StepResult> {
        let start = Instant::now();
        tch::no_grad(|| {
            let _ = self.weighing.kl.fill_(plan.kl_weight);
            let _ = self.weighing.trim.fill_(f64::from(u8::from(plan.trim)));
        });
        // A copy waits for all work started before it, so everything is sent before any work starts.
        for (i, micro_batch) in batch.iter().enumerate() {
            self.send(i, micro_batch);
        }
        let worked = (0..batch.len()).try_for_each(|i| self.work(i, plan.scale));
        comm.agree(worked)?;
        let used = &self.buffers[..batch.len()];
        let local: Vec<Tensor> = used.iter().map(|buffers| buffers.gradient.shallow_clone()).collect();
        let parameters = self.weights.size()[0];
        let total = tch::no_grad(|| match plan.reduction {
            Reduction::Exact => self.sum.exact(comm, &local, parameters),
            Reduction::Fast => self.sum.fast(comm, &local, parameters),
        });
        // Where the driver fails within a sum, other ranks wait in it and cannot agree: only a panic ends the job.
        let total = total.unwrap_or_else(|error| panic!("{error:#}"));
        let gradient = total.narrow(0, 0, parameters);
        let norm = gradient.norm_scalaropt_dim_dtype(2.0, [0i64].as_slice(), false, Kind::Double);
        comm.agree(self.descend(&total, &norm, plan))?;
        let scalars = used.iter().filter_map(|buffers| buffers.loss.as_ref());
        let _waiting = comm.waiting("gradient");
        let scalars: Vec<&Tensor> = scalars.flat_map(DeviceLoss::scalars).chain([&norm]).collect();
        let read = tch::no_grad(|| Tensor::stack(&scalars, 0).to_device(Device::Cpu));
        let mut values = vec![0f64; scalars.len()];
        read.copy_data(&mut values, scalars.len());
        Ok(StepResult {
            losses: values.chunks_exact(2).map(|pair| Loss { reconstruction: pair[0], kl: pair[1] }).collect(),
            grad_norm: values[values.len() - 1],
            times: StepTimes { device: start.elapsed().as_secs_f64(), ..StepTimes::default() },
        })
    }

    /// Copies micro-batch `i` of a step to its buffers.
    fn send(&mut self, i: usize, batch: &MicroBatch) {
        while self.buffers.len() <= i {
            self.buffers.push(self.new_buffers(batch));
        }
        let buffers = &mut self.buffers[i];
        tch::no_grad(|| {
            let noise = Tensor::from_slice(&batch.noise).view(&buffers.noise.size()[..]);
            buffers.noise.copy_(&noise);
            if let (Some(hiding), Some(hidden)) = (&mut buffers.hiding, &batch.hidden) {
                hiding.pixels.copy_(&Tensor::from_slice(&hidden.pixels));
                hiding.targets.copy_(&Tensor::from_slice(&hidden.targets));
                // With folds nothing is recorded.
                hiding.fold = hidden.fold;
            }
            if let Some((counts, pinned)) = &mut buffers.counts {
                let values = values_of(pinned);
                let size = values.len() / batch.patches.len();
                values.par_chunks_mut(size).zip(&batch.patches).for_each(|(values, patch)| {
                    values.iter_mut().zip(patch).for_each(|(value, &electrons)| *value = electrons);
                });
                counts.copy_(pinned);
            } else {
                let (starts, widths): (Vec<i64>, Vec<i64>) =
                    batch.origins.iter().map(|origin| self.held.locate(origin)).unzip();
                let located = Tensor::from_slice(&[starts, widths].concat());
                buffers.located.copy_(&located.view(&buffers.located.size()[..]));
            }
        });
    }

    fn new_buffers(&self, batch: &MicroBatch) -> Buffers {
        let spec = &self.spec;
        let zeros = |sizes: &[i64], kind| Tensor::zeros(sizes, (kind, self.device));
        let patches = batch.origins.len() as i64;
        let [height, width] = spec.patch().map(|n| n as i64);
        let shape = [patches, height, width, spec.energy() as i64];
        let code: Vec<i64> = spec.code().iter().map(|&n| n as i64).collect();
        let parameters = GpuGradientSum::padded(self.weights.size()[0]);
        Buffers {
            located: zeros(&[2, patches, 1, 1], Kind::Int64),
            counts: (!batch.patches.is_empty()).then(|| {
                let host = Tensor::empty(shape, (Kind::Float, Device::Cpu));
                (zeros(&shape, Kind::Float), host.pin_memory(self.device))
            }),
            noise: zeros(&[&[patches], &code[..]].concat(), Kind::Float),
            hiding: batch.hidden.as_ref().map(|hidden| Hiding {
                pixels: zeros(&[hidden.pixels.len() as i64], Kind::Int64),
                targets: zeros(&[hidden.pixels.len() as i64], Kind::Float),
                fold: hidden.fold,
            }),
            gradient: zeros(&[parameters], Kind::Float),
            loss: None,
            done: 0,
            graph: None,
        }
    }

    /// Starts the work on micro-batch `i` of a step: its loss and gradient, from what was sent.
    ///
    /// # Errors
    /// Work that cannot be recorded or started.
    fn work(&mut self, i: usize, scale: f64) -> Result<()> {
        let buffers = &mut self.buffers[i];
        buffers.done += 1;
        if let Some(graph) = &mut buffers.graph {
            return graph.replay();
        }
        let buffers = &self.buffers[i];
        if !self.graphs || buffers.done <= WARM_UP {
            let loss = self.gradient(buffers, scale);
            self.buffers[i].loss = Some(loss);
            return Ok(());
        }
        let (mut graph, loss) = Graph::record(|| self.gradient(buffers, scale))?;
        graph.replay()?;
        let buffers = &mut self.buffers[i];
        buffers.loss = Some(loss);
        buffers.graph = Some(graph);
        Ok(())
    }

    /// The loss of a micro-batch; its gradient goes to `buffers`.
    fn gradient(&self, buffers: &Buffers, scale: f64) -> DeviceLoss {
        let counts = match &buffers.counts {
            Some((counts, _)) => counts.shallow_clone(),
            None => self.held.cut(&buffers.located, self.spec.patch()),
        };
        let copy = |hiding: &Hiding| Hiding {
            pixels: hiding.pixels.shallow_clone(),
            targets: hiding.targets.shallow_clone(),
            fold: hiding.fold,
        };
        let batch = Batch {
            whitened: buffers.hiding.is_none().then(|| whitened(&counts, &self.mean).unsqueeze(1)),
            counts,
            noise: Some(buffers.noise.shallow_clone()),
            hiding: buffers.hiding.as_ref().map(copy),
        };
        let (loss, surrogate) = self.network.loss(&batch, &self.weighing, scale);
        self.network.gradient(&batch, &surrogate, &buffers.gradient);
        loss
    }

    /// Moves the weights, and with them the network's layers, against the gradient `total` of norm `norm`.
    fn descend(&self, total: &Tensor, norm: &Tensor, plan: &StepPlan) -> Result<()> {
        let [mut weights, mut first, mut second, mut gradient] =
            [&self.weights, &self.first_moment, &self.second_moment, total].map(Tensor::data_ptr);
        let mut layers = self.network.layers().map_or(std::ptr::null_mut(), Tensor::data_ptr);
        let mut norm = norm.data_ptr();
        let mut clip = plan.clip;
        let mut count = self.weights.size()[0];
        let Adam { mut rate, mut inverse, mut beta1, mut beta2, mut rest1, mut rest2, mut epsilon } =
            Adam::of(plan.learning_rate, plan.step);
        #[rustfmt::skip]
        let arguments = arguments![
            weights, first, second, gradient, layers, norm, clip,
            rate, inverse, beta1, beta2, rest1, rest2, epsilon, count,
        ];
        // SAFETY: these are the kernel's parameters, in its order. The tensors hold at least `count` values, f32 except for
        // `layers` in bf16 and the one f64 of `norm`; their memory is only reused in the order of this stream.
        unsafe { self.kernels.adam.run(self.stream, arguments) }?;
        self.network.refresh(&self.weights);
        Ok(())
    }
}

/// Whether the GPU has memory for what comes beside the weights: moments, integers and layers, and the gradients of this
/// rank's `micro_batches`.
///
/// # Errors
/// It has not, with both figures and what to do.
fn check_memory(spec: &Spec, micro_batches: usize, ranks_per_gpu: usize) -> Result<()> {
    // Bytes per parameter: two moments and integers of 4, layers of 2; of each micro-batch a gradient of 4 and one of 2.
    let needed = spec.parameters() * (14 + 6 * micro_batches);
    let free = device::free_memory()? / ranks_per_gpu;
    ensure!(
        needed <= free,
        "the model has {} parameters, whose moments and gradients of {micro_batches} micro-batches take {} MiB; the \
         GPU has {} MiB free for each of the {ranks_per_gpu} ranks on it: raise train.micro_batch towards train.global_batch, \
         choose model.preset: compact or a smaller model.patch, or set train.device: cpu",
        spec.parameters(),
        needed >> 20,
        free >> 20
    );
    Ok(())
}

/// The values of a contiguous f32 tensor in host memory, which no copy to a GPU is still reading.
fn values_of(tensor: &mut Tensor) -> &mut [f32] {
    // SAFETY: the tensor is of that kind and borrowed for as long; a copy from it ends before its step does.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, tensor.numel()) }
}
