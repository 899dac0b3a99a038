//! Sums over the lines of a cube.

use anyhow::Result;

use crate::comm::{Comm, ExactSum};
use crate::spectrum::sum_spectra;
use crate::stream::Band;

/// The spectrum `[energy]` and, last, the number of pixels that count and that `is_wanted(y, x)`, summed over the cube;
/// electrons of each pixel of the band.
///
/// # Collective
pub fn sum_lines(
    comm: &Comm,
    band: &Band,
    bound: f64,
    is_wanted: impl Fn(usize, usize) -> bool,
) -> Result<(Vec<f64>, Vec<f32>)> {
    let channels = band.cube.energy.size;
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
    Ok((sum.total(comm)?, totals))
}
