//! One cube copied: read piece by piece, written by all ranks together, read again and compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ndarray::Array3;

use super::checksum::Checksum;
use super::pieces::Pieces;
use super::{Outcome, existing, pictures, speed};
use crate::archive::{Number, Options, Reader, Source};
use crate::comm::Comm;
use crate::config::Config;
use crate::cube::Axis;
use crate::durable::Partial;
use crate::output::{Contents, HspyWriter, Measurement, Signal, before_zspy, signal_path, write_zspy};
use crate::results::Failure;
use crate::with_number_type;

/// Arrays of the size of a piece that are in memory at once: as stored, in order, compressed, and those of HDF5 and of
/// the cache of decoded chunks.
const COPIES: usize = 6;

/// Decoding the same chunks this often costs more than an unpacked file in between.
const OFTEN: usize = 4;

/// Copies the cube of `source` to `output`, unless it is there already.
///
/// # Collective
pub fn copy(
    comm: &Comm,
    config: &Config,
    options: &Options,
    source: &Source,
    output: &Path,
) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let reader = (comm.agree(Reader::open(&source.path, options))).map_err(Failure::Source)?;
    let found = comm.from_root(|| existing::finished(source, &reader, output));
    if let Some(checksum) = found.map_err(Failure::Source)? {
        return Ok(Outcome::Skipped { checksum });
    }
    let mut job = Job {
        comm,
        options,
        source,
        output,
        memory: (config.io.memory_mib << 20) as usize / COPIES,
        reader,
        title: String::new(),
    };
    job.title = (job.reader.microscope().title.clone()).unwrap_or_else(|| {
        let name = Path::new(&source.id).file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    });
    let dtype = job.reader.info().dtype.clone();
    let copied = with_number_type!(
        &dtype[..],
        T => job.copy::<T>(),
        else Err(Failure::Source(anyhow!("{}: values of type {dtype}", source.path.display())))
    );
    let (chunks, checksum, pictures) = copied.inspect_err(|_| job.clear())?;
    let shape = job.reader.info().shape();
    let bytes = shape.iter().product::<usize>() * bytes_of(&dtype);
    let (seconds, mb_per_s) = speed(began, bytes);
    Ok(Outcome::Imported {
        shape,
        dtype,
        chunks,
        checksum: checksum.text(),
        pictures,
        seconds,
        mb_per_s,
        problems: job.reader.problems().to_vec(),
    })
}

fn bytes_of(dtype: &str) -> usize {
    with_number_type!(dtype, T => size_of::<T>(), else 0)
}

/// One cube being copied.
struct Job<'a> {
    comm: &'a Comm,
    options: &'a Options,
    source: &'a Source,
    output: &'a Path,
    /// Bytes of a piece.
    memory: usize,
    reader: Reader,
    title: String,
}

