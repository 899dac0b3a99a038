//! The step's work on a GPU: weights, moments and gradients stay there, and the patches too where the archive fits.
//!
//! The host only says what is to be done, and waits once a step, for the loss.

mod graph;
mod kernel;
mod sum;

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, ensure};
use ndarray::Array3;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::checkpoint::Checkpoint;
use super::crops::{CropOrigin, MicroBatch};
use super::optimiser::Adam;
use super::step::{Done, StepPlan, Times};
use crate::comm::Comm;
use crate::config::{Auto, Config, Reduction, TrainingLength};
use crate::gpu::device::{self, Choice};
use crate::model::{Loss, Network, Spec, Unread, whitened};
use crate::shard::Lines;

use graph::Graph;
use kernel::argument;

pub use graph::Stream;
pub use kernel::Kernels;
pub use sum::GpuSum;

/// Of the GPU's free memory, what lines may take.
const SHARE_OF_LINES: usize = 4;
/// How often a micro-batch is worked on before it is recorded: libtorch and cuDNN have found their ways by then.
const WARM_UP: usize = 3;
/// Steps of a training that earns back the time in which cuDNN tries all its ways.
const LONG: usize = 2000;

/// The tensors of a training, f32 on one GPU.
pub struct Gpu {
    device: Device,
    spec: Spec,
    network: Network,
    weights: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    kernels: Rc<Kernels>,
    sum: GpuSum,
    /// Whether micro-batches are recorded.
    graphs: bool,
    slots: Vec<Slot>,
    /// The mean spectrum `[energy]`, sum 1.
    mean: Tensor,
    kl_weight: Tensor,
    held: Held,
    stream: Stream,
    /// Ranks that share the GPU.
    sharers: usize,
}

/// What one of a step's micro-batches is worked on with; its tensors stay where they are.
struct Slot {
    /// Where its patches begin in the held pixels, and pixels from one of its lines to the next: `[2, batch, 1, 1]`.
    origins: Tensor,
    /// Electrons `[batch, y, x, energy]`, where they come from the host, and where they wait there for their way, in memory
    /// that the driver has pinned.
    counts: Option<(Tensor, Tensor)>,
    /// `[batch, latent]`.
    noise: Tensor,
    /// `[parameters]`, in whole blocks of [`GpuSum`].
    gradient: Tensor,
    loss: Option<Unread>,
    /// How often it was worked on.
    done: usize,
    graph: Option<Graph>,
}

/// The pixels of the archive's lines, where they fit.
#[derive(Default)]
struct Held {
    /// Each with the first of its pixels and those of a line.
    lines: Vec<(Lines, i64, i64)>,
    /// Electrons `[pixels, energy]`, 0 where training does not look.
    pixels: Option<Tensor>,
}

