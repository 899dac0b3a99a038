//! Compiles what calls libtorch's C++, lets the programs find libtorch and HDF5 without LD_LIBRARY_PATH, and tells them the
//! git revision.
//!
//! Crates that this one depends on link the libraries, but an rpath for programs can only be set here.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let libtorch = library("LIBTORCH", "lib/libtorch_cpu.so");
    let hdf5 = library("HDF5_DIR", "lib/libhdf5.so");
    if let (Some(libtorch), Some(hdf5)) = (libtorch, hdf5) {
        compile(&libtorch);
        rpath(&libtorch.join("lib"));
        // The wheel's CUDA runtime lies in a package of its own beside torch's.
        rpath(&libtorch.with_file_name("nvidia").join("cu13/lib"));
        // Debian's HDF5 has a link in the loader's own folders; one built by hand has none.
        if !hdf5.starts_with("/usr/lib") {
            rpath(&hdf5.join("lib"));
        }
    }
    println!("cargo::rerun-if-env-changed=CORELOSS_REVISION");
    let revision = env::var("CORELOSS_REVISION").ok().or_else(git_revision);
    println!("cargo::rustc-env=CORELOSS_REVISION={}", revision.as_deref().unwrap_or("unknown"));
}

/// The folder that variable `name` holds, if it has `file`; else an error that says what to do.
fn library(name: &str, file: &str) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed={name}");
    let remedy = "run scripts/setup.sh once, and `. scripts/env.sh` in this shell";
    let Some(folder) = env::var_os(name).map(PathBuf::from) else {
        println!("cargo::error={name} is not set: {remedy}");
        return None;
    };
    if !folder.is_absolute() || !folder.join(file).exists() {
        println!("cargo::error={name}={} is no absolute folder that has {file}: {remedy}", folder.display());
        return None;
    }
    Some(folder)
}

/// Compiles `src/gpu/libtorch.cpp` against libtorch's headers, which give warnings of their own.
fn compile(libtorch: &Path) {
    let source = "src/gpu/libtorch.cpp";
    println!("cargo::rerun-if-changed={source}");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).include(libtorch.join("include")).file(source);
    build.compile("coreloss_libtorch");
}

/// Has every program, test and example of this package look for libraries in `folder`, if it exists.
fn rpath(folder: &Path) {
    if folder.is_dir() {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}

/// The checkout's commit, with `-dirty` where tracked files differ. None without git, or inside somebody else's checkout.
fn git_revision() -> Option<String> {
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let branch = git(&["symbolic-ref", "-q", "HEAD"]).unwrap_or_default();
    for name in ["HEAD", "logs/HEAD", "packed-refs", &branch] {
        let Some(path) = git(&["rev-parse", "--git-path", name]) else {
            continue;
        };
        // cargo runs this again and again for a path that is missing.
        if Path::new(&path).is_file() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    Some(if dirty { format!("{commit}-dirty") } else { commit })
}

/// What git answers in the package's folder, which is where build scripts run.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
