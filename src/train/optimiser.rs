//! Adam over the flat parameters, with clipping.

use rayon::prelude::*;

/// Values that one thread works on at once. The norm is summed by these blocks, so their size must not vary.
const BLOCK: usize = 1 << 14;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The numbers of one step of Adam: `w -= rate * m / (sqrt(v) * inverse + epsilon)`.
pub struct Adam {
    pub rate: f32,
    pub inverse: f32,
    pub beta1: f32,
    pub beta2: f32,
    /// 1 - beta1.
    pub rest1: f32,
    /// 1 - beta2.
    pub rest2: f32,
    pub epsilon: f32,
}

impl Adam {
    /// For step `step`, from 1.
    pub fn of(learning_rate: f64, step: usize) -> Adam {
        // In f32, 1 - beta2 would lose digits.
        let correction1 = 1.0 - BETA1.powi(step as i32);
        let correction2 = 1.0 - BETA2.powi(step as i32);
        Adam {
            rate: (learning_rate / correction1) as f32,
            inverse: (1.0 / correction2.sqrt()) as f32,
            beta1: BETA1 as f32,
            beta2: BETA2 as f32,
            rest1: (1.0 - BETA1) as f32,
            rest2: (1.0 - BETA2) as f32,
            epsilon: EPSILON as f32,
        }
    }
}

/// The Euclidean norm of a gradient, the same for any number of threads.
pub fn norm(gradient: &[f32]) -> f64 {
    let blocks: Vec<f64> =
        gradient.par_chunks(BLOCK).map(|block| block.iter().map(|&g| g as f64 * g as f64).sum()).collect();
    blocks.iter().sum::<f64>().sqrt()
}

/// One step of Adam, in place; `step` counts from 1 and `gradient` is scaled by `factor` first.
///
/// # Source
/// Kingma & Ba 2015, algorithm 1.
pub fn adam(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    factor: f64,
    learning_rate: f64,
    step: usize,
) {
    let Adam { rate, inverse, beta1, beta2, rest1, rest2, epsilon } = Adam::of(learning_rate, step);
    let factor = factor as f32;
    weights
        .par_chunks_mut(BLOCK)
        .zip(first.par_chunks_mut(BLOCK))
        .zip(second.par_chunks_mut(BLOCK))
        .zip(gradient.par_chunks(BLOCK))
        .for_each(|(((weights, first), second), gradient)| {
            for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradient) {
                let g = g * factor;
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * g * g;
                *w -= rate * *m / (v.sqrt() * inverse + epsilon);
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_by_the_learning_rate_against_the_gradient() {
        let (mut w, mut m, mut v) = (vec![1.0f32, 1.0], vec![0.0; 2], vec![0.0; 2]);
        adam(&mut w, &mut m, &mut v, &[3.0, -0.5], 1.0, 0.01, 1);
        assert!((w[0] - 0.99).abs() < 1e-6 && (w[1] - 1.01).abs() < 1e-6);
    }

    #[test]
    fn adam_agrees_with_f64_over_many_steps() {
        let (mut w, mut m, mut v) = (vec![0.5f32], vec![0.0], vec![0.0]);
        let (mut w64, mut m64, mut v64) = (0.5f64, 0.0, 0.0);
        for t in 1..=200 {
            let g = (t as f64 * 0.37).sin();
            adam(&mut w, &mut m, &mut v, &[g as f32], 1.0, 1e-2, t);
            m64 = 0.9 * m64 + 0.1 * g;
            v64 = 0.999 * v64 + 0.001 * g * g;
            let (c1, c2) = (1.0 - 0.9f64.powi(t as i32), 1.0 - 0.999f64.powi(t as i32));
            w64 -= 1e-2 * (m64 / c1) / ((v64 / c2).sqrt() + 1e-8);
        }
        assert!((w[0] as f64 - w64).abs() < 1e-5);
    }
}
