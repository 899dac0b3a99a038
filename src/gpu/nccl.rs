//! NCCL, loaded at run time: sums between GPUs that do not pass through their hosts.
//!
//! The library comes with PyTorch's CUDA half and has kept its C interface since version 2.0.

use std::ffi::{CStr, c_char, c_int, c_void};

use anyhow::{Result, ensure};

use super::library::Library;
use super::libtorch::Stream;
use crate::comm::Comm;

/// `ncclUniqueId`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Id([c_char; 128]);

/// `ncclDataType_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    Int32 = 2,
    Float32 = 7,
}

/// `ncclRedOp_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    Sum = 0,
    Max = 2,
}

/// A group of ranks as NCCL knows it, each with a GPU of its own.
pub struct Nccl {
    handle: Handle,
    library: Functions,
}

type Handle = *mut c_void;
type Code = c_int;
type AllReduce = unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, *mut c_void) -> Code;

struct Functions {
    begin: unsafe extern "C" fn(*mut Handle, c_int, Id, c_int) -> Code,
    get_id: unsafe extern "C" fn(*mut Id) -> Code,
    all_reduce: AllReduce,
    destroy: unsafe extern "C" fn(Handle) -> Code,
    error: unsafe extern "C" fn(Code) -> *const c_char,
}

impl Functions {
    fn load() -> Result<Functions> {
        let library = Library::open("libnccl.so.2")?;
        // SAFETY: the signatures are those of nccl.h.
        unsafe {
            Ok(Functions {
                begin: library.symbol(c"ncclCommInitRank")?,
                get_id: library.symbol(c"ncclGetUniqueId")?,
                all_reduce: library.symbol(c"ncclAllReduce")?,
                destroy: library.symbol(c"ncclCommDestroy")?,
                error: library.symbol(c"ncclGetErrorString")?,
            })
        }
    }
}

impl Nccl {
    /// The ranks of `comm`, each on CUDA's current GPU.
    ///
    /// # Collective
    /// # Errors
    /// No library on some rank, agreed before any rank waits inside NCCL; or what NCCL says.
    pub fn new(comm: &Comm) -> Result<Nccl> {
        let library = comm.agree(Functions::load())?;
        let mut nccl = Nccl { handle: std::ptr::null_mut(), library };
        let bytes = comm.from_root(|| {
            let mut id = Id([0; 128]);
            // SAFETY: `id` is what the function fills.
            nccl.check(unsafe { (nccl.library.get_id)(&mut id) })?;
            Ok(id.0.to_vec())
        })?;
        let mut id = Id([0; 128]);
        id.0.copy_from_slice(&bytes);
        let started = {
            let _waiting = comm.waiting("NCCL's start");
            let (size, rank) = (comm.size() as c_int, comm.rank() as c_int);
            // SAFETY: every rank of the group calls with the id of root, its own rank and their number.
            let code = unsafe { (nccl.library.begin)(&mut nccl.handle, size, id, rank) };
            nccl.check(code)
        };
        comm.agree(started)?;
        Ok(nccl)
    }

    /// Reduces `count` values at `data` on this rank's GPU, in place, after the work that is on `stream` already.
    ///
    /// # Collective
    /// # Errors
    /// What NCCL says.
    /// # Safety
    /// `data` are `count` values of type `kind` in the memory of this rank's GPU, as many on every rank.
    pub unsafe fn all_reduce(
        &self,
        data: *mut c_void,
        count: usize,
        kind: DataType,
        op: ReduceOp,
        stream: Stream,
    ) -> Result<()> {
        let (kind, op) = (kind as c_int, op as c_int);
        // SAFETY: by the caller.
        self.check(unsafe { (self.library.all_reduce)(data, data, count, kind, op, self.handle, stream.raw()) })
    }

    fn check(&self, code: Code) -> Result<()> {
        // SAFETY: NCCL answers a static C string to any code.
        let text = || unsafe { CStr::from_ptr((self.library.error)(code)) }.to_string_lossy();
        ensure!(code == 0, "NCCL: {}", text());
        Ok(())
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the handle is NCCL's own and is not used again.
            unsafe { (self.library.destroy)(self.handle) };
        }
    }
}
