//! The energy shifts of the pixels of a cube.

use ndarray::Array2;

/// How much too high the energies of the pixels of a cube read.
pub struct Shifts {
    /// `[y, x]` in eV, NaN where ignored. Every rank has the whole map.
    pub map: Array2<f32>,
    /// Number of pixels that could not be measured and took the shift of their neighbours.
    pub unmeasured: usize,
    /// What the shifts were measured by.
    pub by: String,
}

impl Shifts {
    /// The lowest, median and highest shift (eV) of the pixels that count.
    pub fn lowest_median_highest(&self) -> [f64; 3] {
        let mut finite: Vec<f32> = self.map.iter().copied().filter(|v| v.is_finite()).collect();
        finite.sort_by(f32::total_cmp);
        let at = |i: usize| f64::from(finite.get(i).copied().unwrap_or(0.0));
        let last = finite.len().saturating_sub(1);
        [at(0), at(last / 2), at(last)]
    }
}
