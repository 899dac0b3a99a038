//! An array that lies uncompressed in a file: parts of it are read by their byte positions.
//!
//! Serves Gatan files, whatever order their dimensions are stored in, and [uncompressed copies](super::uncompressed_copy).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, ArrayView3, Axis as Dimension, Ix3, ShapeBuilder, s};

use super::number_type::{Number, NumberType, decode};

/// Gaps of up to so many bytes are read along: another request costs more, above all on a cluster's file system.
const GAP: usize = 64 << 10;

/// Bytes of decoded values read in one request, unless a single line of the part is longer.
const BUFFER: usize = 8 << 20;

/// An array in an open file.
pub(crate) struct RawArray {
    pub file: File,
    /// Bytes from the start of the file to the first value.
    pub offset: u64,
    /// The slowest dimension first; at most three.
    pub shape: Vec<usize>,
    pub number: NumberType,
    pub little: bool,
    /// The dimension that is contiguous in memory once read.
    pub energy: usize,
}

impl RawArray {
    /// Reads `part`, one range per stored dimension, as float32. Rank-local.
    ///
    /// # Errors
    /// As [`RawArray::read_with`].
    pub fn read(&self, part: &[Range<usize>]) -> Result<ArrayD<f32>> {
        self.read_with(part, |bytes, values| self.number.decode_f32(bytes, self.little, values))
    }

    /// Reads `part` in its stored type, booleans as bytes. Rank-local.
    ///
    /// # Errors
    /// As [`RawArray::read_with`]; a `T` that is not the stored type.
    pub fn read_stored<T: Number>(&self, part: &[Range<usize>]) -> Result<ArrayD<T>> {
        let stored = match self.number {
            NumberType::Bool => NumberType::U8,
            number => number,
        };
        ensure!(stored.dtype() == T::DTYPE, "its values are {}, not {}", stored.dtype(), T::DTYPE);
        self.read_with(part, |bytes, values| decode(bytes, self.little, values, |value: T| value))
    }

    /// Reads `part`, turning bytes into numbers with `decode`.
    ///
    /// The array has its stored dimensions; in memory the energy is contiguous. Two buffers of 8 MiB are needed besides,
    /// or of one line of the part if that is longer.
    ///
    /// # Errors
    /// A file that has become shorter, or cannot be read.
    fn read_with<T: Copy + Default>(
        &self,
        part: &[Range<usize>],
        decode: impl Fn(&[u8], &mut Vec<T>),
    ) -> Result<ArrayD<T>> {
        let ndim = self.shape.len();
        let order: Vec<usize> = (0..ndim).filter(|&dim| dim != self.energy).chain([self.energy]).collect();
        let sizes: Vec<usize> = order.iter().map(|&dim| part[dim].len()).collect();
        let in_memory = |dim: usize| order.iter().position(|&other| other == dim).unwrap_or(dim);
        let stored_order: Vec<usize> = (0..ndim).map(in_memory).collect();
        let mut values = ArrayD::from_elem(sizes, T::default()).permuted_axes(stored_order);

        let mut view = values.view_mut();
        let mut shape = self.shape.clone();
        let mut ranges = part.to_vec();
        while shape.len() < 3 {
            view = view.insert_axis(Dimension(0));
            shape.insert(0, 1);
            ranges.insert(0, 0..1);
        }
        let mut view = view.into_dimensionality::<Ix3>()?;
        let plan = ReadPlan::new(&shape, &ranges, self.number.size(), size_of::<T>());
        let (mut bytes, mut block) = (Vec::new(), Vec::new());
        for first in (0..ranges[0].len()).step_by(plan.planes) {
            for second in (0..ranges[1].len()).step_by(plan.lines) {
                let planes = plan.planes.min(ranges[0].len() - first);
                let lines = plan.lines.min(ranges[1].len() - second);
                self.read_block(&plan, [first, second], [planes, lines], &mut bytes)?;
                block.clear();
                decode(&bytes, &mut block);
                let strides = (plan.plane_stride(lines), plan.line_stride, 1);
                let read = ArrayView3::from_shape((planes, lines, plan.values).strides(strides), &block[..])?;
                view.slice_mut(s![first..first + planes, second..second + lines, ..]).assign(&read);
            }
        }
        Ok(values)
    }

    /// Fills `bytes` with `planes` x `lines`, beginning at index `[first, second]` of the part.
    fn read_block(
        &self,
        plan: &ReadPlan,
        [first, second]: [usize; 2],
        [planes, lines]: [usize; 2],
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let size = self.number.size();
        let (runs, lines_of_run) = if plan.joins_lines { (1, lines) } else { (lines, 1) };
        let run = (lines_of_run - 1) * plan.line_stride + plan.values;
        let (groups, run) =
            if plan.joins_planes { (1, (planes - 1) * plan.plane_stride(lines) + run) } else { (planes, run) };
        bytes.resize(groups * runs * run * size, 0);
        for (i, piece) in bytes.chunks_exact_mut(run * size).enumerate() {
            let (plane, line) = (first + i / runs, second + i % runs);
            let at = self.offset + (plan.position(plane, line) * size) as u64;
            self.file.read_exact_at(piece, at).with_context(|| format!("{} bytes at byte {at}", piece.len()))?;
        }
        Ok(())
    }
}

/// How a part `[planes, lines, values]`, in stored order, is cut into read requests. All lengths are in values.
struct ReadPlan {
    /// Position of the part's first value.
    start: usize,
    /// From one line, and from one plane, to the next in the file.
    width: usize,
    area: usize,
    /// Values of each line that are wanted.
    values: usize,
    /// Whether the gaps between lines, and between planes, are small enough to be read along.
    joins_lines: bool,
    joins_planes: bool,
    /// From one line to the next in the buffer.
    line_stride: usize,
    /// Planes and lines of one block.
    planes: usize,
    lines: usize,
}

impl ReadPlan {
    /// `size` is bytes of a stored value, `held` of one in memory.
    fn new(shape: &[usize], part: &[Range<usize>], size: usize, held: usize) -> ReadPlan {
        let (width, area) = (shape[2], shape[1] * shape[2]);
        let values = part[2].len();
        let joins_lines = (width - values) * size <= GAP;
        let line_stride = if joins_lines { width } else { values };
        let span = (part[1].len() - 1) * line_stride + values;
        // One buffer holds the values as stored, the other decoded: the wider type counts.
        let wide = size.max(held);
        let whole = span * wide <= BUFFER;
        let mut plan = ReadPlan {
            start: part[0].start * area + part[1].start * width + part[2].start,
            width,
            area,
            values,
            joins_lines,
            joins_planes: joins_lines && whole && (area - span) * size <= GAP,
            line_stride,
            planes: 1,
            lines: if whole { part[1].len() } else { (BUFFER / (line_stride * wide)).max(1) },
        };
        if whole {
            let plane = plan.plane_stride(part[1].len()) * wide;
            plan.planes = (BUFFER / plane).clamp(1, part[0].len());
        }
        plan
    }

    /// From one plane to the next in a buffer of `lines` lines each.
    fn plane_stride(&self, lines: usize) -> usize {
        if self.joins_planes {
            self.area
        } else if self.joins_lines {
            (lines - 1) * self.line_stride + self.values
        } else {
            lines * self.values
        }
    }

    /// Position in the file of the first value of line `line` of plane `plane` of the part.
    fn position(&self, plane: usize, line: usize) -> usize {
        self.start + plane * self.area + line * self.width
    }
}
