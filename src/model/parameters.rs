//! All trainable values in one contiguous buffer, so that reduction and optimiser are loops over a slice.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};
use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::blind::{Basis, Blind};
use super::floor::floored;
use super::shape::Start;
use super::spec::Spec;

/// The flat parameters of a 3D-CVAE, f32, in host memory.
pub struct Parameters {
    tensor: Tensor,
    length: usize,
}

/// Standard deviation of the decoder's last weights: so small that the untrained decoder gives the mean spectrum.
const LAST_LAYER_SD: f32 = 1e-3;
/// Initial values that one thread draws at once.
const DRAWN: usize = 1 << 16;

impl Parameters {
    /// The initial values: uniform within 1/sqrt(fan in), the last layer nearly 0, `log_mean` the logarithm of `mean`.
    ///
    /// `mean` is the mean spectrum `[energy]`, sum 1. Equal on every rank for equal arguments.
    /// # Source
    /// PyTorch's default for convolutions and linear layers. The last layer is ours: the loss starts at that of the mean
    /// spectrum.
    pub fn initial(spec: &Spec, mean: &[f64], seed: u64) -> Parameters {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values = Vec::with_capacity(spec.parameters());
        let mut bound = 0.0;
        for shape in spec.shapes() {
            let count = shape.count();
            match shape.start {
                Start::LogMean => values.extend(floored(mean).map(|m| m.ln() as f32)),
                Start::Small => {
                    let normal = Normal::new(0.0, LAST_LAYER_SD).expect("a positive width");
                    values.extend((0..count).map(|_| normal.sample(&mut rng)));
                    bound = 0.0;
                }
                Start::FanIn(fan_in) => {
                    bound = 1.0 / (fan_in as f32).sqrt();
                    draw_uniform(&mut rng, bound, count, &mut values);
                }
                Start::Bias => draw_uniform(&mut rng, bound, count, &mut values),
            }
        }
        Parameters::from_values(&values)
    }

    /// Puts `basis` in the place of the first and the last layer of every network of a blind spot. Rank-local.
    pub fn begin_with(&mut self, spec: &Blind, mean: &[f64], basis: &Basis) {
        let each = self.length / spec.folds;
        for values in self.values_mut().chunks_mut(each) {
            spec.set_basis(values, mean, basis);
        }
    }

    /// Parameters with the given values.
    pub fn from_values(values: &[f32]) -> Parameters {
        Parameters { tensor: Tensor::from_slice(values), length: values.len() }
    }

    /// `length` zeros, for a gradient to be written to.
    pub fn zeros(length: usize) -> Parameters {
        Parameters { tensor: Tensor::zeros([length as i64], (Kind::Float, tch::Device::Cpu)), length }
    }

    /// The buffer as a tensor that shares its memory.
    pub fn tensor(&self) -> Tensor {
        self.tensor.shallow_clone()
    }

    pub fn values(&self) -> &[f32] {
        // SAFETY: the tensor is contiguous f32 in host memory, owns `length` values and lives as long as `self`;
        // nothing writes to it while `self` is borrowed (networks read it, `values_mut` borrows mutably).
        unsafe { std::slice::from_raw_parts(self.tensor.data_ptr() as *const f32, self.length) }
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `values`; the mutable borrow keeps other slices away.
        unsafe { std::slice::from_raw_parts_mut(self.tensor.data_ptr() as *mut f32, self.length) }
    }
}

/// Adds `count` values, uniform within `bound`, the same as one thread would draw: each takes one word of the generator.
fn draw_uniform(rng: &mut ChaCha8Rng, bound: f32, count: usize, values: &mut Vec<f32>) {
    let uniform = Uniform::new_inclusive(-bound, bound).expect("a finite bound");
    let (first, word) = (values.len(), rng.get_word_pos());
    values.resize(first + count, 0.0);
    let parts = values[first..].par_chunks_mut(DRAWN).enumerate();
    parts.for_each(|(part, values)| {
        let mut rng = rng.clone();
        rng.set_word_pos(word + (part * DRAWN) as u128);
        values.fill_with(|| uniform.sample(&mut rng));
    });
    rng.set_word_pos(word + count as u128);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_draw_what_one_would() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut other = rng.clone();
        let mut values = Vec::new();
        let counts = [5, 2 * DRAWN + 77, 1];
        for count in counts {
            draw_uniform(&mut rng, 0.25, count, &mut values);
        }
        let uniform = Uniform::new_inclusive(-0.25f32, 0.25).unwrap();
        let expected = (0..counts.iter().sum()).map(|_| uniform.sample(&mut other));
        assert!(values.iter().copied().eq(expected));
        assert_eq!(rng, other);
    }
}
