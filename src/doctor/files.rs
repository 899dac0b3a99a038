//! Checks of file systems: whether all ranks can write one file where the output goes, whether it has locks, and
//! whether there are inputs.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::Array2;

use super::{Finding, Verdict};
use crate::archive::catalogue;
use crate::comm::Comm;
use crate::config::Config;
use crate::output::{Contents, HspyWriter, signal_path};

/// Checks the output folder and the inputs.
///
/// # Collective
/// # Errors
/// None: what fails is a finding.
pub fn checks(comm: &Comm, config: &Config) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let (finding, folder) = writable(comm, &config.output.dir);
    findings.push(finding);
    if let Some(folder) = folder {
        findings.push(locking(comm, &folder));
        findings.push(parallel(comm, &folder));
        remove(comm, &folder);
    }
    if !config.archive.inputs.as_slice().is_empty() {
        findings.push(inputs(comm, config));
    }
    Ok(findings)
}

/// Makes a folder for the other checks where the output would be.
///
/// # Collective
fn writable(comm: &Comm, output: &Path) -> (Finding, Option<PathBuf>) {
    let check = "output";
    let absolute = std::path::absolute(output).unwrap_or(output.to_path_buf());
    let there = absolute.ancestors().find(|folder| folder.is_dir());
    let folder = there.unwrap_or(Path::new("/")).join(format!(".coreloss-doctor-{}", std::process::id()));
    let made = comm.on_root(|| fs::create_dir(&folder).map_err(Into::into));
    let folder: PathBuf = comm.broadcast(Some(folder));
    let there = folder.parent().unwrap_or(Path::new("/")).display().to_string();
    if let Err(error) = made {
        let mend = "choose another `output`, or mend the folder's permissions";
        let found = format!("cannot write in {there}: {error:#}");
        return (Finding::of(Verdict::Bad, check, found, mend), None);
    }
    let blind = comm.any(!folder.is_dir());
    if blind {
        remove(comm, &folder);
        return (
            Finding::of(
                Verdict::Bad,
                check,
                format!("{there} is not the same folder on all nodes"),
                "put `output` on a file system that all nodes share",
            ),
            None,
        );
    }
    (Finding::good(check, format!("{there} can be written")), Some(folder))
}

/// Removes the folder that [`writable`] made, when all ranks are done with it.
///
/// # Collective
fn remove(comm: &Comm, folder: &Path) {
    comm.barrier();
    if comm.is_root()
        && let Err(error) = fs::remove_dir_all(folder)
    {
        log::warn!("{}: {error}", folder.display());
    }
}

/// Whether the file system supports locks, which HDF5 asks for.
///
/// # Collective
fn locking(comm: &Comm, folder: &Path) -> Finding {
    let path = folder.join("lock");
    let setting = std::env::var("HDF5_USE_FILE_LOCKING").unwrap_or_default();
    let locks = || {
        fs::write(&path, "").is_ok()
            && fs::File::open(&path).is_ok_and(|file| {
                // SAFETY: the descriptor is open; the call changes nothing but its lock.
                unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) == 0 }
            })
    };
    let locked: bool = comm.broadcast(comm.is_root().then(locks));
    if locked || ["FALSE", "BEST_EFFORT", "0"].contains(&&setting[..]) {
        let found = match locked {
            true => "the file system has locks",
            false => "the file system has no locks, and HDF5_USE_FILE_LOCKING lets HDF5 do without",
        };
        Finding::good("locking", found.into())
    } else {
        Finding::of(
            Verdict::Bad,
            "locking",
            "the file system refuses locks, which HDF5 insists on".into(),
            "export HDF5_USE_FILE_LOCKING=BEST_EFFORT, as jobs/site.sh does",
        )
    }
}

/// Whether all ranks can write one compressed dataset together.
///
/// # Collective
fn parallel(comm: &Comm, folder: &Path) -> Finding {
    let write = || -> Result<()> {
        let mut file = HspyWriter::create(comm, &folder.join("parallel.hspy"))?;
        let name = signal_path("ranks");
        file.create_dataset::<i32>(&name, &[comm.size(), 8], &[1, 8])?;
        let mine = Array2::from_elem((1, 8), comm.rank() as i32);
        file.write(&name, &[comm.rank(), 0], mine.view().into_dyn())?;
        file.finish(Contents::default())
    };
    match write() {
        Ok(()) => Finding::good("hdf5", format!("{}, all ranks write one file", crate::output::hdf5_version())),
        Err(error) => Finding::of(
            Verdict::Bad,
            "hdf5",
            format!("the ranks cannot write one file together: {error:#}"),
            "build with a parallel HDF5 1.10.2 or later of the same MPI (scripts/setup.sh finds one), and put `output` on \
             a file system that all nodes share",
        ),
    }
}

/// Whether there are files to read.
///
/// # Collective
fn inputs(comm: &Comm, config: &Config) -> Finding {
    match comm.from_root(|| Ok(catalogue(config.archive.inputs.as_slice())?.len())) {
        Ok(count) => Finding::good("inputs", format!("{count} files")),
        Err(error) => Finding::of(
            Verdict::Bad,
            "inputs",
            format!("{error:#}"),
            "correct archive.inputs; relative paths are relative to the working directory",
        ),
    }
}
