//! Reads compressed chunks with all threads at once: HDF5's of gzip, which it would itself decompress on one thread and slower,
//! and those of Zarr arrays.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result, ensure};
use hdf5::filters::Filter;
use hdf5::{Dataset, Datatype};
use hdf5_sys::h5::{herr_t, hsize_t};
use hdf5_sys::h5d::H5Dread_chunk;
use hdf5_sys::h5i::hid_t;
use libdeflater::Decompressor;
use ndarray::{ArrayD, ArrayViewMutD, Axis, IxDyn};
use rayon::prelude::*;

use super::hdf5_file;
use super::number_type::{Number, NumberType};
use super::zarr::ZarrArray;

unsafe extern "C" {
    // hdf5-sys lacks it, and what it has instead walks through all chunks to find one.
    fn H5Dget_chunk_storage_size(dataset: hid_t, offset: *const hsize_t, bytes: *mut hsize_t) -> herr_t;
}

/// An array of compressed chunks.
pub(crate) struct DecodedChunks {
    source: Source,
    dtype: String,
    /// Bytes of a value.
    size: usize,
    chunk: Vec<usize>,
    shape: Vec<usize>,
    /// Most bytes of decoded chunks that are kept.
    limit: usize,
    recent: Mutex<Recent>,
}

/// Where the chunks lie.
enum Source {
    Hdf5(Deflated),
    Zarr(ZarrArray),
}

/// A dataset of gzip-compressed chunks.
struct Deflated {
    dataset: Dataset,
    /// Bytes of a value.
    size: usize,
    /// Whether the bytes of all values are grouped by significance before compression (HDF5's shuffle filter).
    is_shuffled: bool,
}

/// The chunks decoded last: streaming a cube reads the neighbours of each line again.
#[derive(Default)]
struct Recent {
    /// With their origins, the oldest first.
    chunks: VecDeque<(Vec<u64>, Arc<Vec<u8>>)>,
    /// Memory to use again: to obtain fresh pages takes longer than to fill them.
    spare: Vec<Vec<u8>>,
}

/// Working memory of a thread.
struct Scratch {
    inflater: Decompressor,
    compressed: Vec<u8>,
    shuffled: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        inflater: Decompressor::new(),
        compressed: Vec::new(),
        shuffled: Vec::new(),
    });
}

impl DecodedChunks {
    /// The chunks of `dataset`, of which `limit` bytes are kept decoded; none if they are filtered in another way, or their
    /// numbers are not this machine's own.
    pub fn of(dataset: &Dataset, limit: usize) -> Option<DecodedChunks> {
        let filters = dataset.filters();
        let is_shuffled = match filters[..] {
            [Filter::Deflate(_)] => false,
            [Filter::Shuffle, Filter::Deflate(_)] => true,
            _ => return None,
        };
        let stored = dataset.dtype().ok()?;
        let dtype = hdf5_file::numeric_dtype(dataset).ok()?;
        // Neither of another byte order nor with fewer bits than their bytes have.
        let is_native = stored == Datatype::from_descriptor(&stored.to_descriptor().ok()?).ok()?;
        (is_native && cfg!(target_endian = "little")).then_some(DecodedChunks {
            dtype,
            size: stored.size(),
            chunk: dataset.chunk()?,
            shape: dataset.shape(),
            limit,
            recent: Mutex::default(),
            source: Source::Hdf5(Deflated { dataset: dataset.clone(), size: stored.size(), is_shuffled }),
        })
    }

    /// The chunks of `array`, of which `limit` bytes are kept decoded.
    pub fn of_zarr(array: ZarrArray, limit: usize) -> DecodedChunks {
        let about = array.about();
        // Booleans are read as bytes.
        let number = if about.number == NumberType::Bool { NumberType::U8 } else { about.number };
        DecodedChunks {
            dtype: number.dtype().into(),
            size: number.size(),
            chunk: about.chunk.clone(),
            shape: about.shape.clone(),
            limit,
            recent: Mutex::default(),
            source: Source::Zarr(array),
        }
    }

