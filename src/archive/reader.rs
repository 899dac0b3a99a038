//! The reader of one cube, whatever its format.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use hdf5::{Dataset, File};
use ndarray::{Array3, ArrayD};
use sha2::{Digest, Sha256};

use super::chunks::Chunks;
use super::dm::Picture;
use super::element::Element;
use super::layout::{Layout, Microscope, read_f32, read_stored};
use super::metadata::{self, Metadata};
use super::{dm, elsewhere, file, hspy, plain, unpacked};
use crate::config::Config;
use crate::cube::CubeInfo;
use crate::with_element;

/// How to read a cube.
#[derive(Clone, Debug)]
pub struct Options {
    /// Path of the dataset, where a file holds several (`archive.dataset`).
    pub dataset: Option<String>,
    /// Which image of a Gatan file, thumbnails not counted (`archive.image`).
    pub image: Option<usize>,
    /// Most bytes for the cache of decoded chunks.
    pub memory: usize,
}

impl Options {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Options {
        Options {
            dataset: config.archive.dataset.clone(),
            image: config.archive.image,
            memory: (config.io.memory_mib << 20) as usize / 8,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options { dataset: None, image: None, memory: 64 << 20 }
    }
}

/// One open cube. Rank-local; may move to a prefetch thread.
pub struct Reader {
    info: CubeInfo,
    layout: Layout,
    energy: usize,
    stored: Stored,
}

/// Lines that are asked for again with the next ones: who streams a cube looks at what lies beside each line. Their chunks
/// are to be decoded once all the same.
const AGAIN: usize = 4;

/// Where the values lie.
enum Stored {
    /// The file closes with its last dataset.
    Hdf5(Dataset, Option<Chunks>),
    /// At a place of its own in a file: Gatan's, or one that was unpacked.
    Plain(dm::Stored),
}

impl Reader {
    /// Opens the EELS spectrum image in `path`; a line becomes `1 x N`, a lone spectrum `1 x 1`. Rank-local.
    ///
    /// # Errors
    /// Names the file, what is wrong with it, and how to mend that: no such file, no known format, cut short, several
    /// cubes, no energy axis, unreadable values or compression.
    pub fn open(path: &Path, options: &Options) -> Result<Reader> {
        let shown = || path.display().to_string();
        if dm::is_dm(path) {
            let found = dm::find(path, options.image).with_context(shown)?;
            let energy = energy_of(&found.layout, path)?;
            let stored = found.open(path, energy).with_context(shown)?;
            return Ok(Reader {
                info: (found.layout).cube(energy, path, found.dtype().into(), None),
                layout: found.layout,
                energy,
                stored: Stored::Plain(stored),
            });
        }
        let opened = file::open(path, 0)?;
        let layout = find(&opened, path, options)?;
        let dataset = open_dataset(&opened, path, &layout)?;
        let dtype = file::numeric_dtype(&dataset).with_context(shown)?;
        file::check_filters(&dataset).with_context(shown)?;
        elsewhere::check(&dataset, path).with_context(shown)?;
        let energy = energy_of(&layout, path)?;
        let info = layout.cube(energy, path, dtype, dataset.chunk().as_deref());

        // The cache is fixed when a file is opened, its best size known only after: open once more.
        let row_dim = layout.places(energy)[0].unwrap_or(0);
        let touched = (info.chunk_rows + AGAIN).div_ceil(info.chunk_rows.max(1));
        let row = file::bytes_of_chunk_row(&dataset, row_dim)?;
        let cache = row.saturating_mul(touched).min(options.memory);
        drop(dataset);
        drop(opened);
        let dataset = open_dataset(&file::open(path, cache)?, path, &layout)?;
        let chunks = Chunks::of(&dataset, cache);
        Ok(Reader { info, layout, energy, stored: Stored::Hdf5(dataset, chunks) })
    }

    /// Axes, shape, type and chunks; the id is the file's stem until a catalogue gives another.
    pub fn info(&self) -> &CubeInfo {
        &self.info
    }

