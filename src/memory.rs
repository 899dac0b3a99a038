//! Memory of this process: its peak, and what the allocator keeps between the steps of a network.

use std::fs;

/// Blocks up to this size stay in the heap, and as much free memory is kept at its top; the largest value that every
/// glibc accepts.
const KEPT: libc::c_int = 32 << 20;

/// What a rank holds beside cubes and model, about: libtorch, HDF5, MPI.
pub const LIBRARIES_MIB: u64 = 300;

/// Has the allocator keep freed memory until dropped. Every step of a training and every row of tiles frees and asks for the
/// same large blocks: without this, page faults take a sixth of a training step and a tenth of a reconstruction.
pub struct KeptHeap(());

impl KeptHeap {
    /// Changes the allocator's settings until dropped. Rank-local.
    pub fn new() -> KeptHeap {
        set(&[(libc::M_MMAP_THRESHOLD, KEPT), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_TOP_PAD, KEPT)]);
        KeptHeap(())
    }
}

impl Drop for KeptHeap {
    fn drop(&mut self) {
        // The values that glibc's own rule would have reached by now, from the blocks that it has seen freed.
        set(&[(libc::M_MMAP_THRESHOLD, KEPT), (libc::M_TRIM_THRESHOLD, 2 * KEPT), (libc::M_TOP_PAD, 128 << 10)]);
    }
}

fn set(parameters: &[(libc::c_int, libc::c_int)]) {
    for &(parameter, value) in parameters {
        // SAFETY: mallopt takes any integers; one that it refuses changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives freed memory back to the system, so that memory of the training is not kept while scoring. Rank-local.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions and touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Peak memory of this process, MiB; 0 where the system does not say. Rank-local.
pub fn peak_rss_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
