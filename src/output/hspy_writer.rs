//! A `.hspy` file that all ranks write together.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use hdf5::plist::dataset_create::FillTime;
use hdf5::{Dataset, File, H5Type};
use ndarray::ArrayViewD;

use super::hspy::{self, Contents};
use super::measurement::Measurement;
use super::transfer::{blocks, write_block};
use crate::comm::Comm;
use crate::durable::Partial;
use crate::shared;

/// Most bytes that a rank writes in one collective call: MPI-IO counts in C ints.
const ROUND_BYTES: usize = 1 << 30;

/// HDF5 aligns objects of more bytes than the first to multiples of the second, a page, so that ranks rarely share one.
const ALIGNMENT: (u64, u64) = (64 << 10, 4 << 10);

/// The invariant of [`HspyWriter::open`].
const CLOSED: &str = "only what is finished or dropped is closed";

/// More bytes than HDF5 writes when it closes a file: indices of chunks, attributes.
const CLOSING_BYTES: u64 = 4 << 20;

/// A file being written: `PATH.partial` until [`finish`](HspyWriter::finish).
///
/// If dropped before, the partial file stays, and the next attempt replaces it; dropping is collective.
///
/// Where one rank fails inside a collective call of HDF5, the others may wait in it for ever: nothing can be agreed any more, and
/// the file cannot be closed, which is collective too. So the job ends where the file cannot be made, written or closed.
pub struct HspyWriter<'c> {
    comm: &'c Comm,
    partial: Partial,
    measurement: Measurement,
    /// What a rank does before it ends the job.
    last_words: LastWords<'c>,
    /// None once it is closed.
    open: Option<Open>,
}

type LastWords<'c> = &'c dyn Fn(&anyhow::Error);

struct Open {
    // Sorted, as all ranks must close datasets in the same order; and dropped before the file.
    datasets: BTreeMap<String, Dataset>,
    file: File,
}

impl<'c> HspyWriter<'c> {
    /// Starts `path`, replacing an older partial file, and at the end an older file.
    ///
    /// # Collective
    /// A file that HDF5 cannot make ends the job.
    /// # Errors
    /// A folder that cannot be written, or that nodes do not share.
    pub fn create(comm: &'c Comm, path: &Path) -> Result<HspyWriter<'c>> {
        HspyWriter::create_with(comm, path, &|_| ())
    }

    /// As [`HspyWriter::create`]; a rank that has to end the job, also later, calls `last_words` with the reason before.
    ///
    /// # Collective
    /// # Errors
    /// As [`HspyWriter::create`].
    pub fn create_with(comm: &'c Comm, path: &Path, last_words: LastWords<'c>) -> Result<HspyWriter<'c>> {
        let partial = Partial::of(path);
        let mark = comm.broadcast(Some(shared::mark()));
        comm.on_root(|| prepare(partial.path(), &mark))?;
        shared::check_file(comm, partial.path(), &mark)?;
        let waiting = comm.waiting("making of a file");
        let made = File::with_options()
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
        let mut writer = HspyWriter { comm, partial, measurement: Measurement::default(), last_words, open: None };
        match made {
            Ok(file) => writer.open = Some(Open { datasets: BTreeMap::new(), file }),
            Err(error) => writer.give_up(&error),
        }
        Ok(writer)
    }

    /// Creates a compressed dataset of `shape`, such as `Experiments/TITLE/data` ([`super::signal_path`]).
    ///
    /// `chunk` is cut down to `shape`. Writing is fastest and takes the least memory if the bands of the ranks meet at chunk
    /// borders. Values that are never written are undefined.
    ///
    /// # Collective
    /// Every rank with the same arguments. A full disk ends the job.
    /// # Errors
    /// An empty shape, or a name that exists already.
    pub fn create_dataset<T: H5Type>(&mut self, name: &str, shape: &[usize], chunk: &[usize]) -> Result<()> {
        let failed = || format!("{}: dataset {name} of {shape:?} cannot be made", self.partial.path().display());
        let checked = || -> Result<Vec<usize>> {
            ensure!(!self.open().datasets.contains_key(name), "there is one of this name");
            hspy::fitting_chunk(shape, chunk)
        };
        let chunk = self.comm.agree(checked().with_context(failed))?;
        let waiting = self.comm.waiting("making of a dataset");
        let made = (self.open().file)
            .new_dataset::<T>()
            .shape(shape)
            .chunk(chunk)
            .shuffle()
            .deflate(hspy::GZIP)
            // Parallel HDF5 allocates at once; to fill as well would write everything twice.
            .fill_time(FillTime::Never)
            .create(name);
        drop(waiting);
        let dataset = match made.with_context(failed) {
            Ok(dataset) => dataset,
            Err(error) => self.give_up(&error),
        };
        let open = self.open.as_mut().expect(CLOSED);
        open.datasets.insert(name.to_string(), dataset);
        Ok(())
    }

    fn open(&self) -> &Open {
        self.open.as_ref().expect(CLOSED)
    }

