//! Sums over pixels that do not depend on how the pixels are spread over ranks and threads.
//!
//! Floating-point addition is not associative; integer addition is. Each contribution is rounded once, to a fixed point
//! that follows from a bound on the total. From there on, locally and over MPI, integers are added.

use anyhow::{Result, ensure};

use super::Comm;

/// A vector of sums in fixed point.
#[derive(Clone)]
pub struct ExactSum {
    values: Vec<i64>,
    /// Power of two: integer = contribution * scale.
    scale: f64,
    finite: bool,
}

impl ExactSum {
    /// Sums of `len` values; `bound`, equal on all ranks, is at least the magnitude of any total.
    ///
    /// The error of a total is at most (number of contributions) * `bound` / 2^61.
    pub fn new(len: usize, bound: f64) -> Self {
        let exponent = if bound > 0.0 && bound.is_finite() { 61 - (bound.log2().ceil() as i32) } else { 0 };
        ExactSum { values: vec![0; len], scale: 2f64.powi(exponent.clamp(-1000, 1000)), finite: bound.is_finite() }
    }

    /// Adds the contribution of one fixed unit of work (a scan line, a block anchored on the cube), never of all that a rank
    /// happens to own. Rank-local.
    pub fn add(&mut self, contribution: &[f64]) {
        assert_eq!(contribution.len(), self.values.len(), "one value per sum");
        let mut finite = true;
        for (sum, value) in self.values.iter_mut().zip(contribution) {
            finite &= value.is_finite();
            // It could only wrap if a contribution broke the bound.
            *sum = sum.wrapping_add(nearest(value * self.scale));
        }
        self.finite &= finite;
    }

    /// Adds the sums of another thread, which have the same bound. Rank-local.
    pub fn merge(&mut self, other: &ExactSum) {
        assert!(self.scale == other.scale, "sums to merge have one bound");
        self.finite &= other.finite;
        for (sum, value) in self.values.iter_mut().zip(&other.values) {
            *sum = sum.wrapping_add(*value);
        }
    }

    /// The sums over all ranks.
    ///
    /// # Collective
    /// # Errors
    /// A contribution on some rank was not finite.
    pub fn total(mut self, comm: &Comm) -> Result<Vec<f64>> {
        ensure!(
            !comm.any(!self.finite),
            "a sum over pixels met a value that is not finite; the input should have been cleaned before"
        );
        comm.sum_i64(&mut self.values);
        Ok(self.values.iter().map(|&sum| sum as f64 / self.scale).collect())
    }
}

/// The nearest integer to a value below 2^62, ties to even; any integer for one that is not finite.
fn nearest(value: f64) -> i64 {
    // Adding 1.5 * 2^52 leaves an integer in the lowest bits; `round_ties_even` would be a slow function call. Done once for
    // the upper half of the integer, once for the rest.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const HALF: f64 = (1u64 << 32) as f64;
    let integer = |shifted: f64| (shifted.to_bits() as i64).wrapping_sub(SHIFT.to_bits() as i64);
    let upper = value / HALF + SHIFT;
    let lower = (value - (upper - SHIFT) * HALF) + SHIFT;
    (integer(upper) << 32).wrapping_add(integer(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_and_grouping_gives_the_same_bits() {
        let parts: Vec<[f64; 2]> = (1..200).map(|i| [1.0 / i as f64, -(i as f64).sqrt()]).collect();
        let mut forward = ExactSum::new(2, 1e5);
        parts.iter().for_each(|part| forward.add(part));
        let mut halves = [ExactSum::new(2, 1e5), ExactSum::new(2, 1e5)];
        for (i, part) in parts.iter().enumerate().rev() {
            halves[i % 2].add(part);
        }
        let [mut merged, other] = halves;
        merged.merge(&other);
        assert_eq!(forward.values, merged.values);
        let expected: f64 = parts.iter().map(|part| part[0]).sum();
        assert!((forward.values[0] as f64 / forward.scale - expected).abs() < 1e-11);
    }

    #[test]
    fn integers_are_the_nearest_ones() {
        let mut value = 0.37f64;
        while value < 2e18 {
            for value in [value, -value, value.floor() + 0.5, 0.5 - value.floor()] {
                assert_eq!(nearest(value), value.round_ties_even() as i64, "{value}");
            }
            value *= 1.7;
        }
    }

    #[test]
    fn values_that_are_not_finite_are_remembered() {
        let mut sum = ExactSum::new(1, 1.0);
        sum.add(&[f64::NAN]);
        assert!(!sum.finite);
    }
}