impl Gpu {
    /// For `slots` micro-batches a step over all ranks.
    ///
    /// # Collective
    /// # Errors
    /// `comm.backend: nccl` that cannot be had, or another libtorch.
    pub fn new(
        comm: &Comm,
        config: &Config,
        device: Device,
        state: &Checkpoint,
        length: TrainingLength,
        slots: usize,
    ) -> Result<Gpu> {
        let (spec, train) = (&state.model.spec, &config.train);
        let tries = match train.cudnn_tries {
            Auto::Given(tries) => tries,
            Auto::Auto if length.steps < LONG => 3,
            Auto::Auto => 10,
        };
        let choice = match train.deterministic {
            true => Choice::Deterministic,
            false => Choice::Tried(tries),
        };
        comm.agree(choice.set())?;
        let stream = comm.agree(Stream::begin(device))?;
        let sharers = device::sharers(comm, device);
        let weights = state.model.parameters.tensor().to_device(device);
        let mine = slots.div_ceil(comm.size());
        comm.agree(check_room(spec, mine, sharers))?;
        let kernels = Rc::new(comm.agree(Kernels::new())?);
        let backend = config.comm.backend;
        let moment = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let mean: Vec<f32> = state.model.mean.iter().map(|&m| m as f32).collect();
        let kind = device::kind(train.precision, device);
        if comm.is_root() {
            log::info!("device={device:?} ranks_per_gpu={sharers} layers={kind:?}");
        }
        Ok(Gpu {
            network: Network::new(spec, &weights, device, kind),
            first_moment: moment(&state.first_moment),
            second_moment: moment(&state.second_moment),
            sum: GpuSum::new(comm, backend, device, stream, Rc::clone(&kernels), slots)?,
            kernels,
            graphs: train.cuda_graphs,
            slots: Vec::new(),
            mean: Tensor::from_slice(&mean).to_device(device),
            kl_weight: Tensor::zeros([0i64; 0], (Kind::Double, device)),
            held: Held::default(),
            spec: spec.clone(),
            weights,
            device,
            stream,
            sharers,
        })
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Bytes that lines may take here. Rank-local.
    pub fn room(&self) -> usize {
        device::free_memory().unwrap_or(0) / SHARE_OF_LINES / self.sharers
    }

    /// Takes `lines` with their electrons `[y, x, energy]`. Rank-local.
    pub fn hold(&mut self, lines: Vec<(Lines, Array3<f32>)>) {
        self.held.take(lines, self.device);
    }

    /// Writes weights and moments to `state`. Rank-local.
    pub fn fetch(&self, state: &mut Checkpoint) {
        let copy = |tensor: &Tensor, values: &mut [f32]| {
            let count = values.len();
            tensor.to_device(Device::Cpu).copy_data(values, count);
        };
        copy(&self.weights, state.model.parameters.values_mut());
        copy(&self.first_moment, &mut state.first_moment);
        copy(&self.second_moment, &mut state.second_moment);
    }

    /// Forms the gradient of this rank's `batch`, sums it over ranks and moves the weights.
    ///
    /// # Collective
    /// # Errors
    /// What the driver says, on all ranks alike.
    pub fn step(&mut self, comm: &Comm, batch: &[MicroBatch], plan: &StepPlan) -> Result<Done> {
        let begun = Instant::now();
        tch::no_grad(|| {
            let _ = self.kl_weight.fill_(plan.kl_weight);
        });
        // A copy waits for what was started before it: all are sent before the first is worked on.
        for (i, micro_batch) in batch.iter().enumerate() {
            self.send(i, micro_batch);
        }
        let worked = (0..batch.len()).try_for_each(|i| self.work(i, plan.scale));
        comm.agree(worked)?;
        let used = &self.slots[..batch.len()];
        let local: Vec<Tensor> = used.iter().map(|s| s.gradient.shallow_clone()).collect();
        let parameters = self.weights.size()[0];
        let total = tch::no_grad(|| match plan.reduction {
            Reduction::Exact => self.sum.exact(comm, &local, parameters),
            Reduction::Fast => self.sum.fast(comm, &local, parameters),
        });
        // What a driver refuses in the midst of a sum leaves other ranks waiting in it: nothing can be agreed there.
        let total = total.unwrap_or_else(|error| panic!("{error:#}"));
        let gradient = total.narrow(0, 0, parameters);
        let norm = gradient.norm_scalaropt_dim_dtype(2.0, [0i64].as_slice(), false, Kind::Double);
        comm.agree(self.descend(&total, &norm, plan))?;
        let scalars = used.iter().filter_map(|slot| slot.loss.as_ref());
        let _waiting = comm.waiting("gradient");
        let scalars: Vec<Tensor> = scalars.flat_map(Unread::scalars).chain([norm]).collect();
        let read = tch::no_grad(|| Tensor::stack(&scalars, 0).to_device(Device::Cpu));
        let mut values = vec![0f64; scalars.len()];
        read.copy_data(&mut values, scalars.len());
        Ok(Done {
            losses: values
                .chunks_exact(2)
                .map(|pair| Loss::of_patches([pair[0], pair[1]], self.spec.pixels() as f64))
                .collect(),
            norm: values[values.len() - 1],
            times: Times { device: begun.elapsed().as_secs_f64(), ..Times::default() },
        })
    }

    /// Brings what micro-batch `i` of a step is to its place here.
    fn send(&mut self, i: usize, batch: &MicroBatch) {
        while self.slots.len() <= i {
            self.slots.push(self.slot(batch));
        }
        let slot = &mut self.slots[i];
        tch::no_grad(|| {
            let noise = Tensor::from_slice(&batch.noise).view(&slot.noise.size()[..]);
            slot.noise.copy_(&noise);
            if let Some((counts, outbox)) = &mut slot.counts {
                let values = values_of(outbox);
                let size = values.len() / batch.patches.len();
                let places = values.par_chunks_mut(size).zip(&batch.patches);
                places.for_each(|(place, patch)| {
                    let values = place.iter_mut().zip(patch);
                    values.for_each(|(place, &value)| *place = value);
                });
                counts.copy_(outbox);
            } else {
                let (starts, widths): (Vec<i64>, Vec<i64>) =
                    batch.places.iter().map(|place| self.held.origin(place)).unzip();
                let origins = Tensor::from_slice(&[starts, widths].concat());
                slot.origins.copy_(&origins.view(&slot.origins.size()[..]));
            }
        });
    }

    fn slot(&self, batch: &MicroBatch) -> Slot {
        let spec = &self.spec;
        let zeros = |sizes: &[i64], kind| Tensor::zeros(sizes, (kind, self.device));
        let patches = batch.places.len() as i64;
        let [height, width] = spec.patch.map(|n| n as i64);
        let shape = [patches, height, width, spec.energy as i64];
        let parameters = GpuSum::padded(self.weights.size()[0]);
        Slot {
            origins: zeros(&[2, patches, 1, 1], Kind::Int64),
            counts: (!batch.patches.is_empty()).then(|| {
                let outbox = Tensor::empty(shape, (Kind::Float, Device::Cpu));
                (zeros(&shape, Kind::Float), outbox.pin_memory(self.device))
            }),
            noise: zeros(&[patches, spec.latent as i64], Kind::Float),
            gradient: zeros(&[parameters], Kind::Float),
            loss: None,
            done: 0,
            graph: None,
        }
    }

    /// Loss and gradient of micro-batch `i` of a step, from what was sent.
    ///
    /// # Errors
    /// Work that cannot be recorded.
    fn work(&mut self, i: usize, scale: f64) -> Result<()> {
        let slot = &mut self.slots[i];
        slot.done += 1;
        if let Some(graph) = &mut slot.graph {
            graph.replay();
            return Ok(());
        }
        let slot = &self.slots[i];
        if !self.graphs || slot.done <= WARM_UP {
            let loss = self.gradient(slot, scale);
            self.slots[i].loss = Some(loss);
            return Ok(());
        }
        let (mut graph, loss) = Graph::record(|| self.gradient(slot, scale))?;
        graph.replay();
        let slot = &mut self.slots[i];
        slot.loss = Some(loss);
        slot.graph = Some(graph);
        Ok(())
    }

    /// Starts the work of a micro-batch; its gradient lies in `slot` then.
    fn gradient(&self, slot: &Slot, scale: f64) -> Unread {
        let counts = match &slot.counts {
            Some((counts, _)) => counts.shallow_clone(),
            None => self.held.cut(&slot.origins, self.spec.patch),
        };
        let input = whitened(&counts, &self.mean).unsqueeze(1);
        let answer = self.network.answer(&input, Some(&slot.noise));
        let (loss, surrogate) = answer.loss(&counts, &self.kl_weight, scale);
        self.network.gradient(&surrogate, &slot.gradient);
        loss
    }

    /// Moves the weights against the gradient `total`, whose norm is `norm`, and the network's layers with them.
    fn descend(&self, total: &Tensor, norm: &Tensor, plan: &StepPlan) -> Result<()> {
        let mut adam = Adam::of(plan.learning_rate, plan.step);
        let mut tensors = [&self.weights, &self.first_moment, &self.second_moment, total].map(Tensor::data_ptr);
        let mut layers = self.network.layers().map_or(std::ptr::null_mut(), Tensor::data_ptr);
        let mut norm = norm.data_ptr();
        let mut clip = plan.clip;
        let mut count = self.weights.size()[0];
        let [weights, first, second, gradient] = &mut tensors;
        let arguments = [
            argument(weights),
            argument(first),
            argument(second),
            argument(gradient),
            argument(&mut layers),
            argument(&mut norm),
            argument(&mut clip),
            argument(&mut adam.rate),
            argument(&mut adam.inverse),
            argument(&mut adam.beta1),
            argument(&mut adam.beta2),
            argument(&mut adam.rest1),
            argument(&mut adam.rest2),
            argument(&mut adam.epsilon),
            argument(&mut count),
        ];
        // SAFETY: these are the kernel's parameters, in its order; the tensors hold `count` values at least, f32 but for
        // `layers` in bf16 and the one f64 of `norm`, and are only freed in the order of this stream.
        unsafe { self.kernels.adam.run(self.stream, arguments) }?;
        self.network.refresh_last(&self.weights);
        Ok(())
    }
}

/// Whether the GPU has room for more than the weights: the other tensors of the parameters, those of `micro_batches` in
/// work counted.
///
/// # Errors
/// It has not, with both figures and what to do.
fn check_room(spec: &Spec, micro_batches: usize, sharers: usize) -> Result<()> {
    // Two moments and integers in 4 bytes, layers in 2; of each micro-batch a gradient in 4, and in 2 once more.
    let needed = spec.parameters() * (14 + 6 * micro_batches);
    let free = device::free_memory()? / sharers;
    ensure!(
        needed <= free,
        "the model has {} parameters, whose moments and gradients of {micro_batches} micro-batches take {} MiB; the \
         GPU has {} MiB free for each of the {sharers} ranks on it: raise train.micro_batch towards train.global_batch, \
         choose model.preset: compact or a smaller model.patch, or set train.device: cpu",
        spec.parameters(),
        needed >> 20,
        free >> 20
    );
    Ok(())
}

impl Held {
    fn take(&mut self, lines: Vec<(Lines, Array3<f32>)>, device: Device) {
        let mut first = 0;
        let mut parts: Vec<Tensor> = self.pixels.take().into_iter().collect();
        if let Some(pixels) = parts.first() {
            first = pixels.size()[0];
        }
        for (lines, counts) in lines {
            let (rows, columns, energy) = counts.dim();
            let [pixels, energy] = [rows * columns, energy].map(|n| n as i64);
            let counts = counts.as_standard_layout();
            let values = counts.as_slice().expect("the standard layout is one slice");
            let tensor = Tensor::from_slice(values).view([pixels, energy]);
            parts.push(tensor.to_device(device));
            self.lines.push((lines, first, columns as i64));
            first += pixels;
        }
        self.pixels = Some(Tensor::cat(&parts, 0));
    }

