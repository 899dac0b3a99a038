//! Sums over the lines of a cube.

use anyhow::Result;

use crate::comm::{Comm, ExactSum};
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
    Ok((sum.total(comm)?, totals))
}
