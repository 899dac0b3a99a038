//! GPUs: which device a rank works on, and the libraries that are found at run time.

pub mod device;
pub mod library;