    /// Reads `part`, one range per stored dimension, every value through `convert`. Rank-local.
    ///
    /// None where HDF5 is to read instead: if `part` cuts chunks along another dimension than `energy`, as they would be
    /// decoded again for the next part; and if anything is wrong, so that HDF5 reports it.
    pub fn read<T: Number, U: Clone + Default + Send>(
        &self,
        part: &[Range<usize>],
        energy: usize,
        convert: impl Fn(T) -> U + Sync,
    ) -> Option<ArrayD<U>> {
        let is_whole = |dim: usize| {
            let (range, chunk) = (&part[dim], self.chunk[dim]);
            range.start % chunk == 0 && (range.end % chunk == 0 || range.end == self.shape[dim])
        };
        if !(0..part.len()).all(|dim| dim == energy || is_whole(dim)) {
            return None;
        }
        self.read_part(part, convert).ok()
    }

    /// As [`DecodedChunks::read`], but of any part, which may cut chunks. Rank-local.
    ///
    /// # Errors
    /// A `T` that is not the stored type; a chunk that cannot be read or decoded.
    pub fn read_part<T: Number, U: Clone + Default + Send>(
        &self,
        part: &[Range<usize>],
        convert: impl Fn(T) -> U + Sync,
    ) -> Result<ArrayD<U>> {
        ensure!(
            T::DTYPE == self.dtype && size_of::<T>() == self.size,
            "its values are {}, not {}",
            self.dtype,
            T::DTYPE
        );
        let shape: Vec<usize> = part.iter().map(Range::len).collect();
        let mut values = ArrayD::default(IxDyn(&shape));
        let tiles = self.tiles(part, values.view_mut());
        tiles.into_par_iter().try_for_each(|(start, tile)| {
            let origin: Vec<u64> =
                (start.iter().zip(&self.chunk)).map(|(&at, &chunk)| (at / chunk * chunk) as u64).collect();
            let bytes = self.decoded(&origin)?;
            self.copy(&bytes, &origin, &start, tile, &convert);
            self.recycle(bytes);
            anyhow::Ok(())
        })?;
        Ok(values)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().expect("no thread panics at it")
    }

    /// The decoded bytes of the chunk at `origin`.
    fn decoded(&self, origin: &[u64]) -> Result<Arc<Vec<u8>>> {
        let found = |recent: &Recent| {
            let mut chunks = recent.chunks.iter().rev();
            chunks.find(|(of, _)| of == origin).map(|(_, bytes)| Arc::clone(bytes))
        };
        let mut bytes = {
            let mut recent = self.recent();
            if let Some(bytes) = found(&recent) {
                return Ok(bytes);
            }
            recent.spare.pop().unwrap_or_default()
        };
        match &self.source {
            Source::Hdf5(deflated) => {
                let length = self.chunk.iter().product::<usize>() * self.size;
                SCRATCH.with_borrow_mut(|scratch| deflated.decode(scratch, origin, length, &mut bytes))?;
            }
            Source::Zarr(array) => array.decode(origin, &mut bytes)?,
        }
        let (size, bytes) = (bytes.len(), Arc::new(bytes));
        let mut recent = self.recent();
        recent.chunks.push_back((origin.to_vec(), Arc::clone(&bytes)));
        while recent.chunks.len() * size > self.limit {
            let oldest = recent.chunks.pop_front();
            let oldest = oldest.and_then(|(_, bytes)| Arc::try_unwrap(bytes).ok());
            recent.spare.extend(oldest);
        }
        Ok(bytes)
    }

    /// Keeps the memory of a chunk that nobody needs any more.
    fn recycle(&self, bytes: Arc<Vec<u8>>) {
        let mut recent = self.recent();
        recent.spare.extend(Arc::try_unwrap(bytes).ok());
        recent.spare.truncate(rayon::current_num_threads());
    }

