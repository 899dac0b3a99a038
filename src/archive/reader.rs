//! Reads one cube, whatever its format.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use hdf5::{Dataset, File};
use ndarray::{Array3, ArrayD};
use sha2::{Digest, Sha256};

use super::decoded_chunks::DecodedChunks;
use super::dm::Picture;
use super::hdf5_file::{read_f32, read_stored};
use super::layout::Layout;
use super::metadata::{self, Metadata};
use super::microscope::Microscope;
use super::number_type::{Number, NumberType};
use super::open::open;
use super::raw_array::RawArray;
use super::zarr::ZarrArray;
use super::{dm, external, hdf5_file, hspy, plain, uncompressed_copy, velox, zarr};
use crate::config::Config;
use crate::cube::CubeInfo;
use crate::with_number_type;

/// How to read a cube.
#[derive(Clone, Debug)]
pub struct Options {
    /// Path of the dataset in a file with several (`archive.dataset`).
    pub dataset: Option<String>,
    /// Which image of a Gatan file, thumbnails not counted (`archive.image`).
    pub image: Option<usize>,
    /// Most bytes of the cache of decoded chunks.
    pub memory: usize,
}

impl Options {
    /// The options of a configuration; the cache takes an eighth of `io.memory_mib`.
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

/// Lines of one request that the next asks for again: streaming reads the neighbours of each line too. The cache holds
/// their chunks, so that these are decoded once.
const SHARED_LINES: usize = 4;

/// Where the values lie.
enum Stored {
    /// The file closes with its last dataset.
    Hdf5(Dataset, Option<DecodedChunks>),
    Zarr(DecodedChunks),
    /// Uncompressed: in a Gatan file or an uncompressed copy.
    Raw(RawArray),
}

impl Reader {
    /// Opens the EELS spectrum image in `path`: a line scan as `1 x N` pixels, a lone spectrum as `1 x 1`. Rank-local.
    ///
    /// # Errors
    /// No such file, no known format, cut short, several cubes, no energy axis, unreadable values or compression: names
    /// the file, what is wrong with it and what to do.
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
                stored: Stored::Raw(stored),
            });
        }
        let opened = open(path, 0)?;
        let layout = find(&opened, path, options)?;
        let dataset = open_dataset(&opened, path, &layout)?;
        let dtype = hdf5_file::numeric_dtype(&dataset).with_context(shown)?;
        hdf5_file::check_filters(&dataset).with_context(shown)?;
        external::check(&dataset, path).with_context(shown)?;
        let energy = energy_of(&layout, path)?;
        let info = layout.cube(energy, path, dtype, dataset.chunk().as_deref());

        // HDF5 fixes the cache when a file is opened, but its best size is known only now: open it once more.
        let row_dim = layout.navigation(energy)[0].unwrap_or(0);
        let touched = (info.chunk_rows + SHARED_LINES).div_ceil(info.chunk_rows.max(1));
        let row = hdf5_file::bytes_of_chunk_row(&dataset, row_dim)?;
        let cache = row.saturating_mul(touched).min(options.memory);
        drop(dataset);
        drop(opened);
        if zarr::is_zarr(path) {
            let array = ZarrArray::open(&path.join(&layout.dataset)).with_context(shown)?;
            let stored = Stored::Zarr(DecodedChunks::of_zarr(array, cache));
            return Ok(Reader { info, layout, energy, stored });
        }
        let dataset = open_dataset(&open(path, cache)?, path, &layout)?;
        let chunks = DecodedChunks::of(&dataset, cache);
        Ok(Reader { info, layout, energy, stored: Stored::Hdf5(dataset, chunks) })
    }

    /// Axes, shape, type and chunks; the id is the file's stem, which a catalogue may replace.
    pub fn info(&self) -> &CubeInfo {
        &self.info
    }

    /// Defects of the file that users should know of, such as a missing calibration.
    pub fn problems(&self) -> &[String] {
        &self.layout.problems
    }

    /// What the file says of the instrument.
    pub fn microscope(&self) -> &Microscope {
        &self.layout.microscope
    }

    /// Path of the cube inside its file, or the number and title of its image.
    pub fn dataset(&self) -> &str {
        &self.layout.dataset
    }

    /// The group of a HyperSpy file that holds the cube and its metadata; none in other formats.
    pub fn experiment(&self) -> Option<&str> {
        let is_hspy = matches!(self.layout.format, "hspy" | "zspy");
        (self.layout.dataset.strip_suffix("/data")).filter(|_| is_hspy)
    }

    /// Lines that each chunk of an energy-first HDF5 cube serves when decoded; 1 for every other cube.
    pub fn lines_decoded_at_once(&self) -> usize {
        let is_first = self.energy == 0 && self.layout.axes.len() == 3;
        match &self.stored {
            Stored::Hdf5(..) if is_first => self.info.chunk_rows,
            _ => 1,
        }
    }

    /// Writes share `[i, n]` of an HDF5 cube's values to the file at `path`, for [`Reader::use_uncompressed_copy`].
    /// Rank-local.
    ///
    /// # Errors
    /// Values that cannot be read; a full disk.
    pub fn write_uncompressed_copy<T: Number>(&self, path: &Path, share: [usize; 2], memory: usize) -> Result<()> {
        let Stored::Hdf5(dataset, _) = &self.stored else {
            bail!("{}: is not compressed", self.info.path.display());
        };
        uncompressed_copy::write::<T>(dataset, path, share, memory)
            .with_context(|| self.info.path.display().to_string())
    }

    /// Reads from now on the copy at `path`, once all shares of it are written. Rank-local.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn use_uncompressed_copy<T: Number>(&mut self, path: &Path) -> Result<()> {
        self.stored = Stored::Raw(RawArray {
            file: fs::File::open(path).with_context(|| path.display().to_string())?,
            offset: 0,
            shape: self.layout.axes.iter().map(|axis| axis.size).collect(),
            number: NumberType::of::<T>(),
            little: true,
            energy: self.energy,
        });
        Ok(())
    }

    /// All that the file says besides its values; empty for a HyperSpy file, whose metadata [`Reader::experiment`] leads to.
    /// Rank-local.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn metadata(&self) -> Result<Metadata> {
        let path = &self.info.path;
        if self.is_gatan() {
            return dm::metadata(path).with_context(|| path.display().to_string());
        }
        if self.experiment().is_some() {
            return Ok(Metadata::default());
        }
        let opened = open(path, 0)?;
        Ok(match self.layout.format {
            "velox" => velox::metadata(&opened, &self.layout.dataset),
            _ => metadata::of_hdf5(&opened),
        })
    }

    fn is_gatan(&self) -> bool {
        matches!(self.layout.format, "dm3" | "dm4" | "dm5")
    }

    /// The small images beside the cube of a Gatan file, such as its survey image, and descriptions of the larger ones.
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

    /// Reads a window as float32 `[y, x, energy]`, C order; values that are not finite stay so. Rank-local.
    ///
    /// Chunks are decoded once if whole rows of them are read ([`CubeInfo::chunk_rows`]), else perhaps again. HDF5 data
    /// whose energy is not stored last are copied once more in memory; raw arrays are put in order as they are read, so
    /// that a window costs its own size and some 20 MiB.
    ///
    /// # Errors
    /// A range outside the cube, or data that cannot be read or decoded.
    pub fn read(&self, rows: Range<usize>, columns: Range<usize>, channels: Range<usize>) -> Result<Array3<f32>> {
        self.part([rows, columns, channels], |part| match &self.stored {
            Stored::Hdf5(dataset, chunks) => {
                let decoded = chunks.as_ref().and_then(|chunks| {
                    with_number_type!(&self.info.dtype[..], T =>
                        chunks.read(&part, self.energy, T::to_f32), else None)
                });
                Ok(match decoded {
                    Some(values) => values,
                    None => read_f32(dataset, part)?,
                })
            }
            Stored::Zarr(chunks) => with_number_type!(
                &self.info.dtype[..],
                T => chunks.read_part(&part, T::to_f32),
                else bail!("its values are {}", self.info.dtype)
            ),
            Stored::Raw(stored) => stored.read(&part),
        })
    }

    /// As [`Reader::read`], but in the stored type: `T` is what [`with_number_type`](crate::with_number_type) gives for that
    /// of the cube.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_stored<T: Number>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        channels: Range<usize>,
    ) -> Result<Array3<T>> {
        self.part([rows, columns, channels], |part| match &self.stored {
            Stored::Hdf5(dataset, chunks) => {
                let chunks = chunks.as_ref();
                let decoded = chunks.and_then(|chunks| chunks.read(&part, self.energy, |value: T| value));
                Ok(match decoded {
                    Some(values) => values,
                    None => read_stored(dataset, part)?,
                })
            }
            Stored::Zarr(chunks) => chunks.read_part(&part, |value: T| value),
            Stored::Raw(stored) => stored.read_stored(&part),
        })
    }

    /// Reads `part` as `[y, x, energy]`; `stored` reads one range per stored dimension.
    fn part<T: Copy + Default>(
        &self,
        part: [Range<usize>; 3],
        stored: impl FnOnce(Vec<Range<usize>>) -> Result<ArrayD<T>>,
    ) -> Result<Array3<T>> {
        let shape = self.info.shape();
        let shown = || format!("{}: {} of shape {shape:?}", self.info.path.display(), self.layout.dataset);
        ensure!(
            part.iter().zip(shape).all(|(range, size)| range.start <= range.end && range.end <= size),
            "{}: {part:?} was asked for, which lies outside",
            shown()
        );
        self.layout
            .read(self.energy, part.clone(), stored)
            .with_context(|| format!("{}: cannot read {part:?}; copy the file again, it may be damaged", shown()))
    }

    /// The files that its values are read from: its own, and those that this refers to.
    pub fn files(&self) -> Vec<PathBuf> {
        let path = &self.info.path;
        let others = match &self.stored {
            Stored::Hdf5(dataset, _) => external::files(dataset, path),
            Stored::Zarr(_) | Stored::Raw(_) => Vec::new(),
        };
        [path.clone()].into_iter().chain(others).collect()
    }

    /// A cheap identity of the data, independent of the path: file size, modification time, shape and type, hashed.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn fingerprint(&self) -> Result<String> {
        let path = self.info.path.display();
        let about = fs::metadata(&self.info.path).with_context(|| format!("{path}: cannot be read any more"))?;
        let (size, changed) = match &self.stored {
            Stored::Zarr(_) => zarr::size_and_time(&self.info.path)?,
            _ => {
                let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                (about.len(), changed.as_nanos())
            }
        };
        let identity = format!("{size} {changed} {:?} {} {}", self.info.shape(), self.info.dtype, self.layout.dataset);
        Ok(digest(&identity))
    }
}

