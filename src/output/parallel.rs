//! A `.hspy` file that all ranks write together.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use hdf5::plist::dataset_create::FillTime;
use hdf5::{Dataset, File, H5Type};
use ndarray::ArrayViewD;

use super::about::About;
use super::hspy::{self, Small};
use super::transfer::{blocks, write_block};
use crate::comm::Comm;
use crate::durable::Partial;

/// Most bytes that a rank gives to one collective call: MPI-IO counts in C ints.
const ROUND_BYTES: usize = 1 << 30;

/// Larger objects start at a page, so that ranks rarely share one.
const ALIGNMENT: (u64, u64) = (64 << 10, 4 << 10);

/// More than HDF5 writes when it closes a file: its tables of chunks and attributes.
const CLOSING_BYTES: u64 = 4 << 20;

/// A file under way: `PATH.partial` until [`finish`](HspyWriter::finish).
///
/// Dropped without it, the partial file stays for the next attempt to replace; dropping is collective.
pub struct HspyWriter<'c> {
    comm: &'c Comm,
    partial: Partial,
    about: About,
    // In the order of their names: all ranks must close datasets alike, and before the file.
    datasets: BTreeMap<String, Dataset>,
    file: File,
}

impl<'c> HspyWriter<'c> {
    /// Starts `path`; an older partial file is replaced, and so is, at the end, an older file.
    ///
    /// # Collective
    /// # Errors
    /// A folder or file that cannot be made.
    pub fn create(comm: &'c Comm, path: &Path) -> Result<HspyWriter<'c>> {
        let partial = Partial::of(path);
        comm.on_root(|| prepare(partial.path()))?;
        let waiting = comm.waiting("making of a file");
        let file = File::with_options()
            .with_fapl(|fapl| {
                fapl.mpio(comm.raw(), None)
                    .all_coll_metadata_ops(true)
                    .coll_metadata_write(true)
                    .alignment(ALIGNMENT.0, ALIGNMENT.1)
                    .file_locking(false)
            })
            .create(partial.path())
            .with_context(|| {
                format!(
                    "{}: HDF5 cannot create it through MPI-IO; is the file system shared by all ranks?",
                    partial.path().display()
                )
            });
        drop(waiting);
        let file = comm.agree(file)?;
        Ok(HspyWriter { comm, partial, about: About::default(), datasets: BTreeMap::new(), file })
    }

    /// Makes a compressed dataset of `shape`, such as `Experiments/TITLE/data` ([`super::signal_path`]).
    ///
    /// `chunk` is cut down to `shape`; writing is fastest, and uses the least memory, where the bands of the ranks
    /// meet at chunk borders. Values that are never written are undefined.
    ///
    /// # Collective
    /// Every rank with the same arguments.
    /// # Errors
    /// An empty shape, or a name that exists already.
    pub fn create_dataset<T: H5Type>(&mut self, name: &str, shape: &[usize], chunk: &[usize]) -> Result<()> {
        let make = || -> Result<Dataset> {
            let _waiting = self.comm.waiting("making of a dataset");
            let chunk = hspy::fitting_chunk(shape, chunk)?;
            let dataset = self
                .file
                .new_dataset::<T>()
                .shape(shape)
                .chunk(chunk)
                .shuffle()
                .deflate(hspy::GZIP)
                // Parallel HDF5 allocates early; filling as well would write everything twice.
                .fill_time(FillTime::Never)
                .create(name)?;
            Ok(dataset)
        };
        let made = make()
            .with_context(|| format!("{}: dataset {name} of {shape:?} cannot be made", self.partial.path().display()));
        let dataset = self.comm.agree(made)?;
        self.datasets.insert(name.to_string(), dataset);
        Ok(())
    }

    /// Writes `local`, this rank's part of dataset `name`, at `start`; a rank may have nothing.
    ///
    /// Needs memory for the compressed copy of `local`, and for all of it again where it is not in C order.
    ///
    /// # Collective
    /// # Errors
    /// A part outside the dataset, another type than the dataset's, a full disk: the same error on every rank.
    pub fn write<T: H5Type + Clone>(&self, name: &str, start: &[usize], local: ArrayViewD<T>) -> Result<()> {
        let local = local.as_standard_layout();
        let plan = self.comm.agree(self.plan(name, start, &local.view()))?;
        let (dataset, pieces) = plan;
        // Every rank makes as many calls as the one with most to write, the others with empty selections.
        for round in 0..self.comm.max_u64(pieces.len() as u64) {
            let block = pieces.get(round as usize).map(Vec::as_slice);
            let waiting = self.comm.waiting("writing");
            let written = write_block(dataset, start, &local.view(), block);
            drop(waiting);
            self.comm.agree(written)?;
        }
        Ok(())
    }

    /// The dataset and the blocks in which `local` goes there. Rank-local.
    fn plan<T: H5Type>(
        &self,
        name: &str,
        start: &[usize],
        local: &ArrayViewD<T>,
    ) -> Result<(&Dataset, Vec<Vec<std::ops::Range<usize>>>)> {
        let dataset = self
            .datasets
            .get(name)
            .ok_or_else(|| anyhow!("{}: dataset {name} was not created", self.partial.path().display()))?;
        let shape = dataset.shape();
        let fits = start.len() == shape.len()
            && local.ndim() == shape.len()
            && (0..shape.len()).all(|dim| start[dim] + local.shape()[dim] <= shape[dim]);
        ensure!(
            fits,
            "{}: {:?} values at {start:?} lie outside dataset {name} of {shape:?}",
            self.partial.path().display(),
            local.shape()
        );
        let stored = dataset.dtype()?.to_descriptor()?;
        ensure!(
            stored == T::type_descriptor(),
            "{}: dataset {name} stores {stored}, not {}",
            self.partial.path().display(),
            T::type_descriptor()
        );
        let chunk = dataset.chunk().unwrap_or_else(|| shape.clone());
        let limit = ROUND_BYTES / std::mem::size_of::<T>();
        Ok((dataset, blocks(start, local.shape(), &chunk, limit)))
    }

    /// Tells what is known of the measurement: it goes into the metadata of every signal. Only root's counts.
    pub fn describe(&mut self, about: About) {
        self.about = about;
    }

    /// Closes the file, has root add `small`, and gives the file its name. Only root's `small` counts.
    ///
    /// # Collective
    /// # Errors
    /// What [`Small`] describes does not fit the datasets. A full disk ends the job. The partial file stays.
    pub fn finish(self, small: Small) -> Result<()> {
        self.finish_checked(small, |_| Ok(()))
    }

    /// As [`HspyWriter::finish`]; before the file gets its name `check` reads it under that of the partial file.
    ///
    /// # Collective
    /// `check` is called on every rank, and fails on all or on none.
    /// # Errors
    /// As [`HspyWriter::finish`], and what `check` finds.
    pub fn finish_checked(self, small: Small, check: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let HspyWriter { comm, partial, about, datasets, file } = self;
        let path = partial.path();
        if let Err(error) = comm.on_root(|| has_room(path)) {
            // To drop the file would be to close it.
            comm.fail(&error);
        }
        let waiting = comm.waiting("closing of a file");
        drop(datasets);
        let closed = file.close().with_context(|| format!("{}: cannot be closed; is the disk full?", path.display()));
        if let Err(error) = closed {
            // A rank whose part of the close fails leaves the others inside of it: nothing can be agreed any more.
            comm.fail(&error);
        }
        drop(waiting);
        // Before root touches the file.
        comm.barrier();
        comm.on_root(|| complete(path, &small, &about))?;
        check(path)?;
        comm.on_root(|| partial.commit())
    }
}

/// Refuses to close a file on a disk that has no room for what HDF5 still holds of it: a rank whose part of a collective
/// close fails leaves the others waiting inside.
fn has_room(partial: &Path) -> Result<()> {
    let name = CString::new(partial.as_os_str().as_bytes())?;
    // SAFETY: the name ends with a zero byte, and all zeros are a valid value of the structure that is filled.
    let (done, about) = unsafe {
        let mut about: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(name.as_ptr(), &mut about), about)
    };
    // A file system that does not tell is taken to have room.
    ensure!(
        done != 0 || about.f_bavail.saturating_mul(about.f_frsize) >= CLOSING_BYTES,
        "{}: cannot be closed, the disk is full: make room, or choose another `output`",
        partial.display()
    );
    Ok(())
}

/// Makes the folder and an empty partial file; MPI-IO would choose its mode freely.
fn prepare(partial: &Path) -> Result<()> {
    if let Some(folder) = partial.parent() {
        fs::create_dir_all(folder).with_context(|| format!("folder {} cannot be made", folder.display()))?;
    }
    if partial.exists() {
        fs::remove_file(partial)
            .with_context(|| format!("{}: the partial file of an earlier run cannot be removed", partial.display()))?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o664)
        .open(partial)
        .with_context(|| format!("{}: cannot be made; is its folder writable?", partial.display()))?;
    Ok(())
}

/// Adds what is small. Root only.
fn complete(partial: &Path, small: &Small, about: &About) -> Result<()> {
    let file = File::with_options()
        .with_fapl(|fapl| fapl.file_locking(false))
        .open_rw(partial)
        .with_context(|| format!("{}: cannot be opened again", partial.display()))?;
    hspy::add(&file, small, about).with_context(|| partial.display().to_string())?;
    file.close().with_context(|| format!("{}: cannot be closed; is the disk full?", partial.display()))
}
