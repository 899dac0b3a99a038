//! The learning rate and the weight of the KL term by step.

/// The share of the first cycle in which the networks of the folds are one.
const TOGETHER: f64 = 0.2;

/// The learning rate of step `step` (from 0) of `steps`: a cosine up to `peak` over the first 30 %, a cosine down after.
///
/// # Source
/// Smith & Topin 2018; the shape and the divisors 25 and 1e4 are those of PyTorch's OneCycleLR.
pub fn learning_rate(step: usize, steps: usize, peak: f64) -> f64 {
    let (start, end) = (peak / 25.0, peak / 25.0 / 1e4);
    let last = (steps.max(2) - 1) as f64;
    let rise = (0.3 * steps as f64 - 1.0).max(1.0);
    let step = step as f64;
    let cosine = |from: f64, to: f64, share: f64| {
        to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * share.clamp(0.0, 1.0)).cos())
    };
    if step <= rise {
        cosine(start, peak, step / rise)
    } else {
        cosine(peak, end, (step - rise) / (last - rise).max(1.0))
    }
}

/// The weight of the Kullback-Leibler term in step `step` (from 0) of `steps`: it grows to `weight` over the first 20 %.
pub fn kl_weight(step: usize, steps: usize, weight: f64) -> f64 {
    weight * ((step + 1) as f64 / (0.2 * steps as f64).max(1.0)).min(1.0)
}

/// Whether a blind spot leaves out what it predicts badly, in step `step` (from 0) of `steps`: not before it knows most.
pub fn trims(step: usize, steps: usize) -> bool {
    step as f64 > 0.15 * steps as f64
}

/// Whether the networks of the folds are still one in step `step` (from 0) of a first cycle of `steps`: it learns what all pixels
/// have in common, and what little it learns of each by heart is forgotten at the high rates that follow.
pub fn are_together(step: usize, steps: usize) -> bool {
    (step as f64) < TOGETHER * steps as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cycle_rises_to_its_peak_and_ends_near_zero() {
        let rates: Vec<f64> = (0..100).map(|step| learning_rate(step, 100, 1.0)).collect();
        assert!((rates[0] - 0.04).abs() < 1e-12);
        assert!((rates[29] - 1.0).abs() < 1e-12);
        assert!(rates[99] < 1e-5);
        assert_eq!(kl_weight(9, 100, 2.0), 1.0);
        assert_eq!(kl_weight(50, 100, 2.0), 2.0);
    }

    #[test]
    fn folds_part_after_a_fifth_of_the_first_cycle() {
        assert_eq!([0, 19, 20, 300].map(|step| are_together(step, 100)), [true, true, false, false]);
    }
}