/// The first 32 hexadecimal digits of the SHA-256 of `identity`.
pub fn digest(identity: &str) -> String {
    format!("{:.32x}", Sha256::digest(identity))
}

/// The stored dimension of the energy.
///
/// # Errors
/// Says why the data are no EELS spectrum image.
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

/// The layout of the cube in `opened`.
pub(super) fn find(opened: &File, path: &Path, options: &Options) -> Result<Layout> {
    let wanted = options.dataset.as_deref().map(|name| name.trim_matches('/'));
    let is_hspy = opened.link_exists("Experiments") && wanted.is_none_or(|name| name.starts_with("Experiments/"));
    // Other datasets of a Velox file are plain ones, for those who insist.
    let is_eels_of_velox = velox::has_eels(opened) && wanted.is_none_or(|name| name.starts_with(velox::RANGES));
    let found = if is_hspy {
        hspy::find(opened, wanted)
    } else if is_eels_of_velox {
        velox::find(opened, wanted, options.image)
    } else if wanted.is_none() && dm::is_dm5(opened) {
        dm::find_dm5(opened, options.image)
    } else {
        plain::find(opened, wanted)
    };
    let found = found.with_context(|| path.display().to_string())?;
    let format = if zarr::is_zarr(path) { "zspy" } else { found.format };
    Ok(Layout { format, ..found }.checked())
}

pub(super) fn open_dataset(opened: &File, path: &Path, layout: &Layout) -> Result<Dataset> {
    opened
        .dataset(&layout.dataset)
        .with_context(|| format!("{}: dataset {} cannot be opened", path.display(), layout.dataset))
}