    /// Writes `local`, this rank's part of dataset `name`, at `start`; it may be empty.
    ///
    /// Takes memory for the compressed copy of `local`, and for another copy if it is not in C order.
    ///
    /// # Collective
    /// A full disk ends the job.
    /// # Errors
    /// A part outside the dataset, another type than the dataset's: the same error on every rank.
    pub fn write<T: H5Type + Clone>(&self, name: &str, start: &[usize], local: ArrayViewD<T>) -> Result<()> {
        let local = local.as_standard_layout();
        let plan = self.comm.agree(self.plan(name, start, &local.view()))?;
        let (dataset, pieces) = plan;
        // All ranks make as many calls as the one with the most to write, with empty selections where they have nothing left.
        for round in 0..self.comm.max_u64(pieces.len() as u64) {
            let block = pieces.get(round as usize).map(Vec::as_slice);
            let waiting = self.comm.waiting("writing");
            let written = write_block(dataset, start, &local.view(), block);
            drop(waiting);
            if let Err(error) = written {
                self.give_up(&error);
            }
        }
        Ok(())
    }

    /// The dataset, and the blocks in which `local` is written to it. Rank-local.
    fn plan<T: H5Type>(
        &self,
        name: &str,
        start: &[usize],
        local: &ArrayViewD<T>,
    ) -> Result<(&Dataset, Vec<Vec<std::ops::Range<usize>>>)> {
        let dataset = self
            .open()
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

    /// Sets the metadata of every signal. Only root's count. Rank-local.
    pub fn describe(&mut self, measurement: Measurement) {
        self.measurement = measurement;
    }

    /// Closes the file, adds root's `contents`, and gives the file its name. Those of other ranks do not count.
    ///
    /// # Collective
    /// # Errors
    /// `contents` that do not fit the datasets. A full disk ends the job. The partial file stays.
    pub fn finish(self, contents: Contents) -> Result<()> {
        self.finish_checked(contents, |_| Ok(()))
    }

    /// As [`HspyWriter::finish`]; before the file gets its name, `check` is given the path of the partial file.
    ///
    /// # Collective
    /// `check` is called on every rank and must fail on all or on none.
    /// # Errors
    /// As [`HspyWriter::finish`], and what `check` finds.
    pub fn finish_checked(mut self, contents: Contents, check: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.close();
        let (comm, path) = (self.comm, self.partial.path());
        // No rank may still be closing the file when root opens it.
        comm.barrier();
        comm.on_root(|| complete(path, &contents, &self.measurement))?;
        check(path)?;
        comm.on_root(|| self.partial.commit())
    }

    /// Closes the file, if it is open, where there is room for that.
    ///
    /// # Collective
    /// A full disk ends the job.
    fn close(&mut self) {
        if self.open.is_none() {
            return;
        }
        if let Err(error) = self.comm.on_root(|| has_room(self.partial.path())) {
            self.give_up(&error);
        }
        let Some(Open { datasets, file }) = self.open.take() else { return };
        let _waiting = self.comm.waiting("closing of a file");
        drop(datasets);
        let path = self.partial.path().display();
        let closed = file.close().with_context(|| format!("{path}: cannot be closed; is the disk full?"));
        if let Err(error) = closed {
            self.give_up(&error);
        }
    }

    /// Ends the job without closing the file; gives its room back.
    fn give_up(&self, error: &anyhow::Error) -> ! {
        self.partial.discard();
        self.comm.fail_with(error, || (self.last_words)(error))
    }
}

impl Drop for HspyWriter<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Fails if the disk has no room for what HDF5 writes on closing: a rank that fails in a collective close leaves the others
/// waiting inside it.
fn has_room(partial: &Path) -> Result<()> {
    // A file system that does not say is assumed to have room.
    let room = rustix::fs::statvfs(partial).map_or(u64::MAX, |about| about.f_bavail.saturating_mul(about.f_frsize));
    ensure!(
        room >= CLOSING_BYTES,
        "{}: cannot be closed, the disk is full: make room, or choose another `output`",
        partial.display()
    );
    Ok(())
}

/// Creates the folder, and a partial file that holds `mark`; its mode MPI-IO would otherwise choose. Root only.
fn prepare(partial: &Path, mark: &str) -> Result<()> {
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
        .and_then(|mut file| file.write_all(mark.as_bytes()))
        .with_context(|| format!("{}: cannot be made; is its folder writable?", partial.display()))
}

/// Adds `contents` to the closed file. Root only.
fn complete(partial: &Path, contents: &Contents, measurement: &Measurement) -> Result<()> {
    let file = File::with_options()
        .with_fapl(|fapl| fapl.file_locking(false))
        .open_rw(partial)
        .with_context(|| format!("{}: cannot be opened again", partial.display()))?;
    hspy::add(&file, contents, measurement).with_context(|| partial.display().to_string())?;
    file.close().with_context(|| format!("{}: cannot be closed; is the disk full?", partial.display()))
}
