//! The sum of some spectra of a scan line.

use ndarray::ArrayView2;

/// The sum `[E]` of the spectra of `line` `[x, E]` for which `is_wanted(x)`.
///
/// A scan line is the unit of all exact sums of spectra: it is summed in the order of x, in f64, on whatever rank it is.
pub fn sum_spectra(line: ArrayView2<f32>, is_wanted: impl Fn(usize) -> bool) -> Vec<f64> {
    let mut sums = vec![0f64; line.ncols()];
    for (_, spectrum) in line.outer_iter().enumerate().filter(|&(x, _)| is_wanted(x)) {
        for (sum, &counts) in sums.iter_mut().zip(spectrum) {
            *sum += f64::from(counts);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_spectra_are_summed() {
        let line = ndarray::arr2(&[[1f32, 2.0], [4.0, 8.0], [16.0, 32.0]]);
        assert_eq!(sum_spectra(line.view(), |x| x != 1), [17.0, 34.0]);
        assert_eq!(sum_spectra(line.view(), |_| false), [0.0, 0.0]);
    }
}
