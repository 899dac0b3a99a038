//! What tch does not have of libtorch: cuDNN's switches, CUDA streams, and CUDA graphs, by which the hundreds of kernels
//! of a micro-batch are recorded once and then started as one.
//!
//! `libtorch.cpp` calls the C++, and turns its exceptions into the errors here.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

use anyhow::{Result, bail, ensure};
use tch::Device;

use super::library::Library;

unsafe extern "C" {
    fn coreloss_set_cudnn(deterministic: bool, limit: c_int) -> *const c_char;
    fn coreloss_set_stream(index: c_int, stream: *mut *mut c_void) -> *const c_char;
    fn coreloss_begin_graph(graph: *mut *mut c_void) -> *const c_char;
    fn coreloss_end_graph(graph: *mut c_void) -> *const c_char;
    fn coreloss_replay_graph(graph: *mut c_void) -> *const c_char;
    fn coreloss_delete_graph(graph: *mut c_void) -> *const c_char;
}

/// The error that a function of `libtorch.cpp` has just returned on this thread.
fn check(message: *const c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: it is a C string until this thread calls the next function.
    bail!("libtorch: {}", unsafe { CStr::from_ptr(message) }.to_string_lossy())
}

/// How cuDNN chooses the algorithm of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cudnn {
    /// The fastest of at most so many, each tried once for every shape.
    Benchmark(usize),
    /// The same one every time.
    Deterministic,
}

impl Cudnn {
    /// Sets it for this process. Rank-local.
    ///
    /// # Errors
    /// libtorch's message.
    pub fn set(self) -> Result<()> {
        // SAFETY: any values are allowed.
        check(match self {
            Cudnn::Benchmark(limit) => unsafe { coreloss_set_cudnn(false, limit as c_int) },
            Cudnn::Deterministic => unsafe { coreloss_set_cudnn(true, 0) },
        })
    }
}

thread_local! {
    /// One for all trainings of a process: libtorch keeps freed memory for the stream that used it.
    static CURRENT: Cell<Option<Stream>> = const { Cell::new(None) };
}

/// The stream on which libtorch works for this thread: graphs cannot be recorded on the default one.
#[derive(Clone, Copy)]
pub struct Stream(*mut c_void);

impl Stream {
    /// Takes a stream for this thread, and makes `device` CUDA's current one for all calls that name none. Rank-local.
    ///
    /// # Errors
    /// What CUDA or libtorch says.
    pub fn begin(device: Device) -> Result<Stream> {
        if let Some(current) = CURRENT.get() {
            return Ok(current);
        }
        let index = match device {
            Device::Cuda(index) => index as c_int,
            _ => 0,
        };
        let runtime = Library::open_first(&["libcudart.so.13", "libcudart.so.12"])?;
        // SAFETY: the signature is that of cuda_runtime_api.h.
        let code = unsafe {
            let set: unsafe extern "C" fn(c_int) -> c_int = runtime.symbol(c"cudaSetDevice")?;
            set(index)
        };
        ensure!(code == 0, "GPU {index} cannot be taken: CUDA error {code}");
        let mut stream = Stream(std::ptr::null_mut());
        // SAFETY: the pointer is written while the call lasts.
        check(unsafe { coreloss_set_stream(index, &mut stream.0) })?;
        CURRENT.set(Some(stream));
        Ok(stream)
    }

    /// The `cudaStream_t`.
    pub fn raw(&self) -> *mut c_void {
        self.0
    }
}

/// Recorded work. What it reads and writes stays where it was while recording.
pub struct Graph(*mut c_void);

impl Graph {
    /// Records what `work` starts on this thread's stream, without doing it. Rank-local.
    ///
    /// The same work must have been done before: by then libtorch has chosen its algorithms and made its handles.
    /// # Errors
    /// What CUDA refuses to record, in libtorch's words.
    pub fn record<T>(work: impl FnOnce() -> T) -> Result<(Graph, T)> {
        let mut graph = Graph(std::ptr::null_mut());
        // SAFETY: the pointer is written while the call lasts; what it then points to is deleted with `graph`.
        check(unsafe { coreloss_begin_graph(&mut graph.0) })?;
        let made = work();
        // SAFETY: recording has begun on this thread.
        check(unsafe { coreloss_end_graph(graph.0) })?;
        Ok((graph, made))
    }

    /// Starts the work again. Rank-local.
    ///
    /// # Errors
    /// libtorch's message.
    pub fn replay(&mut self) -> Result<()> {
        // SAFETY: it was recorded; what it works on lives as long as it does.
        check(unsafe { coreloss_replay_graph(self.0) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is this value's own, and not used again. What CUDA says at the end helps nobody.
            unsafe { coreloss_delete_graph(self.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn switches_reach_libtorch_and_what_it_throws_comes_back_as_an_error() {
        Cudnn::Deterministic.set().unwrap();
        Cudnn::Benchmark(10).set().unwrap();
        if Library::open("libcuda.so.1").is_ok() {
            return;
        }
        let mut stream = std::ptr::null_mut();
        // SAFETY: the pointer is written while the call lasts.
        let error = check(unsafe { coreloss_set_stream(0, &mut stream) }).unwrap_err();
        assert!(error.to_string().to_lowercase().contains("cuda"), "{error:#}");
        let error = Graph::record(|| ()).err().unwrap();
        assert!(error.to_string().contains("this libtorch has no _ZN2at4cuda9CUDAGraph"), "{error:#}");
    }

    #[test]
    fn libtorch_has_every_mangled_name() {
        let library = Path::new(env!("LIBTORCH")).join("lib/libtorch_cuda.so");
        if !library.exists() {
            eprintln!("SKIPPED: no libtorch_cuda.so here");
            return;
        }
        let listed = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout);
        let defined: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').nth(2)).collect();
        let names = include_str!("libtorch.cpp").split('"').filter(|text| text.starts_with("_ZN"));
        let names: Vec<&str> = names.collect();
        assert_eq!(names.len(), 5);
        for name in names {
            assert!(defined.contains(&name), "{name}");
        }
    }
}
