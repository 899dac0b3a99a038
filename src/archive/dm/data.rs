//! Reading parts of an image by their places in the file, never the whole.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, ArrayView3, Axis as Dimension, Ix3, ShapeBuilder, s};

use super::number::Number;
use crate::archive::element::{Element, decode};

/// Bytes that are read over rather than asked for apart: a request costs more, on a cluster's file system above all.
const GAP: usize = 64 << 10;

/// Bytes of decoded values read in one request, unless one line of the part is longer.
const BUFFER: usize = 8 << 20;

/// The values of one image.
pub(crate) struct Stored {
    pub file: File,
    /// Bytes from the file's start to the first value.
    pub offset: u64,
    /// The slowest dimension first; at most three.
    pub shape: Vec<usize>,
    pub number: Number,
    pub little: bool,
    /// The dimension whose values come to lie side by side in memory.
    pub energy: usize,
}

impl Stored {
    /// Reads `part`, one range per stored dimension, as float32. Rank-local.
    ///
    /// # Errors
    /// As [`Stored::read_with`].
    pub fn read(&self, part: &[Range<usize>]) -> Result<ArrayD<f32>> {
        self.read_with(part, |bytes, values| self.number.decode(bytes, self.little, values))
    }

    /// Reads `part` as it is stored, booleans as bytes. Rank-local.
    ///
    /// # Errors
    /// As [`Stored::read_with`]; also another `T` than the stored.
    pub fn read_stored<T: Element>(&self, part: &[Range<usize>]) -> Result<ArrayD<T>> {
        let stored = match self.number {
            Number::Bool => Number::U8.dtype(),
            number => number.dtype(),
        };
        ensure!(stored == T::DTYPE, "its values are {stored}, not {}", T::DTYPE);
        self.read_with(part, |bytes, values| decode(bytes, self.little, values))
    }

    /// Reads `part`, which `decode` makes numbers of.
    ///
    /// The array's dimensions are the stored ones; in memory the energy is the fastest. Beside it two buffers of
    /// 8 MiB are used, or of one line of the part where that is longer.
    ///
    /// # Errors
    /// A file that became shorter, or cannot be read.
    fn read_with<T: Copy + Default>(
        &self,
        part: &[Range<usize>],
        decode: impl Fn(&[u8], &mut Vec<T>),
    ) -> Result<ArrayD<T>> {
        let ndim = self.shape.len();
        let order: Vec<usize> = (0..ndim).filter(|&dim| dim != self.energy).chain([self.energy]).collect();
        let sizes: Vec<usize> = order.iter().map(|&dim| part[dim].len()).collect();
        let place = |dim: usize| order.iter().position(|&other| other == dim).unwrap_or(dim);
        let places: Vec<usize> = (0..ndim).map(place).collect();
        let mut values = ArrayD::from_elem(sizes, T::default()).permuted_axes(places);

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

    /// Fills `bytes` with `planes` x `lines` from place `[first, second]` of the part.
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
            let at = self.offset + (plan.place(plane, line) * size) as u64;
            self.file.read_exact_at(piece, at).with_context(|| format!("{} bytes at byte {at}", piece.len()))?;
        }
        Ok(())
    }
}

/// In which pieces a part is read: `[planes, lines, values]` of the stored order.
struct ReadPlan {
    /// Value at which the part starts, and values from one line and plane to the next in the file.
    start: usize,
    width: usize,
    area: usize,
    /// Values of a line that are wanted.
    values: usize,
    /// Lines or planes follow so closely that what lies between them is read as well.
    joins_lines: bool,
    joins_planes: bool,
    /// Values from one line to the next in the buffer.
    line_stride: usize,
    /// Planes and lines of one block.
    planes: usize,
    lines: usize,
}

impl ReadPlan {
    fn new(shape: &[usize], part: &[Range<usize>], size: usize, held: usize) -> ReadPlan {
        let (width, area) = (shape[2], shape[1] * shape[2]);
        let values = part[2].len();
        let joins_lines = (width - values) * size <= GAP;
        let line_stride = if joins_lines { width } else { values };
        let span = (part[1].len() - 1) * line_stride + values;
        // Buffers hold the values as they are stored, and decoded.
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

    /// Values from one plane to the next in a buffer of `lines` lines each.
    fn plane_stride(&self, lines: usize) -> usize {
        if self.joins_planes {
            self.area
        } else if self.joins_lines {
            (lines - 1) * self.line_stride + self.values
        } else {
            lines * self.values
        }
    }

    /// The value in the file at which line `line` of plane `plane` of the part starts.
    fn place(&self, plane: usize, line: usize) -> usize {
        self.start + plane * self.area + line * self.width
    }
}