    /// Cuts `values` of `part` at the borders of chunks; each piece comes with its start in the dataset.
    fn tiles<'a, U>(
        &self,
        part: &[Range<usize>],
        values: ArrayViewMutD<'a, U>,
    ) -> Vec<(Vec<usize>, ArrayViewMutD<'a, U>)> {
        let mut tiles = vec![(Vec::new(), values)];
        for (dim, range) in part.iter().enumerate() {
            let chunk = self.chunk[dim];
            let cut = |(start, mut rest): (Vec<usize>, ArrayViewMutD<'a, U>)| {
                let mut pieces = Vec::new();
                let mut at = range.start;
                while at < range.end {
                    let next = ((at / chunk + 1) * chunk).min(range.end);
                    let (piece, after) = rest.split_at(Axis(dim), next - at);
                    pieces.push(([&start[..], &[at]].concat(), piece));
                    (rest, at) = (after, next);
                }
                pieces
            };
            tiles = tiles.into_iter().flat_map(cut).collect();
        }
        tiles
    }

    /// Fills `tile`, which begins at `start`, from the chunk at `origin`, in which it lies.
    fn copy<T: Number, U>(
        &self,
        bytes: &[u8],
        origin: &[u64],
        start: &[usize],
        mut tile: ArrayViewMutD<U>,
        convert: &(impl Fn(T) -> U + Sync),
    ) {
        // The values along the tile's last dimension are contiguous in the chunk.
        let last = self.chunk.len() - 1;
        let length = tile.len_of(Axis(last)) * self.size;
        let mut lanes = tile.shape().to_vec();
        lanes[last] = 1;
        let lanes = ndarray::indices(lanes);
        for (mut lane, index) in tile.lanes_mut(Axis(last)).into_iter().zip(lanes) {
            let position = (0..=last).fold(0, |position, dim| {
                let within = start[dim] - origin[dim] as usize + index[dim];
                position * self.chunk[dim] + within
            });
            let bytes = &bytes[position * self.size..][..length];
            // A slice lets the compiler use vector instructions; strides would not.
            let lane = lane.as_slice_mut().expect("values are in C order");
            for (value, bytes) in lane.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
                *value = convert(T::from_le(bytes));
            }
        }
    }
}

impl Deflated {
    /// Reads the chunk at `origin` and decodes it into `bytes`, `size` of them.
    fn decode(&self, scratch: &mut Scratch, origin: &[u64], size: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let mask = self.fetch(origin, size, &mut scratch.compressed)?;
        // Bit i of the mask: the writer skipped filter i of the pipeline for this chunk.
        let deflated = mask & (1 << usize::from(self.is_shuffled)) == 0;
        let shuffled = self.is_shuffled && mask & 1 == 0 && self.size > 1;
        let first = match shuffled {
            true => &mut scratch.shuffled,
            false => &mut *bytes,
        };
        first.resize(size, 0);
        if deflated {
            let length = scratch.inflater.zlib_decompress(&scratch.compressed, first)?;
            ensure!(length == size, "a chunk that is too short");
        } else {
            ensure!(scratch.compressed.len() == size, "a chunk of another size");
            first.copy_from_slice(&scratch.compressed);
        }
        if shuffled {
            bytes.resize(size, 0);
            unshuffle(&scratch.shuffled, self.size, bytes);
        }
        Ok(())
    }

    /// Reads the chunk at `origin` as it is in the file into `compressed`; returns the mask of the filters that it skipped.
    fn fetch(&self, origin: &[u64], most: usize, compressed: &mut Vec<u8>) -> Result<u32> {
        let id = self.dataset.id();
        let (mut size, mut mask) = (0, 0);
        // SAFETY: the dataset is open, `origin` has as many coordinates as it has dimensions, the buffer has the size that
        // HDF5 states, and the lock keeps other threads out of HDF5.
        let mask = hdf5::sync::sync(|| unsafe {
            let status = H5Dget_chunk_storage_size(id, origin.as_ptr(), &mut size);
            // Compression may enlarge noise, but by no more than this.
            if status < 0 || size == 0 || size > (most + most / 512 + 1024) as u64 {
                return None;
            }
            compressed.resize(size as usize, 0);
            let read = H5Dread_chunk(
                id,
                hdf5_sys::h5p::H5P_DEFAULT,
                origin.as_ptr(),
                &mut mask,
                compressed.as_mut_ptr().cast(),
            );
            (read >= 0).then_some(mask)
        });
        mask.context("a chunk that is not there, or cannot be read")
    }
}

