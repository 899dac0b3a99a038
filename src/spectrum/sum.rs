//! Sums in a fixed order: over the spectra of a scan line, and over the channels of a spectrum.

use ndarray::ArrayView2;

/// The sum `[E]` of the spectra of `line` `[x, E]` for which `is_wanted(x)`.
///
/// A scan line is the unit of all exact sums of spectra: it is summed in the order of x, in f64, on whatever rank it
/// is.
pub fn sum_spectra(line: ArrayView2<f32>, is_wanted: impl Fn(usize) -> bool) -> Vec<f64> {
    let mut sums = vec![0f64; line.ncols()];
    for (_, spectrum) in line.outer_iter().enumerate().filter(|&(x, _)| is_wanted(x)) {
        for (sum, &counts) in sums.iter_mut().zip(spectrum) {
            *sum += f64::from(counts);
        }
    }
    sums
}

/// The sum of `product(a_i, b_i)` over the elements of two slices of one length.
///
/// Eight partial sums need not wait for each other, and fix the order whatever the machine's vector width.
pub fn sum_products<A: Copy, B: Copy>(a: &[A], b: &[B], product: impl Fn(A, B) -> f64) -> f64 {
    let mut sums = [0f64; 8];
    let (whole_a, whole_b) = (a.chunks_exact(sums.len()), b.chunks_exact(sums.len()));
    let rest = whole_a.remainder().iter().zip(whole_b.remainder());
    let rest: f64 = rest.map(|(&a, &b)| product(a, b)).sum();
    for (a, b) in whole_a.zip(whole_b) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += product(a, b);
        }
    }
    sums.iter().sum::<f64>() + rest
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

    #[test]
    fn products_of_all_elements_are_summed() {
        let numbers: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(sum_products(&numbers, &numbers, |a, b| f64::from(a * b)), 2109.0);
        assert_eq!(sum_products(&numbers[..0], &numbers[..0], |a, _| f64::from(a)), 0.0);
    }
}