impl Job<'_> {
    /// Copies; gives the chunks, the checksum, and the file of the small images.
    ///
    /// # Collective
    fn copy<T: Number>(&mut self) -> Result<([usize; 3], Checksum, Option<PathBuf>), Failure> {
        let comm = self.comm;
        let shape = self.reader.info().shape();
        let pieces = Pieces::new(shape, size_of::<T>(), self.memory, comm.size());
        self.unpack_where_needed::<T>(&pieces).map_err(Failure::Source)?;
        let name = signal_path(&self.title);
        let fatal = Failure::Fatal;
        let is_zspy = self.output.extension().is_some_and(|extension| extension == "zspy");
        let hspy = if is_zspy { before_zspy(self.output) } else { self.output.to_path_buf() };
        let mut file = HspyWriter::create(comm, &hspy).map_err(fatal)?;
        file.create_dataset::<T>(&name, &shape, &pieces.chunk).map_err(fatal)?;

        let mut sum = Checksum::default();
        for round in 0..pieces.count().div_ceil(comm.size()) {
            // Ranks take neighbouring pieces: where the energy is stored first, they read neighbouring parts of each
            // plane.
            let [lines, columns] = pieces.of(round * comm.size() + comm.rank());
            let start = [lines.start, columns.start, 0];
            let read = self.reader.read_stored::<T>(lines, columns, 0..shape[2]);
            let values = comm.agree(read).map_err(Failure::Source)?;
            sum.add(&values, [start[0], start[1]], shape[1]);
            file.write(&name, &start, values.view().into_dyn()).map_err(fatal)?;
        }
        let sum = sum.total(comm);

        file.describe(comm.on_root(|| Measurement::of(&self.reader)).map_err(Failure::Source)?);
        let texts = comm.agree(self.texts(&sum)).map_err(Failure::Source)?;
        // Before the cube gets its name: a whole copy has its small images.
        let pictures = pictures::write(comm, self.options, &self.reader, self.output, &texts);
        let pictures = pictures.map_err(Failure::Source)?;
        let contents = Contents { signals: vec![self.signal()], texts };
        file.finish_checked(contents, |partial| self.compare::<T>(partial, &pieces, sum)).map_err(Failure::Source)?;
        if is_zspy {
            let check = |partial: &Path| self.compare::<T>(partial, &pieces, sum);
            let written = write_zspy(comm, &hspy, self.output, check);
            if comm.is_root() {
                let _ = fs::remove_file(&hspy);
            }
            written.map_err(fatal)?;
        }
        Ok((pieces.chunk, sum, pictures))
    }

    /// HDF5 decodes whole chunks. Chunks of many lines would all be decoded again for every piece. Such a cube is first
    /// unpacked into a file of its whole size, which is removed when it has been read.
    ///
    /// # Collective
    fn unpack_where_needed<T: Number>(&mut self, pieces: &Pieces) -> Result<()> {
        let [lines, _] = pieces.of(0);
        let times = self.reader.lines_decoded_at_once() / lines.len().max(1);
        if times < OFTEN {
            return Ok(());
        }
        let comm = self.comm;
        let mut unpacked_path = self.output.as_os_str().to_owned();
        unpacked_path.push(".unpacked.partial");
        let unpacked_path = PathBuf::from(unpacked_path);
        let size = (self.reader.info().shape().iter().product::<usize>() * size_of::<T>()) as u64;
        comm.on_root(|| {
            log::info!(
                "{}: each of its chunks holds many lines: unpacking it into {} first, {} MB",
                self.source.path.display(),
                unpacked_path.display(),
                size / 1_000_000
            );
            make(&unpacked_path, size)
        })?;
        let share = [comm.rank(), comm.size()];
        let unpacked = self.reader.write_uncompressed_copy::<T>(&unpacked_path, share, self.memory);
        let unpacked = comm.agree(unpacked);
        let opened = match unpacked {
            Ok(()) => comm.agree(self.reader.use_uncompressed_copy::<T>(&unpacked_path)),
            Err(error) => Err(error),
        };
        // A removed file can still be read where it is open.
        if comm.is_root() {
            let _ = fs::remove_file(&unpacked_path);
        }
        opened
    }

    /// The energy axis, in eV: what the reader took for eV is written as such.
    fn energy(&self) -> Axis {
        let mut axis = self.reader.info().energy.clone();
        if !axis.units.is_empty() {
            axis.units = "eV".into();
        }
        axis
    }

    fn signal(&self) -> Signal {
        let info = self.reader.info();
        Signal::written(&self.title, vec![info.y.clone(), info.x.clone(), self.energy()], "EELS")
    }

    /// What the copy records about its source. Rank-local.
    fn texts(&self, sum: &Checksum) -> Result<BTreeMap<String, String>> {
        let info = self.reader.info();
        let texts = [
            ("source", existing::absolute_path(self.source)?),
            ("dataset", self.reader.dataset().into()),
            ("source_format", info.format.clone()),
            ("source_dtype", info.dtype.clone()),
            ("fingerprint", self.reader.fingerprint()?),
            ("checksum", sum.text()),
            ("problems", self.reader.problems().join("\n")),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("revision", env!("CORELOSS_REVISION").into()),
        ];
        let texts = texts.into_iter();
        Ok(texts.map(|(name, text)| (name.into(), text)).collect())
    }

    /// Compares what was written with what was read.
    ///
    /// # Collective
    /// # Errors
    /// Values or axes that are not the source's.
    fn compare<T: Number>(&self, partial: &Path, pieces: &Pieces, sum: Checksum) -> Result<()> {
        let comm = self.comm;
        let written = comm.agree(self.open_written(partial))?;
        let [_, width, channels] = written.info().shape();
        let mut found = Checksum::default();
        for i in (comm.rank()..pieces.count()).step_by(comm.size()) {
            let [lines, columns] = pieces.of(i);
            let start = [lines.start, columns.start];
            let values: Result<Array3<T>> = written.read_stored(lines, columns, 0..channels);
            // A rank that fails goes on to the agreement of all ranks.
            match values {
                Ok(values) => found.add(&values, start, width),
                Err(error) => return comm.agree(Err(error)),
            }
        }
        comm.agree(Ok(()))?;
        let found = found.total(comm);
        ensure!(
            found == sum,
            "{}: its values have checksum {}, those of {} {}: the disk or the memory of this machine is at fault",
            partial.display(),
            found.text(),
            self.source.path.display(),
            sum.text()
        );
        Ok(())
    }

    /// Opens the partial file, whose axes must be those of the source. Rank-local.
    fn open_written(&self, partial: &Path) -> Result<Reader> {
        let options = Options { memory: self.options.memory, ..Options::default() };
        let written = Reader::open(partial, &options)?;
        let (a, b) = (self.reader.info(), written.info());
        if (&a.y, &a.x, &self.energy()) != (&b.y, &b.x, &b.energy) {
            bail!("{}: its axes are not the source's", partial.display());
        }
        Ok(written)
    }

    /// Removes the partial file of a failed copy. Root only; what stays is replaced by the next attempt.
    fn clear(&self) {
        if self.comm.is_root() {
            Partial::of(self.output).discard();
            let before = before_zspy(self.output);
            Partial::of(&before).discard();
            let _ = fs::remove_file(before);
        }
    }
}

/// Makes a file of `size` zero bytes, and its folder if missing. Root only.
fn make(path: &Path, size: u64) -> Result<()> {
    let made = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::File::create(path)?.set_len(size)
    };
    made().with_context(|| format!("{}: cannot be made", path.display()))
}
