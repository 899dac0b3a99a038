//! The CUDA kernels of `kernels.cu`, compiled where they run by NVRTC, the compiler that comes with PyTorch's CUDA half.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};

use anyhow::{Context, Result, ensure};

use super::library::Library;
use super::libtorch::Stream;

const SOURCE: &str = include_str!("kernels.cu");
/// The oldest GPUs that CUDA 13 serves; the driver translates it for its own GPU.
const ARCHITECTURE: &CStr = c"--gpu-architecture=compute_75";
/// Enough to fill every GPU: the kernels stride over what is left.
const BLOCKS: c_uint = 4096;
const THREADS: c_uint = 256;

/// The kernels, loaded on the GPU that this thread works on.
pub struct Kernels {
    pub adam: Kernel,
    pub largest_of: Kernel,
    pub add_rounded: Kernel,
    pub scale_back: Kernel,
}

impl Kernels {
    /// Rank-local.
    ///
    /// # Errors
    /// No compiler, or what it or the driver says.
    pub fn new() -> Result<Kernels> {
        let code = compile(SOURCE)?;
        let driver = Library::open("libcuda.so.1")?;
        let mut module = null_mut();
        // SAFETY: the signature is that of cuda.h; the code ends with a zero, the module is never unloaded.
        let answer = unsafe {
            let load: unsafe extern "C" fn(*mut *mut c_void, *const c_char) -> c_int =
                driver.symbol(c"cuModuleLoadData")?;
            load(&mut module, code.as_ptr().cast())
        };
        ensure!(answer == 0, "the GPU's driver refuses the kernels: CUDA error {answer}");
        let kernel = |name| Kernel::find(&driver, module, name);
        Ok(Kernels {
            adam: kernel(c"adam")?,
            largest_of: kernel(c"largest_of")?,
            add_rounded: kernel(c"add_rounded")?,
            scale_back: kernel(c"scale_back")?,
        })
    }
}

/// A function on the GPU.
pub struct Kernel {
    function: *mut c_void,
    launch: Launch,
}

/// `cuLaunchKernel`: the function, blocks and threads in three dimensions each, shared memory, stream, arguments, more.
type Launch = unsafe extern "C" fn(
    *mut c_void,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_int;

impl Kernel {
    fn find(driver: &Library, module: *mut c_void, name: &CStr) -> Result<Kernel> {
        let mut function = null_mut();
        // SAFETY: the signatures are those of cuda.h, the module is loaded.
        unsafe {
            let find: unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_int =
                driver.symbol(c"cuModuleGetFunction")?;
            let answer = find(&mut function, module, name.as_ptr());
            ensure!(answer == 0, "no kernel {}: CUDA error {answer}", name.to_string_lossy());
            Ok(Kernel { function, launch: driver.symbol(c"cuLaunchKernel")? })
        }
    }

    /// Starts the function on `stream`, after the work that is on it already.
    ///
    /// # Errors
    /// The driver's error code.
    /// # Safety
    /// `arguments` point to values of the function's own parameters, in its order; memory that they name lives until the
    /// stream is through.
    pub unsafe fn run<const N: usize>(&self, stream: Stream, mut arguments: [*mut c_void; N]) -> Result<()> {
        let (stream, list) = (stream.raw(), arguments.as_mut_ptr());
        // SAFETY: by the caller.
        let answer = unsafe { (self.launch)(self.function, BLOCKS, 1, 1, THREADS, 1, 1, 0, stream, list, null_mut()) };
        ensure!(answer == 0, "a kernel does not start: CUDA error {answer}");
        Ok(())
    }
}

/// The addresses of the variables that a kernel takes as its arguments.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { [$((&raw mut $value).cast::<std::ffi::c_void>()),*] };
}
pub(crate) use arguments;

/// The PTX of CUDA C, with a zero at its end.
fn compile(source: &str) -> Result<Vec<u8>> {
    type Program = *mut c_void;
    type Texts = *const *const c_char;
    let compiler = Library::open_first(&["libnvrtc.so.13", "libnvrtc.so.12"]).context(
        "a GPU takes CUDA's compiler NVRTC, which comes with scripts/setup.sh --cuda; or set train.device: cpu",
    )?;
    let source = CString::new(source)?;
    // SAFETY: the signatures are those of nvrtc.h; all that is pointed to outlives the calls.
    unsafe {
        let create: unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Texts, Texts) -> c_int =
            compiler.symbol(c"nvrtcCreateProgram")?;
        let compile: unsafe extern "C" fn(Program, c_int, Texts) -> c_int = compiler.symbol(c"nvrtcCompileProgram")?;
        let size: unsafe extern "C" fn(Program, *mut usize) -> c_int = compiler.symbol(c"nvrtcGetPTXSize")?;
        let get: unsafe extern "C" fn(Program, *mut c_char) -> c_int = compiler.symbol(c"nvrtcGetPTX")?;
        let destroy: unsafe extern "C" fn(*mut Program) -> c_int = compiler.symbol(c"nvrtcDestroyProgram")?;
        let mut program = null_mut();
        let answer = create(&mut program, source.as_ptr(), c"coreloss".as_ptr(), 0, null(), null());
        ensure!(answer == 0, "NVRTC takes no program: error {answer}");
        let options = [ARCHITECTURE.as_ptr()];
        let answer = compile(program, options.len() as c_int, options.as_ptr());
        ensure!(answer == 0, "NVRTC does not compile a kernel: error {answer}");
        let mut length = 0;
        size(program, &mut length);
        let mut code = vec![0u8; length];
        let answer = get(program, code.as_mut_ptr().cast());
        destroy(&mut program);
        ensure!(answer == 0, "NVRTC gives no code: error {answer}");
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_compile_where_the_compiler_is() {
        if Library::open("libnvrtc.so.13").is_err() {
            eprintln!("SKIPPED: no CUDA compiler here");
            return;
        }
        let code = compile(SOURCE).unwrap();
        let text = String::from_utf8_lossy(&code);
        for name in ["adam", "largest_of", "add_rounded", "scale_back"] {
            assert!(text.contains(&format!(".entry {name}(")), "{name}");
        }
    }
}
