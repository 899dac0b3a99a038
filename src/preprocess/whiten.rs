//! The network's input: the difference between a spectrum and the mean one, in units of its noise.

use ndarray::{ArrayView3, ArrayViewMut3};

/// Expected counts below this, in electrons, do not shrink the noise further.
pub const MIN_EXPECTED: f32 = 1e-3;

/// Writes `z = (u - U m) / sqrt(max(U m, 1e-3))` with `U = sum_E u` for every pixel of a patch.
///
/// `counts` and `out` are `[y, x, energy]`, in electrons and in sigmas; `mean` is the mean spectrum, with sum 1.
///
/// # Source
/// The variance of a Poisson count is its expectation.
pub fn whiten(counts: ArrayView3<f32>, mean: &[f32], mut out: ArrayViewMut3<f32>) {
    assert_eq!(counts.dim(), out.dim(), "patch and buffer differ");
    assert_eq!(counts.dim().2, mean.len(), "patch and mean spectrum differ");
    for (pixels, mut line) in counts.outer_iter().zip(out.outer_iter_mut()) {
        for (u, mut z) in pixels.outer_iter().zip(line.outer_iter_mut()) {
            let total = u.iter().map(|&u| u as f64).sum::<f64>() as f32;
            for ((z, &u), &m) in z.iter_mut().zip(u).zip(mean) {
                let expected = total * m;
                *z = (u - expected) / expected.max(MIN_EXPECTED).sqrt();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, array};

    #[test]
    fn sigmas_by_hand_and_no_signal_is_zero() {
        let counts = array![[[12.0, 4.0], [0.0, 0.0]]];
        let mut out = Array3::from_elem((1, 2, 2), f32::NAN);
        whiten(counts.view(), &[0.5625, 0.4375], out.view_mut());
        // U = 16, expected 9 and 7.
        assert_eq!(out, array![[[1.0, -3.0 / 7f32.sqrt()], [0.0, 0.0]]]);
    }
}