/// Undoes HDF5's shuffle filter: `bytes` holds the first bytes of all values, then the second ones, and so on.
fn unshuffle(bytes: &[u8], size: usize, values: &mut [u8]) {
    let count = bytes.len() / size;
    let plane = |byte: usize| &bytes[byte * count..][..count];
    match size {
        // Written out so that the compiler uses vector instructions.
        2 => {
            for ((value, &a), &b) in values.chunks_exact_mut(2).zip(plane(0)).zip(plane(1)) {
                value.copy_from_slice(&[a, b]);
            }
        }
        4 => {
            let low = plane(0).iter().zip(plane(1));
            let high = plane(2).iter().zip(plane(3));
            for ((value, (&a, &b)), (&c, &d)) in values.chunks_exact_mut(4).zip(low).zip(high) {
                value.copy_from_slice(&[a, b, c, d]);
            }
        }
        _ => {
            for i in 0..size {
                let bytes = values.chunks_exact_mut(size).zip(plane(i));
                bytes.for_each(|(value, &byte)| value[i] = byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdf5::{File, H5Type, Hyperslab, SliceOrIndex};
    use ndarray::Array3;

    const SHAPE: [usize; 3] = [7, 10, 37];
    const CHUNK: [usize; 3] = [3, 4, 16];
    /// Room for a few chunks of two bytes a value, but not for one of eight.
    const KEPT: usize = 3 * 4 * 16 * 6;

    fn stored<T: Number + H5Type>(file: &File, name: &str, shuffle: bool) -> Dataset
    where
        f64: ToElement<T>,
    {
        let values = Array3::from_shape_fn(SHAPE, |(y, x, e)| f64::from((y * 1000 + x * 37 + e) as u32).to_element());
        let mut builder = file.new_dataset_builder();
        if shuffle {
            builder = builder.shuffle();
        }
        let builder = builder.deflate(4).chunk(CHUNK).with_data(values.view());
        builder.create(name).unwrap()
    }

    /// `f64 as T`.
    trait ToElement<T> {
        fn to_element(self) -> T;
    }

    macro_rules! to_element {
        ($($number:ty),*) => {$(
            impl ToElement<$number> for f64 {
                fn to_element(self) -> $number {
                    self as $number
                }
            }
        )*};
    }

    to_element!(u8, i16, u32, i64, f32, f64);

    fn agrees<T: Number + H5Type + PartialEq + std::fmt::Debug>(dataset: &Dataset) {
        let chunks = DecodedChunks::of(dataset, KEPT).expect("a known pipeline");
        // Whole, chunks along the first two, and parts of the third.
        for part in [[0..7, 0..10, 0..37], [3..6, 4..8, 0..37], [3..7, 0..10, 5..33], [6..7, 8..10, 36..37]] {
            let found = chunks.read(&part, 2, |value: T| value).expect("is read");
            let slices = part.clone().map(SliceOrIndex::from);
            let expected: ArrayD<T> = dataset.read_slice(Hyperslab::from(slices.to_vec())).unwrap();
            assert_eq!(found, expected);
            let again = chunks.read(&part, 2, |value: T| value).expect("is read");
            assert_eq!(again, expected);
        }
        for part in [[1..3, 0..10, 0..37], [0..3, 0..9, 0..37]] {
            assert!(chunks.read(&part, 2, |value: T| value).is_none(), "{part:?}");
        }
    }

    #[test]
    fn values_are_those_that_hdf5_reads() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("c.h5")).unwrap();
        for shuffle in [false, true] {
            let name = |dtype| format!("{dtype}{shuffle}");
            agrees::<u8>(&stored::<u8>(&file, &name("u8"), shuffle));
            agrees::<i16>(&stored::<i16>(&file, &name("i16"), shuffle));
            agrees::<u32>(&stored::<u32>(&file, &name("u32"), shuffle));
            agrees::<i64>(&stored::<i64>(&file, &name("i64"), shuffle));
            agrees::<f32>(&stored::<f32>(&file, &name("f32"), shuffle));
            agrees::<f64>(&stored::<f64>(&file, &name("f64"), shuffle));
        }
    }

    #[test]
    fn what_is_wrong_is_left_to_hdf5() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.h5");
        let file = File::create(&path).unwrap();
        let dataset = stored::<i16>(&file, "cube", false);
        let chunks = DecodedChunks::of(&dataset, KEPT).unwrap();
        let whole = [0..7, 0..10, 0..37];
        assert!(chunks.read(&whole, 2, |value: i32| value).is_none());
        let never_written = file.new_dataset::<i16>().deflate(4).chunk(CHUNK).shape(SHAPE);
        let never_written = never_written.create("fill").unwrap();
        let fill = DecodedChunks::of(&never_written, KEPT).unwrap();
        assert!(fill.read(&whole, 2, |value: i16| value).is_none());
        let plain = file.new_dataset::<i16>().shape(SHAPE).create("plain").unwrap();
        assert!(DecodedChunks::of(&plain, KEPT).is_none());
        drop((file, dataset, chunks, never_written, fill, plain));

        // A flipped bit, which zlib's checksum detects.
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(2).position(|pair| pair == [0x78, 0x5e]).unwrap();
        bytes[at + 40] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        let dataset = File::open(&path).unwrap().dataset("cube").unwrap();
        let chunks = DecodedChunks::of(&dataset, KEPT).unwrap();
        assert!(chunks.read(&whole, 2, |value: i16| value).is_none());
    }
}
