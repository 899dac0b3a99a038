//! The sum of all spectra of a cube.

use anyhow::Result;

use crate::comm::{Comm, ExactSum};
use crate::stream::Band;

/// The sum of spectra over a cube, equal on all ranks but for `totals`.
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
pub fn sum_spectra(
    comm: &Comm,
    band: &Band,
    bound: f64,
    is_wanted: impl Fn(usize, usize) -> bool,
) -> Result<SpectrumSum> {
    let channels = band.cube.energy.size;
    // The last entry counts pixels.
    let mut sum = ExactSum::new(channels + 1, bound.max(band.cube.ignored.len() as f64));
    let mut totals = Vec::new();
    let summed = band.each_block(|rows, prepared| {
        let lines = prepared.counts.outer_iter();
        for ((line, valid), y) in lines.zip(prepared.valid.outer_iter()).zip(rows) {
            let mut line_sum = vec![0f64; channels + 1];
            for (x, (spectrum, &valid)) in line.outer_iter().zip(valid).enumerate() {
                if valid && is_wanted(y, x) {
                    let mut total = 0f64;
                    for (sum, &u) in line_sum.iter_mut().zip(spectrum) {
                        *sum += u as f64;
                        total += u as f64;
                    }
                    line_sum[channels] += 1.0;
                    totals.push(total as f32);
                } else {
                    totals.push(f32::NAN);
                }
            }
            sum.add(&line_sum);
        }
        Ok(())
    });
    comm.agree(summed)?;
    let mut electrons = sum.total(comm)?;
    let pixels = electrons.pop().unwrap_or(0.0);
    Ok(SpectrumSum { electrons, pixels, totals })
}
