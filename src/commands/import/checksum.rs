//! A checksum of a cube's values that does not depend on the order in which they are added.

use ndarray::{Array3, Axis as Dim};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::archive::Number;
use crate::comm::Comm;

/// The sum over pixels, modulo 2^64 in each of two halves, of the SHA-256 of a pixel's position and its stored values
/// in little-endian bytes. Swapping two spectra changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum([u64; 2]);

impl Checksum {
    /// Adds `values` `[y, x, energy]`, the first of which is pixel `[y, x]` of a cube `width` pixels wide. Rank-local.
    pub fn add<T: Number>(&mut self, values: &Array3<T>, [y, x]: [usize; 2], width: usize) {
        let lines: Vec<_> = values.axis_iter(Dim(0)).enumerate().collect();
        let sums = lines.into_par_iter().map(|(line, spectra)| {
            let mut sum = [0u64; 2];
            let mut bytes = Vec::new();
            for (column, spectrum) in spectra.axis_iter(Dim(0)).enumerate() {
                bytes.clear();
                let pixel = ((y + line) * width + x + column) as u64;
                bytes.extend(pixel.to_le_bytes());
                spectrum.iter().for_each(|value| value.put_le(&mut bytes));
                let digest = Sha256::digest(&bytes);
                let (halves, _) = digest.as_chunks::<8>();
                for (sum, half) in sum.iter_mut().zip(halves) {
                    *sum = sum.wrapping_add(u64::from_le_bytes(*half));
                }
            }
            sum
        });
        for sum in sums.collect::<Vec<_>>() {
            for (own, other) in self.0.iter_mut().zip(sum) {
                *own = own.wrapping_add(other);
            }
        }
    }

    /// The checksum of what all ranks have added.
    ///
    /// # Collective
    pub fn total(self, comm: &Comm) -> Checksum {
        // In halves that cannot overflow, whatever the number of ranks.
        let low = |half: u64| (half & 0xffff_ffff) as i64;
        let mut parts = self.0.map(|half| [low(half), low(half >> 32)]);
        parts.iter_mut().for_each(|parts| comm.sum_i64(parts));
        Checksum(parts.map(|[low, high]| (low as u64).wrapping_add((high as u64) << 32)))
    }

    /// As 32 hexadecimal digits.
    pub fn text(self) -> String {
        format!("{:016x}{:016x}", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    fn cube() -> Array3<u16> {
        Array3::from_shape_fn((5, 4, 7), |(y, x, e)| (y * 100 + x * 10 + e) as u16)
    }

    fn whole(cube: &Array3<u16>) -> Checksum {
        let mut sum = Checksum::default();
        sum.add(cube, [0, 0], 4);
        sum
    }

    #[test]
    fn pieces_in_any_order_have_the_checksum_of_the_whole() {
        let cube = cube();
        let mut sum = Checksum::default();
        for (y, x) in [(3, 2), (0, 0), (3, 0), (0, 2)] {
            let rows = if y == 0 { 0..3 } else { 3..5 };
            sum.add(&cube.slice(s![rows, x..x + 2, ..]).to_owned(), [y, x], 4);
        }
        assert_eq!(sum, whole(&cube));
    }

    #[test]
    fn a_value_and_a_place_change_it() {
        let mut changed = cube();
        changed[[4, 3, 6]] += 1;
        assert_ne!(whole(&changed), whole(&cube()));
        let mut swapped = cube();
        swapped.invert_axis(Dim(1));
        assert_ne!(whole(&swapped), whole(&cube()));
    }
}
