//! The sum of the micro-batches' gradients over GPUs, in the same integers as on CPUs
//! ([`GradientSum`](crate::comm::GradientSum)).

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use super::device;
use super::kernels::{Kernels, arguments};
use super::libtorch::Stream;
use super::nccl::{DataType, Nccl, ReduceOp};
use crate::comm::{Comm, PER_SCALE};
use crate::config::Backend;

/// Values that pass through the host at once.
const PIECE: i64 = 1 << 22;

/// How values get from one rank's GPU to the others.
enum Transport {
    /// There is one rank.
    None,
    Nccl(Nccl),
    /// Through host memory that the driver has pinned, `[2, PIECE]` of 32 bits: this rank's values, and the reduced ones.
    Mpi(Tensor),
}

/// Sums gradient vectors over ranks that work on GPUs.
pub struct GpuGradientSum {
    micro_batches: usize,
    device: Device,
    stream: Stream,
    kernels: Rc<Kernels>,
    transport: Transport,
    /// For exact sums, allocated at the first: `[padded]`.
    integers: Option<Tensor>,
}

impl GpuGradientSum {
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
    ) -> Result<GpuGradientSum> {
        let sharers = device::ranks_per_gpu(comm, device);
        let over_hosts = || Transport::Mpi(Tensor::empty([2, PIECE], (Kind::Int, Device::Cpu)).pin_memory(device));
        let transport = match backend {
            Backend::Nccl if sharers > 1 => bail!(
                "comm.backend: nccl needs a GPU for each rank, and {sharers} ranks share one: start fewer ranks on a \
                 node, ask for more GPUs, or leave comm.backend at auto"
            ),
            Backend::Nccl => Transport::Nccl(Nccl::new(comm).context(
                "comm.backend: nccl cannot be had; it comes with scripts/setup.sh --cuda, or leave comm.backend at auto",
            )?),
            _ if comm.size() == 1 => Transport::None,
            Backend::Auto if sharers == 1 => match Nccl::new(comm) {
                Ok(nccl) => Transport::Nccl(nccl),
                Err(error) => {
                    if comm.is_root() {
                        log::warn!("gradients go over the hosts: {error:#}");
                    }
                    over_hosts()
                }
            },
            _ => over_hosts(),
        };
        if comm.is_root() {
            let transport = match transport {
                Transport::None => "none, one rank",
                Transport::Nccl(_) => "nccl",
                Transport::Mpi(_) => "mpi",
            };
            log::info!("gradients_between_gpus={transport}");
        }
        Ok(GpuGradientSum { micro_batches, device, stream, kernels, transport, integers: None })
    }

    /// The length of a gradient of `parameters`, rounded up to whole blocks of one scale.
    pub fn padded(parameters: i64) -> i64 {
        (parameters as usize).next_multiple_of(PER_SCALE) as i64
    }

    /// The sum over all ranks' micro-batches `local` `[padded]`, the same for any number of ranks; a rank may have none.
    ///
    /// A value that is not finite makes its whole block NaN, on every rank. The first of `local` may be overwritten.
    ///
    /// # Collective
    /// # Errors
    /// What the driver or NCCL says.
    pub fn exact(&mut self, comm: &Comm, local: &[Tensor], parameters: i64) -> Result<Tensor> {
        if self.micro_batches == 1 {
            // All others add zeros.
            return self.fast(comm, local, parameters);
        }
        let padded = GpuGradientSum::padded(parameters);
        let zeros = |count| Tensor::zeros([count], (Kind::Int, self.device));
        let integers = self.integers.get_or_insert_with(|| zeros(padded));
        let mut integers = integers.shallow_clone();
        let _ = integers.zero_();
        let mut blocks = padded / PER_SCALE as i64;
        // As integers: floats that are not negative are ordered as their bits are.
        let largest = zeros(blocks);
        let mut micro_batches = self.micro_batches as i32;
        let [mut scales, mut sums] = [&largest, &integers].map(Tensor::data_ptr);
        for gradient in local {
            let mut values = gradient.data_ptr();
            let arguments = arguments![values, scales, blocks];
            // SAFETY: the kernel's parameters in its order; the tensors hold `blocks` blocks, and one value for each.
            unsafe { self.kernels.largest_of.run(self.stream, arguments) }?;
        }
        self.all_reduce(comm, &largest.view_dtype(Kind::Float), ReduceOp::Max)?;
        for gradient in local {
            let mut values = gradient.data_ptr();
            let arguments = arguments![values, scales, micro_batches, sums, blocks];
            // SAFETY: as above.
            unsafe { self.kernels.add_rounded.run(self.stream, arguments) }?;
        }
        self.all_reduce(comm, &integers, ReduceOp::Sum)?;
        let total = self.first_or_zeros(local, padded);
        let mut values = total.data_ptr();
        let arguments = arguments![sums, scales, micro_batches, values, blocks];
        // SAFETY: as above.
        unsafe { self.kernels.scale_back.run(self.stream, arguments) }?;
        Ok(total)
    }

    /// As [`exact`](Self::exact), but adds floats: the last bits depend on the number of ranks.
    ///
    /// # Collective
    /// # Errors
    /// What NCCL says.
    pub fn fast(&mut self, comm: &Comm, local: &[Tensor], parameters: i64) -> Result<Tensor> {
        let mut total = self.first_or_zeros(local, GpuGradientSum::padded(parameters));
        for other in local.iter().skip(1) {
            let _ = total.g_add_(other);
        }
        self.all_reduce(comm, &total, ReduceOp::Sum)?;
        Ok(total)
    }

    /// This rank's first gradient, or zeros.
    fn first_or_zeros(&self, local: &[Tensor], padded: i64) -> Tensor {
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
    fn all_reduce(&self, comm: &Comm, values: &Tensor, op: ReduceOp) -> Result<()> {
        let integers = values.kind() == Kind::Int;
        match &self.transport {
            Transport::None => {}
            Transport::Nccl(nccl) => {
                let kind = if integers { DataType::Int32 } else { DataType::Float32 };
                let _waiting = comm.waiting("gradient");
                // SAFETY: the tensor is contiguous, of that kind and on this rank's GPU.
                unsafe { nccl.all_reduce(values.data_ptr(), values.numel(), kind, op, self.stream) }?;
            }
            Transport::Mpi(host) => {
                let host = host.view_dtype(values.kind());
                let count = values.size()[0];
                for start in (0..count).step_by(PIECE as usize) {
                    let length = PIECE.min(count - start);
                    let piece = || values.narrow(0, start, length);
                    let [mut mine, reduced] = [0, 1].map(|row| host.get(row).narrow(0, 0, length));
                    mine.copy_(&piece());
                    let (from, to) = (mine.data_ptr(), reduced.data_ptr());
                    // SAFETY: `length` values of that kind each, in host memory that nothing else uses; the copy has
                    // arrived.
                    unsafe {
                        match op {
                            _ if integers => comm.sum_i32(slice(from, length), slice(to, length)),
                            ReduceOp::Max => comm.max_f32(slice(from, length), slice(to, length)),
                            ReduceOp::Sum => comm.sum_f32(slice(from, length), slice(to, length)),
                        }
                    }
                    piece().copy_(&reduced);
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
