//! The sum of the micro-batches' gradients over all ranks.
//!
//! `exact` rounds every micro-batch's gradient to 32-bit integers, with one power-of-two scale per block of parameters that
//! follows from the largest magnitude in that block on any rank. The sum is then the same for any number of ranks and any
//! order. A block keeps 30 - log2(micro-batches) bits below its largest value; f32 keeps 24. `fast` adds floats in any order.

use mpi::collective::SystemOperation;
use rayon::prelude::*;

use super::Comm;

/// Parameters in a block, which share a scale.
pub const PER_SCALE: usize = 1024;
/// Parameters that are rounded, summed over ranks and scaled back at once: few enough to stay in a core's cache.
const PIECE: usize = 256 * PER_SCALE;

/// Sums gradient vectors of one length over ranks, in buffers that it keeps.
pub struct GradientSum {
    micro_batches: usize,
    largest: Vec<f32>,
    agreed: Vec<f32>,
    integers: Vec<i32>,
    summed: Vec<i32>,
    /// For `fast` alone, empty until its first call.
    floats: Vec<f32>,
}

impl GradientSum {
    /// For gradients of `parameters` values, formed in `micro_batches` per step over all ranks.
    pub fn new(parameters: usize, micro_batches: usize) -> Self {
        let blocks = parameters.div_ceil(PER_SCALE);
        GradientSum {
            micro_batches,
            largest: vec![0.0; blocks],
            agreed: vec![0.0; blocks],
            integers: vec![0; parameters.min(PIECE)],
            summed: vec![0; parameters.min(PIECE)],
            floats: Vec::new(),
        }
    }

    /// `total` becomes the sum over all ranks' micro-batches; a rank may have none.
    ///
    /// A value that is not finite makes its whole block NaN, on every rank.
    ///
    /// # Collective
    pub fn exact(&mut self, comm: &Comm, local: &[&[f32]], total: &mut [f32]) {
        self.largest.par_iter_mut().enumerate().for_each(|(block, largest)| {
            *largest = local.iter().map(|gradient| magnitude(part(gradient, block))).fold(0.0, f32::max);
        });
        comm.reduce_blocks("gradient scale", &self.largest, &mut self.agreed, SystemOperation::max());
        for (piece, total) in total.chunks_mut(PIECE).enumerate() {
            self.exact_piece(comm, local, piece * PIECE / PER_SCALE, total);
        }
    }

    /// [`exact`](Self::exact) for the piece `total` of the parameters, which begins with `block`.
    ///
    /// # Collective
    fn exact_piece(&mut self, comm: &Comm, local: &[&[f32]], block: usize, total: &mut [f32]) {
        let (agreed, micro_batches) = (&self.agreed[block..], self.micro_batches);
        let integers = &mut self.integers[..total.len()];
        let summed = &mut self.summed[..total.len()];
        integers.par_chunks_mut(PER_SCALE).enumerate().for_each(|(i, integers)| {
            let scale = scale(agreed[i], micro_batches);
            integers.fill(0);
            for gradient in local {
                for (sum, value) in integers.iter_mut().zip(part(gradient, block + i)) {
                    *sum = sum.wrapping_add(nearest(value * scale));
                }
            }
        });
        comm.reduce_blocks("gradient", integers, summed, SystemOperation::sum());
        total.par_chunks_mut(PER_SCALE).zip(summed.par_chunks(PER_SCALE)).zip(agreed.par_iter()).for_each(
            |((total, summed), &largest)| {
                let inverse = match largest {
                    0.0 => 0.0,
                    largest if largest.is_finite() => 1.0 / scale(largest, micro_batches),
                    _ => f32::NAN,
                };
                for (total, &sum) in total.iter_mut().zip(summed) {
                    *total = sum as f32 * inverse;
                }
            },
        );
    }

    /// As [`exact`](Self::exact), but adds floats: the last bits depend on the number of ranks.
    ///
    /// # Collective
    pub fn fast(&mut self, comm: &Comm, local: &[&[f32]], total: &mut [f32]) {
        if let [only] = local {
            return self.ranks_only(comm, only, total);
        }
        self.floats.resize(total.len(), 0.0);
        self.floats.par_chunks_mut(PER_SCALE).enumerate().for_each(|(block, sums)| {
            sums.fill(0.0);
            for gradient in local {
                for (sum, value) in sums.iter_mut().zip(part(gradient, block)) {
                    *sum += value;
                }
            }
        });
        self.ranks_only(comm, &self.floats, total);
    }

