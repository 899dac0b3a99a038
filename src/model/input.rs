//! The network's input, made where the network is.

use tch::{Kind, Tensor};

use crate::preprocess::whiten::MIN_EXPECTED;

/// As [`whiten`](crate::preprocess::whiten::whiten), of electrons `[..., energy]` and the mean spectrum `[energy]` on any
/// device; totals are summed in f32.
pub fn whitened(counts: &Tensor, mean: &Tensor) -> Tensor {
    let total = counts.sum_dim_intlist([-1i64].as_slice(), true, Kind::Float);
    let expected = total * mean;
    (counts - &expected) / expected.clamp_min(f64::from(MIN_EXPECTED)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::whiten::whiten;
    use ndarray::Array3;

    #[test]
    fn tensors_are_whitened_as_arrays_are() {
        let counts = Array3::from_shape_fn((2, 3, 5), |(y, x, e)| {
            if (y, x) == (1, 2) {
                return 0.0;
            }
            (7 * y + 3 * x + e * e) as f32 + 0.25
        });
        let mean = [0.1, 0.4, 0.0, 0.3, 0.2];
        let mut expected = Array3::zeros(counts.dim());
        whiten(counts.view(), &mean, expected.view_mut());
        let values: Vec<f32> = counts.iter().copied().collect();
        let counts = Tensor::from_slice(&values).view([2, 3, 5]);
        let found = whitened(&counts, &Tensor::from_slice(&mean));
        let found: Vec<f32> = found.view(-1).try_into().unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0));
        }
    }
}
