//! GPUs: which one a rank works on, the libraries that are found at run time, and sums of gradients between GPUs.
//!
//! The program links libtorch's CPU half only, so that one binary serves machines with and without GPUs. Everything of
//! CUDA is loaded where it and a driver are there.

pub mod device;
mod gradient;
mod kernels;
mod library;
mod libtorch;
mod nccl;

pub use gradient::GpuGradientSum;
pub(crate) use kernels::arguments;
pub use kernels::{Kernel, Kernels};
pub use libtorch::{Cudnn, Graph, Stream};
