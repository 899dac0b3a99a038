//! The pieces in which a cube is copied: arithmetic only.

use std::ops::Range;

/// Bytes of a stored chunk: efficient for parallel file systems, and small enough for HDF5's own cache.
const CHUNK: usize = 4 << 20;
/// Smallest chunk of a larger cube, however few lines each rank then has.
const SMALLEST_CHUNK: usize = 1 << 20;
/// Longer lines are cut.
const LARGEST_CHUNK: usize = 8 << 20;
/// A small cube is cut into so many chunks for ranks to share, unless they become too small.
const SHARED: usize = 16;

/// How a cube is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pieces {
    shape: [usize; 3],
    /// `[y, x, energy]` of a stored chunk: whole spectra.
    pub chunk: [usize; 3],
    /// Lines and columns of a piece: whole chunks.
    size: [usize; 2],
}

impl Pieces {
    /// The pieces of a cube `[y, x, energy]` with `bytes` per value. A piece takes at most `memory` bytes, but at least
    /// a chunk; there is one for each of `ranks` if the cube has as many chunks.
    pub fn new(shape: [usize; 3], bytes: usize, memory: usize, ranks: usize) -> Pieces {
        let [rows, columns, channels] = shape;
        let spectrum = (channels * bytes).max(1);
        let line = spectrum * columns;
        let chunk = if line > LARGEST_CHUNK {
            [1, (CHUNK / spectrum).clamp(1, columns), channels]
        } else {
            let shared = (CHUNK / line).min(rows.div_ceil(SHARED));
            let lines = shared.max(SMALLEST_CHUNK.div_ceil(line));
            [lines.clamp(1, rows), columns, channels]
        };
        // Few, tall pieces: where the energy is stored first, every piece reads a part of every plane.
        let lines = (memory / line / chunk[0]).max(1) * chunk[0];
        let lines = lines.min(rows.div_ceil(ranks).next_multiple_of(chunk[0]));
        let fitting = memory / (chunk[0] * spectrum);
        let size =
            if fitting >= columns { [lines, columns] } else { [chunk[0], (fitting / chunk[1]).max(1) * chunk[1]] };
        Pieces { shape, chunk, size }
    }

    pub fn count(&self) -> usize {
        self.shape[0].div_ceil(self.size[0]) * self.shape[1].div_ceil(self.size[1])
    }

    /// Lines and columns of piece `i`; empty beyond the last.
    pub fn of(&self, i: usize) -> [Range<usize>; 2] {
        if i >= self.count() {
            return [0..0, 0..0];
        }
        let across = self.shape[1].div_ceil(self.size[1]);
        let part = |dim: usize, i: usize| i * self.size[dim]..((i + 1) * self.size[dim]).min(self.shape[dim]);
        [part(0, i / across), part(1, i % across)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chunks_are_of_a_size_that_file_systems_like() {
        let chunk = |shape, bytes| Pieces::new(shape, bytes, 64 << 20, 1).chunk;
        assert_eq!(chunk([512, 512, 2048], 4), [1, 512, 2048]);
        assert_eq!(chunk([512, 512, 2048], 2), [2, 512, 2048]);
        // A line of 96 MiB is cut; a small cube is not cut to crumbs.
        assert_eq!(chunk([3000, 6000, 4096], 4), [1, 256, 4096]);
        assert_eq!(chunk([64, 64, 320], 4), [13, 64, 320]);
        assert_eq!(chunk([1, 1, 7], 4), [1, 1, 7]);
    }

    #[test]
    fn a_piece_of_a_wide_cube_is_part_of_a_line() {
        let pieces = Pieces::new([3000, 6000, 4096], 4, 10 << 20, 2);
        assert_eq!(pieces.of(0), [0..1, 0..512]);
        assert_eq!(pieces.of(11), [0..1, 5632..6000]);
        assert_eq!(pieces.of(12), [1..2, 0..512]);
    }

    proptest! {
        #[test]
        fn every_pixel_is_in_one_piece_of_whole_chunks(
            rows in 1usize..90, columns in 1usize..90, channels in 1usize..3000, ranks in 1usize..5,
            memory in 1usize..(64 << 20), bytes in 1usize..9,
        ) {
            let pieces = Pieces::new([rows, columns, channels], bytes, memory, ranks);
            let mut seen = vec![0; rows * columns];
            for i in 0..pieces.count() + 1 {
                let [lines, columns_of_piece] = pieces.of(i);
                prop_assert_eq!(lines.start % pieces.chunk[0], 0);
                prop_assert_eq!(columns_of_piece.start % pieces.chunk[1], 0);
                for y in lines {
                    columns_of_piece.clone().for_each(|x| seen[y * columns + x] += 1);
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
