//! Where tensors live: the CPU, or a GPU whose libraries are found at run time.
//!
//! The program links libtorch's CPU half only, so that one binary serves both; the CUDA half is loaded here where it and
//! a driver are there.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use crate::comm::Comm;
use crate::config;
use crate::gpu::library::Library;

/// Keeps libtorch's operators to one thread each: work is spread by micro-batch and tile, so that the number of threads
/// changes no sum. Rank-local; call it before any tensor is made.
pub fn one_thread_per_operator() {
    tch::set_num_threads(1);
}

/// The device of this rank: a GPU of its node where every rank of `comm` has one and it is wanted, else the CPU.
///
/// # Collective
/// # Errors
/// `train.device: cuda` without a GPU, saying what is missing.
pub fn choose(comm: &Comm, wanted: config::Device) -> Result<Device> {
    let (local_rank, _) = comm.local_rank();
    if wanted == config::Device::Cpu {
        return Ok(Device::Cpu);
    }
    let mine = gpu(local_rank).context(
        "train.device: cuda cannot be had; run scripts/setup.sh --cuda on a node with a driver, or leave train.device \
         at auto",
    );
    if wanted == config::Device::Cuda {
        return comm.agree(mine);
    }
    // Ranks sum their gradients in one way.
    let [some, all] = [comm.any(mine.is_ok()), !comm.any(mine.is_err())];
    if some && !all && comm.is_root() {
        log::warn!("some ranks have no GPU, so all train on CPUs; ask for nodes of one kind");
    }
    Ok(mine.ok().filter(|_| all).unwrap_or(Device::Cpu))
}

/// Ranks that share a GPU, on the node where they are most.
///
/// # Collective
pub fn sharers(comm: &Comm, device: Device) -> usize {
    let mine = match (device, gpus()) {
        (Device::Cpu, _) | (_, Err(_)) => 1,
        (_, Ok(count)) => comm.local_rank().1.div_ceil(count),
    };
    comm.max_u64(mine as u64) as usize
}

/// What the network's layers are worked out in.
pub fn kind(precision: config::Precision, device: Device) -> Kind {
    match (precision, device) {
        (config::Precision::F32, _) | (_, Device::Cpu) => Kind::Float,
        (config::Precision::Auto | config::Precision::Bf16, _) => Kind::BFloat16,
    }
}

/// The version of PyTorch whose libtorch `tch` speaks to.
pub const LIBTORCH_VERSION: &str = "2.11.";

/// The GPU that a rank of a node uses; ranks share them in turn.
fn gpu(local_rank: usize) -> Result<Device> {
    Ok(Device::Cuda(local_rank % gpus()?))
}

/// How many GPUs this process sees, at least 1. Rank-local.
///
/// # Errors
/// None, saying what is missing.
pub fn gpus() -> Result<usize> {
    // Without a driver libtorch's CUDA half would load for nothing.
    Library::open("libcuda.so.1")?;
    Library::open("libtorch_cuda.so")?;
    let count = tch::Cuda::device_count();
    if count < 1 {
        bail!("libtorch's CUDA libraries load, but they see no GPU");
    }
    Ok(count as usize)
}

/// Bytes that are free on the GPU that this thread works on. Rank-local.
///
/// # Errors
/// What the driver says.
pub fn free_memory() -> Result<usize> {
    let driver = Library::open("libcuda.so.1")?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: the signature is that of cuda.h, the places are ours.
    let code = unsafe {
        let info: unsafe extern "C" fn(*mut usize, *mut usize) -> i32 = driver.symbol(c"cuMemGetInfo_v2")?;
        info(&mut free, &mut total)
    };
    ensure!(code == 0, "the GPU's driver answers {code} when asked for its free memory");
    Ok(free)
}

/// How cuDNN chooses among its ways to work out a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The fastest of so many, tried once for each shape.
    Tried(usize),
    /// The same ones every time.
    Deterministic,
}

impl Choice {
    /// Makes it so for this process. Rank-local.
    ///
    /// # Errors
    /// A libtorch without the switches.
    pub fn set(self) -> Result<()> {
        tch::Cuda::cudnn_set_benchmark(self != Choice::Deterministic);
        let libtorch = Library::open("libtorch_cpu.so")?;
        // tch has no way to these. SAFETY: the names are those of `at::globalContext()`, which answers a reference to a
        // static, and of `setDeterministicCuDNN(bool)` and `setBenchmarkLimitCuDNN(int)` of `at::Context`.
        unsafe {
            let context: unsafe extern "C" fn() -> *mut libc::c_void = libtorch.symbol(c"_ZN2at13globalContextEv")?;
            let set: unsafe extern "C" fn(*mut libc::c_void, bool) =
                libtorch.symbol(c"_ZN2at7Context21setDeterministicCuDNNEb")?;
            let limit: unsafe extern "C" fn(*mut libc::c_void, libc::c_int) =
                libtorch.symbol(c"_ZN2at7Context22setBenchmarkLimitCuDNNEi")?;
            set(context(), self == Choice::Deterministic);
            if let Choice::Tried(tries) = self {
                limit(context(), tries as libc::c_int);
            }
        }
        Ok(())
    }
}

/// FLOP/s of matrix products of `kind` on this thread, or its GPU: what its layers can reach at best. Rank-local.
pub fn matrix_product_rate(device: Device, kind: Kind) -> f64 {
    let size = match device {
        Device::Cpu => 768,
        _ => 8192,
    };
    let [a, b] = [0, 1].map(|_| Tensor::rand([size, size], (Kind::Float, device)).to_kind(kind));
    let seconds = |_| {
        let begun = Instant::now();
        // Reading a value waits for the device.
        a.matmul(&b).to_kind(Kind::Float).get(0).get(0).double_value(&[]);
        begun.elapsed().as_secs_f64()
    };
    // The first product only wakes the library up; the fastest is the one least disturbed.
    let fastest = (0..24).map(seconds).skip(1).fold(f64::INFINITY, f64::min);
    2.0 * (size as f64).powi(3) / fastest
}
