//! Where tensors live: the CPU, or a GPU whose libraries are found at run time.
//!
//! The program links libtorch's CPU half only, so that one binary serves both; the CUDA half is loaded here where it and
//! a driver are there.

use std::ffi::{CStr, CString};
use std::time::Instant;

use anyhow::{bail, Result};
use tch::{Device, Kind, Tensor};

use crate::comm::Comm;
use crate::config;

/// Keeps libtorch's operators to one thread each: work is spread by micro-batch and tile, so that the number of threads
/// changes no sum. Rank-local; call it before any tensor is made.
pub fn one_thread_per_operator() {
    tch::set_num_threads(1);
}

/// The device of this rank: a GPU of its node where there is one and it is wanted, else the CPU.
///
/// # Collective
/// # Errors
/// `train.device: cuda` without a GPU, saying what is missing.
pub fn choose(comm: &Comm, wanted: config::Device) -> Result<Device> {
    let (local_rank, _) = comm.local_rank();
    comm.agree(match wanted {
        config::Device::Cpu => Ok(Device::Cpu),
        config::Device::Auto => Ok(gpu(local_rank).unwrap_or(Device::Cpu)),
        config::Device::Cuda => gpu(local_rank).map_err(|error| {
            error.context(
                "train.device: cuda cannot be had; run scripts/setup.sh --cuda on a node with a driver, or leave \
                 train.device at auto",
            )
        }),
    })
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
    load("libcuda.so.1")?;
    load("libtorch_cuda.so")?;
    let count = tch::Cuda::device_count();
    if count < 1 {
        bail!("libtorch's CUDA libraries load, but they see no GPU");
    }
    Ok(count as usize)
}

/// FLOP/s of f32 matrix products on this thread: what its layers can reach at best. Rank-local.
pub fn matrix_product_rate() -> f64 {
    const SIZE: i64 = 768;
    let [a, b] = [0, 1].map(|_| Tensor::rand([SIZE, SIZE], (Kind::Float, Device::Cpu)));
    let seconds = |_| {
        let begun = Instant::now();
        let _product = a.matmul(&b);
        begun.elapsed().as_secs_f64()
    };
    // The first product only wakes the library up; the fastest is the one least disturbed.
    let fastest = (0..24).map(seconds).skip(1).fold(f64::INFINITY, f64::min);
    2.0 * (SIZE as f64).powi(3) / fastest
}

/// Loads a shared library for good, with its symbols open to all: libtorch registers its CUDA half on load.
fn load(name: &str) -> Result<()> {
    let file = CString::new(name).expect("a library's name holds no zero");
    // SAFETY: the name is a C string; the libraries' initialisers are those that PyTorch itself runs on import.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        // SAFETY: dlopen has just failed on this thread, so dlerror answers a C string.
        let reason = unsafe { CStr::from_ptr(libc::dlerror()) };
        bail!("{name} does not load: {}", reason.to_string_lossy());
    }
    Ok(())
}