    /// The sum of one gradient per rank: neither of the other two can be faster.
    ///
    /// # Collective
    pub fn ranks_only(&self, comm: &Comm, local: &[f32], total: &mut [f32]) {
        comm.reduce_blocks("gradient", local, total, SystemOperation::sum());
    }
}

fn part(gradient: &[f32], block: usize) -> &[f32] {
    let start = block * PER_SCALE;
    &gradient[start..gradient.len().min(start + PER_SCALE)]
}

/// The largest magnitude; infinite if any value is not finite, since MPI's maximum has no rule for NaN.
fn magnitude(values: &[f32]) -> f32 {
    // Without their signs, floats are ordered as their bits are, NaN above infinity; integers are compared in vectors.
    let largest = values.iter().fold(0, |largest, value| largest.max(value.abs().to_bits() as i32));
    f32::from_bits(largest as u32).min(f32::INFINITY)
}

/// The nearest integer to a value below 2^31, ties to even; any integer for one that is not finite.
fn nearest(value: f32) -> i32 {
    // Adding 1.5 * 2^52 leaves the integer in the lowest bits; `round_ties_even` would be a slow function call.
    (f64::from(value) + 6_755_399_441_055_744.0).to_bits() as i32
}

/// The largest power of two by which `micro_batches` values of at most `largest` can be scaled and still sum to less than
/// 2^30.
fn scale(largest: f32, micro_batches: usize) -> f32 {
    if largest == 0.0 || !largest.is_finite() {
        return 0.0;
    }
    let bits = (largest as f64 * micro_batches as f64).log2().ceil() as i32;
    2f32.powi((30 - bits).clamp(-126, 126))
}

impl Comm {
    /// Sums small integers over ranks.
    ///
    /// # Collective
    pub fn sum_i32(&self, local: &[i32], total: &mut [i32]) {
        self.reduce_blocks("gradient", local, total, SystemOperation::sum());
    }

    /// Sums floats over ranks: the last bits depend on the number of ranks.
    ///
    /// # Collective
    pub fn sum_f32(&self, local: &[f32], total: &mut [f32]) {
        self.reduce_blocks("gradient", local, total, SystemOperation::sum());
    }

    /// The largest of each value over ranks; none may be NaN.
    ///
    /// # Collective
    pub fn max_f32(&self, local: &[f32], total: &mut [f32]) {
        self.reduce_blocks("gradient scale", local, total, SystemOperation::max());
    }

    /// Reduces `local` into `total` over ranks, in messages that a C int can count.
    ///
    /// # Collective
    fn reduce_blocks<T>(&self, operation: &'static str, local: &[T], total: &mut [T], op: SystemOperation)
    where
        T: mpi::datatype::Equivalence,
    {
        use mpi::collective::CommunicatorCollectives;
        let _waiting = self.watchdog.enter(operation);
        for (local, total) in local.chunks(super::BLOCK).zip(total.chunks_mut(super::BLOCK)) {
            self.inner.all_reduce_into(local, total, op);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_leaves_room_for_the_sum() {
        for largest in [1e-30f32, 0.3, 1.0, 1.5, 7e20] {
            for micro_batches in [1, 3, 4, 1000] {
                let most = largest as f64 * scale(largest, micro_batches) as f64 * micro_batches as f64;
                assert!(most <= (1u64 << 30) as f64 && most > (1u64 << 28) as f64 || largest == 1e-30);
            }
        }
    }

    #[test]
    fn integers_are_the_nearest_ones() {
        for value in [0.0f32, 0.5, 1.5, -0.5, -2.5, 3.49, -7e8, 1.07e9, 8388609.0] {
            assert_eq!(nearest(value), value.round_ties_even() as i32, "{value}");
        }
    }

    #[test]
    fn a_zero_block_differs_from_one_that_is_not_finite() {
        assert_eq!(magnitude(&[0.0, -2.0, 1.0]), 2.0);
        assert_eq!(magnitude(&[f32::NAN, 1.0]), f32::INFINITY);
        assert_eq!(magnitude(&[1.0, f32::NEG_INFINITY]), f32::INFINITY);
        assert_eq!(scale(0.0, 4), 0.0);
    }
}
