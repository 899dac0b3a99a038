//! Counts from one energy axis to another: shifted, rebinned and resampled in one step, conserving their sum.

use ndarray::{ArrayView1, ArrayViewMut1};

use crate::cube::Axis;

/// Positions closer than this to a channel's boundary, in channels, are on it: rounding must not mix two channels.
const ON_BOUNDARY: f64 = 1e-6;
/// A channel that reaches beyond the source by no more than this, in channels, is complete: axes calibrated in single
/// precision agree no better.
const BEYOND: f64 = 0.02;

/// The map from the energies at which a cube was recorded to those that the models see.
///
/// The counts of a channel are spread evenly over its interval of energies, and each target channel takes what lies
/// inside it. Sums are conserved. Where boundaries do not coincide, neighbouring target channels share a source
/// channel. With `n` source channels to a target channel, one of them cut at a fraction `f`, the variance of counting
/// noise becomes `1 - 2 f (1 - f) / n` of the counts, and the covariance of neighbours `f (1 - f) / n`. Shifts by whole
/// channels and rebinning by whole numbers leave counting noise as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Resampling {
    /// Lower boundary of the target's first channel, in source channels from the source's lower boundary.
    first: f64,
    /// Source channels per target channel.
    width: f64,
    source_ev: f64,
}

impl Resampling {
    /// From spectra on `source` to `target`, both in eV.
    pub fn new(source: &Axis, target: &Axis) -> Resampling {
        Resampling {
            first: (target.span()[0] - source.span()[0]) / source.scale,
            width: target.scale / source.scale,
            source_ev: source.scale,
        }
    }

    /// Fills `out` `[target]` from `values` `[source]`, whose energies read `shift_ev` too high.
    ///
    /// A channel that overlaps a missing one (not finite, or beyond the source) is NaN.
    pub fn spectrum(&self, values: ArrayView1<f32>, shift_ev: f64, mut out: ArrayViewMut1<f32>) {
        let shift = self.first + shift_ev / self.source_ev;
        let mut low = on_boundary(shift);
        for (j, out) in out.iter_mut().enumerate() {
            let high = on_boundary(shift + (j + 1) as f64 * self.width);
            let mut sum = 0.0;
            let mut i = low.floor();
            while i < high {
                let share = high.min(i + 1.0) - low.max(i);
                match values.get(i as usize).filter(|_| i >= 0.0) {
                    Some(&value) => sum += share * value as f64,
                    None if share > BEYOND => sum = f64::NAN,
                    None => (),
                }
                i += 1.0;
            }
            *out = sum as f32;
            low = high;
        }
    }
}

fn on_boundary(position: f64) -> f64 {
    let boundary = position.round();
    if (position - boundary).abs() < ON_BOUNDARY { boundary } else { position }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array1;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Poisson};

    fn axis(offset: f64, scale: f64, size: usize) -> Axis {
        Axis::energy_loss(offset, scale, size)
    }

    fn moved(source: &Axis, target: &Axis, values: &[f32], shift_ev: f64) -> Vec<f32> {
        let mut out = Array1::zeros(target.size);
        let values = Array1::from(values.to_vec());
        Resampling::new(source, target).spectrum(values.view(), shift_ev, out.view_mut());
        out.to_vec()
    }

    #[test]
    fn overlaps_by_hand() {
        let source = axis(100.0, 0.5, 6);
        let values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        // Two and two: [99.75, 100.75), ...
        let by_two = axis(100.25, 1.0, 3);
        assert_eq!(moved(&source, &by_two, &values, 0.0), [3.0, 12.0, 48.0]);
        // The axis reads one channel too high: what was read at 100.5 belongs to 100.0.
        let same = axis(100.0, 0.5, 5);
        assert_eq!(moved(&source, &same, &values, 0.5), [2.0, 4.0, 8.0, 16.0, 32.0]);
        // A quarter of a channel.
        assert_eq!(moved(&source, &same, &values, 0.125)[..2], [1.25, 2.5]);
        // Nothing was measured beyond the end.
        assert!(moved(&source, &same, &values, 1.0)[4].is_nan());
        // A missing channel spoils those that overlap it, and no others.
        let holed = [1.0, f32::NAN, 4.0, 8.0, 16.0, f32::INFINITY];
        let found = moved(&source, &by_two, &holed, 0.0);
        assert!(found[0].is_nan() && found[1] == 12.0 && !found[2].is_finite());
        assert_eq!(moved(&source, &axis(101.0, 0.5, 3), &holed, 1e-9)[..], [4.0, 8.0, 16.0]);
    }

    proptest! {
        #[test]
        fn counts_are_conserved(
            values in prop::collection::vec(0f32..1000.0, 40),
            scale in 0.2f64..3.0, start in 0.0f64..5.0, shift in -2.0f64..2.0,
        ) {
            // Zeros at both ends keep all counts inside the target.
            let source = axis(0.0, 1.0, 60);
            let mut padded = vec![0f32; 10];
            padded.extend(&values);
            padded.extend([0f32; 10]);
            let low = source.span()[0] + start - shift;
            let size = ((60.0 - start) / scale).floor() as usize;
            let target = axis(low + 0.5 * scale, scale, size);
            let found = moved(&source, &target, &padded, shift);
            let total: f64 = values.iter().map(|&v| v as f64).sum();
            let sum: f64 = found.iter().map(|&v| v as f64).sum();
            prop_assert!((sum - total).abs() <= 1e-5 * total.max(1.0), "{sum} {total}");
        }
    }

    #[test]
    fn the_noise_is_as_documented() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let counts = Poisson::new(400.0).unwrap();
        let size = 200_000;
        let values: Vec<f32> = (0..size).map(|_| counts.sample(&mut random) as f32).collect();
        let source = axis(0.0, 1.0, size);
        for (n, f) in [(1, 0.0), (1, 0.5), (1, 0.25), (2, 0.5), (4, 0.5), (4, 0.0)] {
            let target = axis(0.5 * (n - 1) as f64, n as f64, size / n - 1);
            let found = moved(&source, &target, &values, f);
            let mean = 400.0 * n as f64;
            let square = |i: usize, j: usize| (found[i] as f64 - mean) * (found[j] as f64 - mean);
            let pairs = found.len() - 1;
            let variance = (0..pairs).map(|i| square(i, i)).sum::<f64>() / pairs as f64;
            let covariance = (0..pairs).map(|i| square(i, i + 1)).sum::<f64>() / pairs as f64;
            let cut = f * (1.0 - f) / n as f64;
            assert!((variance / mean - (1.0 - 2.0 * cut)).abs() < 0.03, "{n} {f}: {variance}");
            assert!((covariance / mean - cut).abs() < 0.03, "{n} {f}: {covariance}");
        }
    }
}
