//! The sum of the micro-batches' gradients over GPUs, in the integers of [`GradientSum`](crate::comm::GradientSum).

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use crate::comm::{Comm, Nccl, Operation, Values};
use crate::config::Backend;
use crate::gpu::device;

use super::graph::Stream;
use super::kernel::{Kernels, argument};

/// Parameters that share a scale.
const SCALED: i64 = 1024;
/// Values that cross the host at once.
const PIECE: i64 = 1 << 22;

/// How values get from one rank's GPU to the others.
enum Way {
    /// There is one rank.
    None,
    Nccl(Nccl),
    /// Over host memory that the driver has pinned, `[2, PIECE]` of 32 bits: this rank's, and what all have.
    Mpi(Tensor),
}

/// Sums of one gradient vector.
pub struct GpuSum {
    micro_batches: usize,
    device: Device,
    stream: Stream,
    kernels: Rc<Kernels>,
    way: Way,
    /// Of exact sums, empty until one is asked for: `[padded]`.
    integers: Option<Tensor>,
}

impl GpuSum {
    /// For gradients formed in `micro_batches` per step over all ranks.
    ///
    /// # Collective
    /// # Errors
    /// `nccl` is asked for and cannot be had.
    pub fn new(
        comm: &Comm,
        backend: Backend,
        device: Device,
        stream: Stream,
        kernels: Rc<Kernels>,
        micro_batches: usize,
    ) -> Result<GpuSum> {
        let sharers = device::sharers(comm, device);
        let staged = || {
            let host = Tensor::empty([2, PIECE], (Kind::Int, Device::Cpu));
            Way::Mpi(host.pin_memory(device))
        };
        let way = match backend {
            Backend::Nccl if sharers > 1 => bail!(
                "comm.backend: nccl needs a GPU for each rank, and {sharers} ranks share one: start fewer ranks on a \
                 node, ask for more GPUs, or leave comm.backend at auto"
            ),
            Backend::Nccl => Way::Nccl(Nccl::new(comm).context(
                "comm.backend: nccl cannot be had; it comes with scripts/setup.sh --cuda, or leave comm.backend at auto",
            )?),
            _ if comm.size() == 1 => Way::None,
            Backend::Auto if sharers == 1 => match Nccl::new(comm) {
                Ok(nccl) => Way::Nccl(nccl),
                Err(error) => {
                    if comm.is_root() {
                        log::warn!("gradients go over the hosts: {error:#}");
                    }
                    staged()
                }
            },
            _ => staged(),
        };
        if comm.is_root() {
            let way = match way {
                Way::None => "none, one rank",
                Way::Nccl(_) => "nccl",
                Way::Mpi(_) => "mpi",
            };
            log::info!("gradients_between_gpus={way}");
        }
        Ok(GpuSum { micro_batches, device, stream, kernels, way, integers: None })
    }

    /// Values of a gradient of `parameters`, in whole blocks.
    pub fn padded(parameters: i64) -> i64 {
        (parameters + SCALED - 1) / SCALED * SCALED
    }

