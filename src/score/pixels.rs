//! Maps of a cube whose pixels are spread over ranks: whole on root, in parts elsewhere.

use ndarray::Array2;

use crate::comm::Comm;

/// Who holds which pixels of a map.
pub struct Pixels<'a> {
    pub comm: &'a Comm,
    /// Lines, and pixels of a line.
    pub size: (usize, usize),
    /// Pixels that count, over all ranks.
    pub num_valid: u64,
    /// The first of this rank's pixels, and how many they are.
    first: usize,
    count: usize,
}

impl<'a> Pixels<'a> {
    /// `local` pixels of a map of `size` are this rank's, after those of the lower ranks; `valid` of them count.
    ///
    /// # Collective
    pub fn new(comm: &'a Comm, size: (usize, usize), local: usize, valid: usize) -> Pixels<'a> {
        let counts = comm.all_gather(&local);
        Pixels {
            comm,
            size,
            num_valid: comm.sum_u64(valid as u64),
            first: counts[..comm.rank()].iter().sum(),
            count: local,
        }
    }

    /// All ranks' pixels `[y, x]` on root.
    ///
    /// # Collective
    pub fn gather(&self, local: &[f32]) -> Option<Array2<f32>> {
        self.comm.gather_bands(local).map(|values| {
            Array2::from_shape_vec(self.size, values).expect("a value for each pixel of the map")
        })
    }

    /// This rank's part of root's `map`.
    ///
    /// # Collective
    pub fn share(&self, map: Option<&Array2<f32>>) -> Vec<f32> {
        let mut values = match map {
            Some(map) => map.iter().copied().collect(),
            None => vec![0f32; self.size.0 * self.size.1],
        };
        self.comm.broadcast_into(&mut values);
        values[self.first..self.first + self.count].to_vec()
    }
}
