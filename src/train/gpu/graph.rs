//! CUDA graphs: what a micro-batch starts on the GPU, hundreds of kernels, recorded once and then started as one.
//!
//! tch knows neither streams nor graphs. libtorch's own are called here by the names that its C++ has in PyTorch 2.11, the
//! one version that tch 0.24 links.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use anyhow::{Result, ensure};
use tch::Device;

use crate::gpu::library::Library;

/// `c10::cuda::CUDAStream`.
#[derive(Clone, Copy)]
#[repr(C)]
struct CudaStream {
    device: [i8; 8],
    id: i64,
}

thread_local! {
    /// One for all trainings of a process: libtorch keeps memory that it frees for the stream that had it.
    static BEGUN: Cell<Option<Stream>> = const { Cell::new(None) };
}

/// The stream on which libtorch works for this thread from now on: graphs cannot be recorded on the default one.
#[derive(Clone, Copy)]
pub struct Stream(*mut c_void);

impl Stream {
    /// Makes `device` CUDA's current one for this thread too, for all that takes no device. Rank-local.
    ///
    /// # Errors
    /// Another libtorch, or what CUDA says.
    pub fn begin(device: Device) -> Result<Stream> {
        if let Some(begun) = BEGUN.get() {
            return Ok(begun);
        }
        let index = match device {
            Device::Cuda(index) => index,
            _ => 0,
        };
        let runtime = Library::open_first(&["libcudart.so.13", "libcudart.so.12"])?;
        // SAFETY: the signature is that of cuda_runtime_api.h.
        let answer = unsafe {
            let set: unsafe extern "C" fn(c_int) -> c_int = runtime.symbol(c"cudaSetDevice")?;
            set(index as c_int)
        };
        ensure!(answer == 0, "GPU {index} cannot be taken: CUDA error {answer}");
        let library = Library::open("libc10_cuda.so")?;
        // SAFETY: `c10::cuda::getStreamFromPool(bool, DeviceIndex)`, `setCurrentCUDAStream(CUDAStream)` and
        // `CUDAStream::stream() const`; the class is 16 bytes that are copied as they are.
        unsafe {
            let take: unsafe extern "C" fn(bool, i8) -> CudaStream =
                library.symbol(c"_ZN3c104cuda17getStreamFromPoolEba")?;
            let set: unsafe extern "C" fn(CudaStream) =
                library.symbol(c"_ZN3c104cuda20setCurrentCUDAStreamENS0_10CUDAStreamE")?;
            let raw: unsafe extern "C" fn(*const CudaStream) -> *mut c_void =
                library.symbol(c"_ZNK3c104cuda10CUDAStream6streamEv")?;
            let stream = take(false, index as i8);
            set(stream);
            let begun = Stream(raw(&stream));
            BEGUN.set(Some(begun));
            Ok(begun)
        }
    }

    /// The `cudaStream_t`.
    pub fn raw(&self) -> *mut c_void {
        self.0
    }
}

/// `at::cuda::CUDAGraph`, which is smaller than this.
type Object = [u64; 128];

/// Recorded work. What it reads and writes stays where it was while recording.
pub struct Graph {
    object: Box<Object>,
    replay: unsafe extern "C" fn(*mut Object),
    destroy: unsafe extern "C" fn(*mut Object),
}

impl Graph {
    /// Records what `work` starts on this thread's stream, without doing it. Rank-local.
    ///
    /// The same work was done before, so that libtorch has found its ways and made its handles. What CUDA refuses to
    /// record ends the process, with libtorch's words: its exceptions do not pass through Rust.
    /// # Errors
    /// Another libtorch.
    pub fn record<T>(work: impl FnOnce() -> T) -> Result<(Graph, T)> {
        let library = Library::open("libtorch_cuda.so")?;
        let mut object = Box::new([0; 128]);
        // SAFETY: the constructor, destructor and methods of `at::cuda::CUDAGraph`, in memory that is large and aligned
        // enough and does not move; `begin` takes a pair of integers, {0, 0} for a pool of its own, and
        // cudaStreamCaptureModeThreadLocal: other threads may do as they like meanwhile.
        unsafe {
            let create: unsafe extern "C" fn(*mut Object, bool) = library.symbol(c"_ZN2at4cuda9CUDAGraphC1Eb")?;
            let begin: unsafe extern "C" fn(*mut Object, [u64; 2], c_int) =
                library.symbol(c"_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode")?;
            let end: unsafe extern "C" fn(*mut Object) = library.symbol(c"_ZN2at4cuda9CUDAGraph11capture_endEv")?;
            let replay = library.symbol(c"_ZN2at4cuda9CUDAGraph6replayEv")?;
            let destroy = library.symbol(c"_ZN2at4cuda9CUDAGraphD1Ev")?;
            create(&mut *object, false);
            begin(&mut *object, [0, 0], 1);
            let made = work();
            end(&mut *object);
            let graph = Graph { object, replay, destroy };
            Ok((graph, made))
        }
    }

    /// Starts the work again.
    pub fn replay(&mut self) {
        // SAFETY: the object was recorded; what it works on lives as long as it does.
        unsafe { (self.replay)(&mut *self.object) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the object was made, and is not used again.
        unsafe { (self.destroy)(&mut *self.object) }
    }
}