    /// The sum over all ranks' micro-batches `local` `[padded]`, the same for any number of ranks; a rank may have none.
    ///
    /// A value that is not finite makes its whole block NaN, on every rank. The first of `local` may be overwritten.
    ///
    /// # Collective
    /// # Errors
    /// What driver or NCCL says.
    pub fn exact(&mut self, comm: &Comm, local: &[Tensor], parameters: i64) -> Result<Tensor> {
        if self.micro_batches == 1 {
            // All others add zeros.
            return self.fast(comm, local, parameters);
        }
        let padded = GpuSum::padded(parameters);
        let zeros = |count| Tensor::zeros([count], (Kind::Int, self.device));
        let integers = self.integers.get_or_insert_with(|| zeros(padded));
        let mut integers = integers.shallow_clone();
        let _ = integers.zero_();
        // As integers, since floats that are not negative are ordered as their bits are.
        let largest = zeros(padded / SCALED);
        let (mut blocks, mut micro_batches) = (padded / SCALED, self.micro_batches as i32);
        let [mut scales, mut sums] = [&largest, &integers].map(Tensor::data_ptr);
        for gradient in local {
            let mut values = gradient.data_ptr();
            let arguments = [argument(&mut values), argument(&mut scales), argument(&mut blocks)];
            // SAFETY: the kernel's parameters in its order; the tensors hold `blocks` blocks, and one value for each.
            unsafe { self.kernels.largest_of.run(self.stream, arguments) }?;
        }
        self.over_ranks(comm, &largest.view_dtype(Kind::Float), Operation::Max)?;
        for gradient in local {
            let mut values = gradient.data_ptr();
            let arguments = [
                argument(&mut values),
                argument(&mut scales),
                argument(&mut micro_batches),
                argument(&mut sums),
                argument(&mut blocks),
            ];
            // SAFETY: as above.
            unsafe { self.kernels.add_rounded.run(self.stream, arguments) }?;
        }
        self.over_ranks(comm, &integers, Operation::Sum)?;
        let total = self.mine(local, padded);
        let mut values = total.data_ptr();
        let arguments = [
            argument(&mut sums),
            argument(&mut scales),
            argument(&mut micro_batches),
            argument(&mut values),
            argument(&mut blocks),
        ];
        // SAFETY: as above.
        unsafe { self.kernels.scale_back.run(self.stream, arguments) }?;
        Ok(total)
    }

    /// As [`exact`](Self::exact), adding floats: the last bits depend on the number of ranks.
    ///
    /// # Collective
    /// # Errors
    /// What NCCL says.
    pub fn fast(&mut self, comm: &Comm, local: &[Tensor], parameters: i64) -> Result<Tensor> {
        let mut total = self.mine(local, GpuSum::padded(parameters));
        for other in local.iter().skip(1) {
            let _ = total.g_add_(other);
        }
        self.over_ranks(comm, &total, Operation::Sum)?;
        Ok(total)
    }

    /// This rank's first gradient, or zeros.
    fn mine(&self, local: &[Tensor], padded: i64) -> Tensor {
        match local.first() {
            Some(first) => first.shallow_clone(),
            None => Tensor::zeros([padded], (Kind::Float, self.device)),
        }
    }

    /// Reduces contiguous `values` of 32 bits over ranks, in place.
    ///
    /// # Collective
    /// # Errors
    /// What NCCL says.
    fn over_ranks(&self, comm: &Comm, values: &Tensor, operation: Operation) -> Result<()> {
        let integers = values.kind() == Kind::Int;
        match &self.way {
            Way::None => {}
            Way::Nccl(nccl) => {
                let kind = if integers { Values::Int32 } else { Values::Float32 };
                let _waiting = comm.waiting("gradient");
                let (data, count) = (values.data_ptr(), values.numel());
                // SAFETY: the tensor is contiguous, of that kind and on this rank's GPU.
                unsafe { nccl.all_reduce(data, count, kind, operation, self.stream.raw()) }?;
            }
            Way::Mpi(host) => {
                let host = host.view_dtype(values.kind());
                let count = values.size()[0];
                for start in (0..count).step_by(PIECE as usize) {
                    let length = PIECE.min(count - start);
                    let [mut mine, all] = [0, 1].map(|row| host.get(row).narrow(0, 0, length));
                    mine.copy_(&values.narrow(0, start, length));
                    let (mine, sum) = (mine.data_ptr(), all.data_ptr());
                    // SAFETY: `length` values of that kind each, in host memory that nothing else uses; the copy has
                    // arrived.
                    unsafe {
                        if integers {
                            comm.sum_i32(slice(mine, length), slice(sum, length));
                        } else if operation == Operation::Max {
                            comm.max_f32(slice(mine, length), slice(sum, length));
                        } else {
                            comm.sum_f32(slice(mine, length), slice(sum, length));
                        }
                    }
                    values.narrow(0, start, length).copy_(&all);
                }
            }
        }
        Ok(())
    }
}

/// # Safety
/// `data` are `length` values of `T` that nothing else uses meanwhile.
unsafe fn slice<'a, T>(data: *mut std::ffi::c_void, length: i64) -> &'a mut [T] {
    // SAFETY: by the caller.
    unsafe { std::slice::from_raw_parts_mut(data.cast(), length as usize) }
}
