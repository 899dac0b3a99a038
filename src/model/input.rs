//! The network's input: whitened spectra.

use ndarray::{Array3, ArrayViewMut3};
use tch::{Kind, Tensor};

use crate::preprocess::whiten::{MIN_EXPECTED, whiten};

/// Patches `[y, x, energy]` of electrons as a batch: whitened `[batch, 1, y, x, energy]`, and the electrons themselves
/// `[batch, y, x, energy]`, in host memory. `mean` is the mean spectrum `[energy]`. Rank-local.
pub fn whitened_batch(patches: &[Array3<f32>], mean: &[f32]) -> (Tensor, Tensor) {
    let (y, x, energy) = patches[0].dim();
    let size = y * x * energy;
    let mut input = vec![0f32; patches.len() * size];
    let mut counts = Vec::with_capacity(input.len());
    for (patch, input) in patches.iter().zip(input.chunks_mut(size)) {
        let input = ArrayViewMut3::from_shape((y, x, energy), input).expect("a patch's size");
        whiten(patch.view(), mean, input);
        counts.extend(patch.iter());
    }
    let shape = [patches.len(), y, x, energy].map(|n| n as i64);
    let tensor = |values: &[f32]| Tensor::from_slice(values).view(shape);
    (tensor(&input).unsqueeze(1), tensor(&counts))
}

/// As [`whiten`], for electrons `[..., energy]` and the mean spectrum `[energy]` on any device; totals are summed in f32.
pub fn whitened(counts: &Tensor, mean: &Tensor) -> Tensor {
    let total = counts.sum_dim_intlist([-1i64].as_slice(), true, Kind::Float);
    let expected = total * mean;
    (counts - &expected) / expected.clamp_min(f64::from(MIN_EXPECTED)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

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
