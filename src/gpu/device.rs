//! The device that a rank works on, with its free memory and its speed.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use super::library::Library;
use crate::comm::Comm;
use crate::config;

/// Keeps each of libtorch's operators on one thread: micro-batches and tiles run side by side instead, so that the number
/// of threads changes no sum. Rank-local; call it before any tensor is made.
pub fn one_thread_per_operator() {
    tch::set_num_threads(1);
}

/// The device of this rank: a GPU of its node where one is wanted and every rank of `comm` has one, else the CPU.
///
/// # Collective
/// # Errors
/// `train.device: cuda` without a GPU, saying what is missing.
pub fn choose(comm: &Comm, wanted: config::Device) -> Result<Device> {
    if wanted == config::Device::Cpu {
        return Ok(Device::Cpu);
    }
    let mine = gpu(comm.local_rank()).context(
        "train.device: cuda cannot be had; run scripts/setup.sh --cuda on a node with a driver, or leave train.device \
         at auto",
    );
    if wanted == config::Device::Cuda {
        return comm.agree(mine);
    }
    // All ranks sum their gradients in the same way.
    let [some, all] = [comm.any(mine.is_ok()), !comm.any(mine.is_err())];
    if some && !all && comm.is_root() {
        log::warn!("some ranks have no GPU, so all train on CPUs; ask for nodes of one kind");
    }
    Ok(mine.ok().filter(|_| all).unwrap_or(Device::Cpu))
}

/// How many ranks share a GPU, on the node where most do; 1 on CPUs.
///
/// # Collective
pub fn ranks_per_gpu(comm: &Comm, device: Device) -> usize {
    let mine = match (device, gpus()) {
        (Device::Cpu, _) | (_, Err(_)) => 1,
        (_, Ok(count)) => comm.local_size().div_ceil(count),
    };
    comm.max_u64(mine as u64) as usize
}

/// The type in which the network's layers are computed.
pub fn layer_kind(precision: config::Precision, device: Device) -> Kind {
    match (precision, device) {
        (config::Precision::F32, _) | (_, Device::Cpu) => Kind::Float,
        (config::Precision::Auto | config::Precision::Bf16, _) => Kind::BFloat16,
    }
}

/// The version of PyTorch that `tch` is made for.
pub const LIBTORCH_VERSION: &str = "2.11.";

/// The GPU of a rank: those of a node are dealt out to its ranks in turn.
fn gpu(local_rank: usize) -> Result<Device> {
    Ok(Device::Cuda(local_rank % gpus()?))
}

/// How many GPUs this process sees, at least 1. Rank-local.
///
/// # Errors
/// There is none; the message says what is missing.
pub fn gpus() -> Result<usize> {
    // Without a driver, loading libtorch's CUDA half would be in vain.
    Library::open("libcuda.so.1")?;
    Library::open("libtorch_cuda.so")?;
    let count = tch::Cuda::device_count();
    if count < 1 {
        bail!("libtorch's CUDA libraries load, but they see no GPU");
    }
    Ok(count as usize)
}

/// Free memory of the GPU that this thread works on, bytes. Rank-local.
///
/// # Errors
/// The driver's error code.
pub fn free_memory() -> Result<usize> {
    let driver = Library::open("libcuda.so.1")?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: the signature is that of cuda.h; the call writes two local values.
    let code = unsafe {
        let info: unsafe extern "C" fn(*mut usize, *mut usize) -> i32 = driver.symbol(c"cuMemGetInfo_v2")?;
        info(&mut free, &mut total)
    };
    ensure!(code == 0, "the GPU's driver answers {code} when asked for its free memory");
    Ok(free)
}

/// FLOP/s of matrix products of `kind` on this thread or its GPU: an upper bound for the layers. Rank-local.
pub fn matrix_product_rate(device: Device, kind: Kind) -> f64 {
    let size = match device {
        Device::Cpu => 768,
        _ => 8192,
    };
    let [a, b] = [0, 1].map(|_| Tensor::rand([size, size], (Kind::Float, device)).to_kind(kind));
    let seconds = |_| {
        let start = Instant::now();
        // Reading a value waits for the device.
        a.matmul(&b).to_kind(Kind::Float).get(0).get(0).double_value(&[]);
        start.elapsed().as_secs_f64()
    };
    // The first product includes the library's start; the fastest is the one least disturbed.
    let fastest = (0..24).map(seconds).skip(1).fold(f64::INFINITY, f64::min);
    2.0 * (size as f64).powi(3) / fastest
}