    /// What a user should know of this file: a missing calibration, axes without flags.
    pub fn problems(&self) -> &[String] {
        &self.layout.problems
    }

    /// What the file tells of the instrument.
    pub fn microscope(&self) -> &Microscope {
        &self.layout.microscope
    }

    /// Path of the cube inside its file, or which image it is.
    pub fn dataset(&self) -> &str {
        &self.layout.dataset
    }

    /// The group of a HyperSpy file whose `metadata` and `original_metadata` are the cube's; none in other formats.
    pub fn experiment(&self) -> Option<&str> {
        let is_hspy = self.layout.format == "hspy";
        (self.layout.dataset.strip_suffix("/data")).filter(|_| is_hspy)
    }

    /// Lines `[y]` of one decoded chunk where the energy is stored first: each chunk of those serves many lines.
    pub fn lines_decoded_at_once(&self) -> usize {
        let is_first = self.energy == 0 && self.layout.axes.len() == 3;
        match &self.stored {
            Stored::Hdf5(..) if is_first => self.info.chunk_rows,
            _ => 1,
        }
    }

    /// Writes what is `share` `[i, n]` of an HDF5 cube's values into the file at `place`, as [`Reader::unpacked`] reads
    /// them. Rank-local.
    ///
    /// # Errors
    /// Values that cannot be read; a full disk.
    pub fn unpack<T: Element>(&self, place: &Path, share: [usize; 2], memory: usize) -> Result<()> {
        let Stored::Hdf5(dataset, _) = &self.stored else {
            bail!("{}: is not packed", self.info.path.display());
        };
        unpacked::write::<T>(dataset, place, share, memory).with_context(|| self.info.path.display().to_string())
    }

    /// Reads from now on what all shares of [`Reader::unpack`] wrote to `place`.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn unpacked<T: Element>(&mut self, place: &Path) -> Result<()> {
        let shown = || place.display().to_string();
        self.stored = Stored::Plain(dm::Stored {
            file: fs::File::open(place).with_context(shown)?,
            offset: 0,
            shape: self.layout.axes.iter().map(|axis| axis.size).collect(),
            number: dm::Number::of_dtype(T::DTYPE).with_context(shown)?,
            little: true,
            energy: self.energy,
        });
        Ok(())
    }