    /// The first pixel of a patch, and the pixels of its cube's lines.
    fn origin(&self, place: &CropOrigin) -> (i64, i64) {
        let here = |(lines, _, _): &&(Lines, i64, i64)| lines.cube == place.cube && lines.rows.contains(&place.y);
        let (lines, first, width) = self.lines.iter().find(here).expect("a lane's lines are held");
        let row = (place.y - lines.rows.start) as i64;
        (first + row * width + place.x as i64, *width)
    }

    /// Patches `[batch, y, x, energy]` of `patch` `[y, x]` pixels, at origins `[2, batch, 1, 1]`.
    fn cut(&self, origins: &Tensor, patch: [usize; 2]) -> Tensor {
        let pixels = self.pixels.as_ref().expect("lines are held");
        let [height, width] = patch.map(|n| n as i64);
        let range = |n: i64| Tensor::arange(n, (Kind::Int64, pixels.device()));
        let rows = range(height).view([height, 1]) * origins.get(1);
        let places = origins.get(0) + rows + range(width);
        pixels.index_select(0, &places.view(-1)).view([origins.size()[1], height, width, pixels.size()[1]])
    }
}

/// The values of a contiguous f32 tensor in host memory.
fn values_of(tensor: &mut Tensor) -> &mut [f32] {
    // SAFETY: as said, and borrowed as the tensor is; what was sent from it before had arrived when its step ended.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, tensor.numel()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    #[test]
    fn patches_are_cut_from_lines_of_any_width() {
        let cube = |rows, columns| Array3::from_shape_fn((rows, columns, 3), |(y, x, e)| (100 * y + 10 * x + e) as f32);
        // Lines 4 to 9 of cube 0, and all of cube 2, which is wider.
        let lines = [(0, 4, cube(6, 5)), (2, 0, cube(4, 8))];
        let mut held = Held::default();
        let held_lines = lines.iter().map(|(cube, first, counts)| {
            let rows = *first..first + counts.dim().0;
            (Lines { cube: *cube, rows }, counts.clone())
        });
        held.take(held_lines.collect(), Device::Cpu);
        let places = [(0, 7, 1), (2, 2, 6), (0, 4, 0), (2, 0, 3)];
        let places = places.map(|(cube, y, x)| CropOrigin { cube, y, x });
        let (starts, widths): (Vec<i64>, Vec<i64>) = places.iter().map(|place| held.origin(place)).unzip();
        let origins = Tensor::from_slice(&[starts, widths].concat()).view([2, 4, 1, 1]);
        let found: Vec<f32> = held.cut(&origins, [2, 2]).view(-1).try_into().unwrap();
        let expected = places.iter().flat_map(|place| {
            let (_, first, counts) = lines.iter().find(|lines| lines.0 == place.cube).unwrap();
            let (y, x) = (place.y - first, place.x);
            let patch = counts.slice(s![y..y + 2, x..x + 2, ..]);
            patch.iter().copied().collect::<Vec<f32>>()
        });
        assert_eq!(found, expected.collect::<Vec<f32>>());
    }
}
