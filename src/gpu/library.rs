//! Shared libraries that are loaded at run time.

use std::ffi::CStr;
use std::mem::ManuallyDrop;

use anyhow::{Result, anyhow};
use libloading::os::unix::{Library as Handle, RTLD_GLOBAL, RTLD_NOW};

/// A library that stays loaded to the end, its symbols visible to all others: libtorch registers its CUDA half on load.
pub struct Library {
    name: String,
    handle: ManuallyDrop<Handle>,
}

impl Library {
    /// Loads the library, or finds it loaded. Rank-local.
    ///
    /// # Errors
    /// The loader's message.
    pub fn open(name: &str) -> Result<Library> {
        // SAFETY: the libraries' initialisers are those that PyTorch itself runs on import.
        let handle = unsafe { Handle::open(Some(name), RTLD_NOW | RTLD_GLOBAL) };
        let handle = handle.map_err(|error| anyhow!("{name} does not load: {error}"))?;
        Ok(Library { name: name.into(), handle: ManuallyDrop::new(handle) })
    }

    /// The first of `names`, versions of one library, that loads. Rank-local.
    ///
    /// # Errors
    /// The loader's message about the first.
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
        // SAFETY: the caller answers for the type; the library is never closed, so the pointer stays valid.
        let symbol = unsafe { self.handle.get::<F>(name.to_bytes_with_nul()) };
        symbol.map(|symbol| *symbol).map_err(|_| anyhow!("{} has no {}", self.name, name.to_string_lossy()))
    }
}