    /// What the file tells beside its values, whatever its format calls it; what [`Reader::experiment`] names is left
    /// where it is. Rank-local.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn metadata(&self) -> Result<Metadata> {
        let path = &self.info.path;
        if self.is_gatan() {
            return dm::metadata(path).with_context(|| path.display().to_string());
        }
        Ok(match self.experiment() {
            Some(_) => Metadata::default(),
            None => metadata::of_hdf5(&*file::open(path, 0)?),
        })
    }

    fn is_gatan(&self) -> bool {
        matches!(self.layout.format, "dm3" | "dm4")
    }

    /// The small images beside the cube, a Gatan file's survey above all, and in words those that are not small.
    /// Rank-local.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn pictures(&self, options: &Options) -> Result<(Vec<Picture>, Vec<String>)> {
        let path = &self.info.path;
        if !self.is_gatan() {
            return Ok(Default::default());
        }
        dm::pictures(path, options.image).with_context(|| path.display().to_string())
    }

    /// Reads `[rows, columns, channels]` as float32, C order; values that are not finite are left as they are.
    ///
    /// Whole rows of chunks ([`CubeInfo::chunk_rows`]) are decoded once, parts of them may be decoded again. HDF5 data
    /// whose energy is not stored last are copied once more in memory; Gatan's are put in order as they are read, so
    /// that a window of a cube costs its own size and some 20 MiB. Rank-local.
    ///
    /// # Errors
    /// A range outside the cube, or data that cannot be read or decoded.
    pub fn read(&self, rows: Range<usize>, columns: Range<usize>, channels: Range<usize>) -> Result<Array3<f32>> {
        self.part([rows, columns, channels], |part| match &self.stored {
            Stored::Hdf5(dataset, chunks) => {
                let unpacked = chunks.as_ref().and_then(|chunks| {
                    with_element!(&self.info.dtype[..], T =>
                        chunks.read(&part, self.energy, T::to_f32), else None)
                });
                Ok(match unpacked {
                    Some(values) => values,
                    None => read_f32(dataset, part)?,
                })
            }
            Stored::Plain(stored) => stored.read(&part),
        })
    }

    /// As [`Reader::read`], but the values as they are stored: integers stay integers. `T` is what
    /// [`with_element`](crate::with_element) gives for the type of the cube.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_stored<T: Element>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        channels: Range<usize>,
    ) -> Result<Array3<T>> {
        self.part([rows, columns, channels], |part| match &self.stored {
            Stored::Hdf5(dataset, chunks) => {
                let chunks = chunks.as_ref();
                let unpacked = chunks.and_then(|chunks| chunks.read(&part, self.energy, |value: T| value));
                Ok(match unpacked {
                    Some(values) => values,
                    None => read_stored(dataset, part)?,
                })
            }
            Stored::Plain(stored) => stored.read_stored(&part),
        })
    }

    /// Reads `part` `[y, x, energy]`; `stored` reads one range for each stored dimension.
    fn part<T: Copy + Default>(
        &self,
        part: [Range<usize>; 3],
        stored: impl FnOnce(Vec<Range<usize>>) -> Result<ArrayD<T>>,
    ) -> Result<Array3<T>> {
        let shape = self.info.shape();
        let place = || format!("{}: {} of shape {shape:?}", self.info.path.display(), self.layout.dataset);
        ensure!(
            part.iter().zip(shape).all(|(range, size)| range.start <= range.end && range.end <= size),
            "{}: {part:?} was asked for, which lies outside",
            place()
        );
        self.layout
            .read(self.energy, part.clone(), stored)
            .with_context(|| format!("{}: cannot read {part:?}; copy the file again, it may be damaged", place()))
    }

    /// A cheap identity of the data that does not know the path: size, time of change, shape and type, hashed.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn fingerprint(&self) -> Result<String> {
        let path = self.info.path.display();
        let about = fs::metadata(&self.info.path).with_context(|| format!("{path}: cannot be read any more"))?;
        let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let identity =
            format!("{} {changed} {:?} {} {}", about.len(), self.info.shape(), self.info.dtype, self.layout.dataset);
        Ok(digest(&identity))
    }
}

/// 32 hexadecimal digits that stand for `identity`.
pub fn digest(identity: &str) -> String {
    format!("{:.32x}", Sha256::digest(identity))
}

/// The stored dimension of the energy.
///
/// # Errors
/// Data that are no EELS spectrum image: why.
fn energy_of(layout: &Layout, path: &Path) -> Result<usize> {
    match &layout.energy {
        Ok(energy) => Ok(*energy),
        Err(reason) => {
            let mut reasons = vec![reason.clone()];
            reasons.extend(layout.problems.clone());
            bail!("{}: {} is no EELS spectrum image: {}", path.display(), layout.dataset, reasons.join("; "))
        }
    }
}

/// The layout of the one cube in `opened`.
pub(super) fn find(opened: &File, path: &Path, options: &Options) -> Result<Layout> {
    let wanted = options.dataset.as_deref().map(|name| name.trim_matches('/'));
    let is_hspy = opened.link_exists("Experiments") && wanted.is_none_or(|name| name.starts_with("Experiments/"));
    let found = if is_hspy { hspy::find(opened, wanted) } else { plain::find(opened, wanted) };
    Ok(found.with_context(|| path.display().to_string())?.checked())
}

pub(super) fn open_dataset(opened: &File, path: &Path, layout: &Layout) -> Result<Dataset> {
    opened
        .dataset(&layout.dataset)
        .with_context(|| format!("{}: dataset {} cannot be opened", path.display(), layout.dataset))
}
