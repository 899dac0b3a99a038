//! The allocator's thresholds while the network works: every step of training, every row of tiles frees and asks for the
//! same large blocks again.

/// Blocks up to this stay in the heap, and as much free memory is kept at its top; the most that every glibc takes.
const KEPT: libc::c_int = 32 << 20;

/// Keeps freed memory for the next step until dropped; without it thousands of pages are given back, asked for and zeroed
/// anew, a sixth of a training step's time and a tenth of a reconstruction's.
pub struct KeptHeap(());

impl KeptHeap {
    pub fn new() -> KeptHeap {
        set(&[(libc::M_MMAP_THRESHOLD, KEPT), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_TOP_PAD, KEPT)]);
        KeptHeap(())
    }
}

impl Drop for KeptHeap {
    fn drop(&mut self) {
        // As glibc's own rule would have set them by then, from the blocks that it has seen freed.
        set(&[(libc::M_MMAP_THRESHOLD, KEPT), (libc::M_TRIM_THRESHOLD, 2 * KEPT), (libc::M_TOP_PAD, 128 << 10)]);
    }
}

fn set(parameters: &[(libc::c_int, libc::c_int)]) {
    for &(parameter, value) in parameters {
        // SAFETY: mallopt takes any integers; one that it refuses changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}
