//! Shared libraries that are found at run time: one program serves machines with and without GPUs.

use std::ffi::{CStr, CString};

use anyhow::{Result, bail, ensure};

/// A library that stays loaded for good, with its symbols open to all: libtorch registers its CUDA half on load.
pub struct Library {
    name: String,
    handle: *mut libc::c_void,
}

impl Library {
    /// Loads the library, or finds it loaded. Rank-local.
    ///
    /// # Errors
    /// What the loader says.
    pub fn open(name: &str) -> Result<Library> {
        let file = CString::new(name).expect("a library's name holds no zero");
        // SAFETY: the name is a C string; the libraries' initialisers are those that PyTorch itself runs on import.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() {
            // SAFETY: dlopen has just failed on this thread, so dlerror answers a C string.
            let reason = unsafe { CStr::from_ptr(libc::dlerror()) };
            bail!("{name} does not load: {}", reason.to_string_lossy());
        }
        Ok(Library { name: name.into(), handle })
    }

    /// The first of `names`, versions of one library, that loads. Rank-local.
    ///
    /// # Errors
    /// What the loader says of the first.
    pub fn open_first(names: &[&str]) -> Result<Library> {
        let mut opened = names.iter().map(|name| Library::open(name));
        let first = opened.next().expect("a name");
        first.or_else(|error| opened.find_map(Result::ok).ok_or(error))
    }

    /// A function of the library.
    ///
    /// # Errors
    /// No such symbol.
    /// # Safety
    /// `F` is the type of a pointer to that function.
    pub unsafe fn symbol<F: Copy>(&self, name: &CStr) -> Result<F> {
        assert_eq!(size_of::<F>(), size_of::<*mut libc::c_void>(), "a pointer to a function");
        // SAFETY: the handle is one of dlopen, the name a C string.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        ensure!(!address.is_null(), "{} has no {}", self.name, name.to_string_lossy());
        // SAFETY: the sizes are equal and the caller answers for the type.
        Ok(unsafe { std::mem::transmute_copy(&address) })
    }
}
