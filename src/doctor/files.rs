//! Checks of file systems: whether all ranks can write one file where the output goes, whether it has locks, and
//! whether there are inputs.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use ndarray::Array3;

use super::{Finding, Verdict};
use crate::comm::Comm;
use crate::config::Config;
use crate::cube::Axis;
use crate::output::{Contents, HspyWriter, Signal, read_signal_plane, signal_path};
use crate::pipeline::list_inputs;
use crate::shared;

/// Checks the inputs and the output folder, which comes last: where the ranks cannot write one file together the job ends,
/// and `report` is given all findings before.
///
/// # Collective
pub fn checks(comm: &Comm, config: &Config, mut findings: Vec<Finding>, report: impl Fn(&[Finding])) -> Vec<Finding> {
    if !config.archive.inputs.as_slice().is_empty() {
        findings.push(inputs(comm, config));
    }
    let (finding, folder) = writable(comm, &config.output.dir);
    findings.push(finding);
    if let Some(folder) = folder {
        findings.push(locking(comm, &folder));
        let finding = parallel(comm, &folder, |finding| report(&[&findings[..], &[finding]].concat()));
        findings.push(finding);
        remove(comm, &folder);
    }
    findings
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
    if let Err(error) = shared::check_folder(comm, &folder) {
        remove(comm, &folder);
        let found = format!("{there} is not the same for all ranks: {error:#}");
        return (Finding::of(Verdict::Bad, check, found, "put `output` on a file system that all nodes share"), None);
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

/// Whether all ranks can write compressed datasets together, and read what the others wrote. Where they cannot, the job ends,
/// and `report` is given the finding before.
///
/// # Collective
fn parallel(comm: &Comm, folder: &Path, report: impl Fn(Finding)) -> Finding {
    let bad = |error: &anyhow::Error| {
        Finding::of(
            Verdict::Bad,
            "hdf5",
            format!("the ranks cannot write one file together: {error:#}"),
            "build with a parallel HDF5 1.10.2 or later of the same MPI (scripts/setup.sh finds one), and put `output` on \
             a file system that all nodes share, and that MPI-IO can write to",
        )
    };
    match write_and_read(comm, &folder.join("parallel.hspy"), &|error| report(bad(error))) {
        Ok(()) => Finding::good("hdf5", format!("{}, all ranks write one file", crate::output::hdf5_version())),
        Err(error) => bad(&error),
    }
}

/// Writes an array of the shape of the latent codes, `[latent, y, x]`, once with chunks of one rank and once with chunks that
/// ranks share, and reads it.
///
/// # Collective
fn write_and_read(comm: &Comm, path: &Path, last_words: &dyn Fn(&anyhow::Error)) -> Result<()> {
    const LATENT: usize = 8;
    const LINES: usize = 4;
    const WIDTH: usize = 256;
    let (lines, first) = (comm.size() * LINES, comm.rank() * LINES);
    let value = |(i, y, x): (usize, usize, usize)| ((i * lines + y) * WIDTH + x) as f32;
    let titles = [("own chunks", LINES), ("shared chunks", LINES + LINES / 2)];
    let mut file = HspyWriter::create_with(comm, path, last_words)?;
    for (title, chunk) in titles {
        let name = signal_path(title);
        file.create_dataset::<f32>(&name, &[LATENT, lines, WIDTH], &[1, chunk, WIDTH])?;
        let mine = Array3::from_shape_fn((LATENT, LINES, WIDTH), |(i, y, x)| value((i, first + y, x)));
        file.write(&name, &[0, first, 0], mine.view().into_dyn())?;
    }
    let axes = || ["latent dimension", "y", "x"].into_iter().zip([LATENT, lines, WIDTH]);
    let signal = |(title, _)| {
        Signal::written(title, axes().map(|(name, size)| Axis::of_indices(name, size, true)).collect(), "")
    };
    file.finish(Contents { signals: titles.map(signal).into(), ..Contents::default() })?;
    let read = || -> Result<()> {
        for (title, _) in titles {
            for i in 0..LATENT {
                let plane = read_signal_plane(path, title, i)?;
                let same = plane.indexed_iter().all(|(at, &found)| found == value((i, at[0], at[1])));
                ensure!(same, "{title}: what is read differs from what was written");
            }
        }
        Ok(())
    };
    comm.agree(read())
}

/// Whether there are files to read.
///
/// # Collective
fn inputs(comm: &Comm, config: &Config) -> Finding {
    match list_inputs(comm, config.archive.inputs.as_slice()) {
        Ok(sources) => Finding::good("inputs", format!("{} files", sources.len())),
        Err(error) => Finding::of(
            Verdict::Bad,
            "inputs",
            format!("{error:#}"),
            "correct archive.inputs; relative paths are relative to the working directory",
        ),
    }
}
