//! The sum of all spectra of a cube.

use anyhow::Result;

use crate::comm::{Comm, ExactSum};
use crate::spectrum::sum_spectra;
use crate::stream::Band;

/// The sum of spectra over a cube, equal on all ranks except for `totals`.
pub struct SpectrumSum {
    /// Electrons `[energy]`.
    pub electrons: Vec<f64>,
    /// Number of spectra in the sum.
    pub pixels: f64,
    /// Electrons of each pixel of this rank's band `[lines, x]`; NaN where it is not in the sum.
    pub totals: Vec<f32>,
}

impl SpectrumSum {
    /// Mean electrons `[energy]` of a pixel.
    pub fn mean(&self) -> Vec<f64> {
        self.electrons.iter().map(|sum| sum / self.pixels.max(1.0)).collect()
    }
}

/// Sums the spectra of the pixels that are valid and that `is_wanted(y, x)`; `bound` is that on the sum of one channel.
///
/// # Collective
/// # Errors
/// Unreadable data.
pub fn sum_cube(comm: &Comm, band: &Band, bound: f64, is_wanted: impl Fn(usize, usize) -> bool) -> Result<SpectrumSum> {
    let channels = band.cube.energy.size;
    // The last entry counts pixels.
    let mut sum = ExactSum::new(channels + 1, bound.max(band.cube.ignored.len() as f64));
    let mut totals = Vec::new();
    let summed = band.each_block(|rows, prepared| {
        let lines = prepared.counts.outer_iter();
        for ((line, valid), y) in lines.zip(prepared.valid.outer_iter()).zip(rows) {
            let counts = |x: usize| valid[x] && is_wanted(y, x);
            let mut line_sum = sum_spectra(line, counts);
            line_sum.push((0..valid.len()).filter(|&x| counts(x)).count() as f64);
            sum.add(&line_sum);
            totals.extend(line.outer_iter().enumerate().map(|(x, spectrum)| match counts(x) {
                true => spectrum.iter().fold(0f64, |total, &u| total + f64::from(u)) as f32,
                false => f32::NAN,
            }));
        }
        Ok(())
    });
    comm.agree(summed)?;
    let mut electrons = sum.total(comm)?;
    let pixels = electrons.pop().unwrap_or(0.0);
    Ok(SpectrumSum { electrons, pixels, totals })
}
