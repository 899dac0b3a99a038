//! The zero-loss peak of a low-loss spectrum: its energy, and its share of the electrons.

use ndarray::ArrayView1;

use crate::cube::{Axis, neighbourhood};

/// The first smoothing, full width at half maximum, eV and channels: wide enough for a peak to win over a spike.
const FIRST_EV: f64 = 0.8;
const FIRST_CHANNELS: f64 = 3.0;
/// The peak exceeds the lower quartile of the channels within the bound by this factor.
const MIN_CONTRAST: f32 = 4.0;

/// The energy (eV) of the zero-loss peak of `spectrum` `[energy]`, searched within `bound_ev` of 0; `None` where no
/// peak stands out there.
///
/// Spikes are not taken for the peak: each channel is limited to twice the median of it and its two neighbours, and the
/// spectrum is smoothed with the peak's own width. The maximum to a fraction of a channel comes from the parabola
/// through the logarithms of three smoothed channels, which is exact for a Gaussian.
pub fn zero_loss_ev(spectrum: ArrayView1<f32>, energy: &Axis, bound_ev: f64) -> Option<f64> {
    let near = energy.indices(-bound_ev, bound_ev);
    if near.len() < 5 {
        return None;
    }
    let counts: Vec<f32> = spectrum.iter().map(|&v| if v.is_finite() { v.max(0.0) } else { 0.0 }).collect();
    let middle = |i: usize| {
        let (a, b) = (counts[i.saturating_sub(1)], counts[(i + 1).min(counts.len() - 1)]);
        a.max(b).min(a.min(b).max(counts[i]))
    };
    let medians: Vec<f32> = (0..counts.len()).map(middle).collect();
    let highest = near.clone().map(|i| medians[i]).fold(0.0, f32::max);
    let mut sorted = medians[near.clone()].to_vec();
    sorted.sort_by(f32::total_cmp);
    if highest <= MIN_CONTRAST * sorted[sorted.len() / 4] {
        return None;
    }
    // The square root gives all channels the same noise, and shrinks what is left of a spike.
    let roots: Vec<f64> =
        (counts.iter().zip(&medians)).map(|(&count, &median)| f64::from(count.min(2.0 * median)).sqrt()).collect();
    let first = (FIRST_EV / energy.scale).max(FIRST_CHANNELS);
    let found = highest_of(near.clone(), |i| smoothed(&roots, i, first));
    // A Gaussian as wide as the peak is least sensitive to noise; less than two channels wide it would follow the
    // channels. The root of a Gaussian is a Gaussian sqrt(2) times as wide.
    let own = width(&medians, found, first.ceil() as usize).max(2.0) * 2f64.sqrt();
    let reach = first.ceil() as usize;
    let close = found.saturating_sub(reach).max(near.start)..(found + reach + 1).min(near.end);
    let top = highest_of(close, |i| smoothed(&roots, i, own));
    // A maximum at the end of the searched range is the flank of something else.
    if top <= near.start || top + 1 >= near.end || top == 0 || top + 1 >= counts.len() {
        return None;
    }
    let [a, b, c] = [top - 1, top, top + 1].map(|i| smoothed(&roots, i, own).ln());
    let curvature = a - 2.0 * b + c;
    let part = if curvature < 0.0 { 0.5 * (a - c) / curvature } else { 0.0 };
    Some(energy.value(top) + energy.scale * part.clamp(-0.5, 0.5))
}

/// The first of the channels where `value` is highest.
fn highest_of(channels: std::ops::Range<usize>, value: impl Fn(usize) -> f64) -> usize {
    let mut best = (channels.start, f64::NEG_INFINITY);
    for i in channels {
        let value = value(i);
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}

/// The mean around channel `i` weighted by a Gaussian of `width` channels, full width at half maximum.
fn smoothed(values: &[f64], i: usize, width: f64) -> f64 {
    let sigma = width / 2.3548;
    let reach = (3.0 * sigma).ceil() as usize;
    let near = neighbourhood(i, reach, values.len());
    let (mut sum, mut weights) = (0.0, 0.0);
    for j in near {
        let weight = (-0.5 * ((j as f64 - i as f64) / sigma).powi(2)).exp();
        sum += weight * values[j];
        weights += weight;
    }
    sum / weights
}

/// The full width at half maximum, in channels, of the peak within `reach` of channel `i`.
fn width(values: &[f32], i: usize, reach: usize) -> f64 {
    let near = neighbourhood(i, reach, values.len());
    let top = highest_of(near, |j| f64::from(values[j]));
    let half = 0.5 * values[top];
    let below = values[..top].iter().rev().take_while(|&&v| v >= half).count();
    let above = values[top..].iter().take_while(|&&v| v >= half).count();
    (below + above) as f64
}

/// The thickness in inelastic mean free paths: `ln(I / I_0)`, with `I` all counts and `I_0` those up to `threshold_ev`
/// past the zero-loss peak at `zero_loss_ev`. NaN where the peak holds no counts.
///
/// # Source
/// Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed., sec. 5.1 (log-ratio).
pub fn log_ratio(spectrum: ArrayView1<f32>, energy: &Axis, zero_loss_ev: f64, threshold_ev: f64) -> f32 {
    let end = (zero_loss_ev + threshold_ev - energy.span()[0]) / energy.scale;
    let (mut total, mut elastic) = (0.0, 0.0);
    for (i, &value) in spectrum.iter().enumerate() {
        if value.is_finite() {
            total += f64::from(value);
            elastic += f64::from(value) * (end - i as f64).clamp(0.0, 1.0);
        }
    }
    if elastic > 0.0 && total > 0.0 { (total / elastic).ln() as f32 } else { f32::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array1;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Poisson};

    fn axis(offset: f64, scale: f64, size: usize) -> Axis {
        Axis::energy_loss(offset, scale, size)
    }

    /// A zero-loss peak of `peak` counts at `at` and a plasmon, integrated over channels; eV.
    fn expected(energy: &Axis, at: f64, fwhm: f64, peak: f64) -> Vec<f64> {
        let density = |e: f64| {
            let zero_loss = (-0.5 * ((e - at) / (fwhm / 2.3548)).powi(2)).exp() * 0.9394 / fwhm;
            let plasmon = 0.4 * (-0.5 * ((e - at - 22.0) / 4.0).powi(2)).exp() / 10.0;
            peak * (zero_loss + plasmon)
        };
        let inside = |e: f64| -> f64 {
            let parts = (0..16).map(|k| density(e + energy.scale * ((k as f64 + 0.5) / 16.0 - 0.5)));
            parts.sum::<f64>() * energy.scale / 16.0
        };
        energy.values().into_iter().map(inside).collect()
    }

    /// Root mean square and largest error, eV, over shifts of -3 to 3 eV.
    fn errors(energy: &Axis, fwhm: f64, peak: f64, spikes: usize) -> (f64, f64) {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let (mut square, mut largest, runs) = (0.0, 0f64, 300);
        for run in 0..runs {
            let at = -3.0 + 6.0 * run as f64 / runs as f64;
            let mut counts: Array1<f32> = expected(energy, at, fwhm, peak)
                .iter()
                .map(|&mean| if mean > 0.0 { Poisson::new(mean).unwrap().sample(&mut random) as f32 } else { 0.0 })
                .collect();
            for spike in 0..spikes {
                // Each one channel wide and far above the peak, anywhere but on its very top.
                let part = energy.size / spikes;
                let channel = spike * part + random.random_range(0..part - 3);
                if (energy.value(channel) - at).abs() > 1.5 * energy.scale {
                    counts[channel] += 50.0 * peak as f32;
                }
            }
            let error = zero_loss_ev(counts.view(), energy, 10.0).expect("a peak") - at;
            square += error * error;
            largest = largest.max(error.abs());
        }
        ((square / runs as f64).sqrt(), largest)
    }

    #[test]
    fn a_noisy_peak_is_found_to_a_fraction_of_a_channel() {
        // (dispersion, width, counts in the peak; allowed errors in eV: rms, largest)
        for (scale, fwhm, peak, rms, most) in [
            (0.25, 1.0, 1e5, 0.003, 0.008),
            (0.25, 1.0, 1e3, 0.02, 0.06),
            (0.05, 0.6, 1e4, 0.004, 0.012),
            (0.69, 1.2, 1e6, 0.002, 0.006),
            // As narrow as a channel.
            (0.69, 0.75, 1e6, 0.02, 0.04),
        ] {
            let energy = axis(-25.0, scale, (75.0 / scale) as usize);
            let found = errors(&energy, fwhm, peak, 0);
            println!("{scale} eV, {peak:e} counts: {found:?}");
            assert!(found.0 < rms && found.1 < most, "{scale} {peak}: {found:?}");
        }
    }

    #[test]
    fn spikes_are_not_taken_for_the_peak() {
        // On the flanks of a narrow peak they cost a fraction of a channel.
        for (scale, fwhm) in [(0.25, 1.0), (0.05, 0.6)] {
            let energy = axis(-25.0, scale, (75.0 / scale) as usize);
            let found = errors(&energy, fwhm, 1e4, 12);
            println!("{scale} eV with spikes: {found:?}");
            assert!(found.0 < 0.06 && found.1 < 0.2, "{found:?}");
        }
    }

    #[test]
    fn without_a_peak_there_is_no_energy() {
        let energy = axis(-5.0, 0.25, 200);
        assert_eq!(zero_loss_ev(Array1::zeros(200).view(), &energy, 5.0), None);
        let falling = Array1::from_shape_fn(200, |i| (200 - i) as f32);
        assert_eq!(zero_loss_ev(falling.view(), &energy, 4.0), None);
        let mut lone = Array1::zeros(200);
        lone[20] = 1e6;
        assert_eq!(zero_loss_ev(lone.view(), &energy, 5.0), None);
        assert_eq!(zero_loss_ev(falling.view(), &axis(400.0, 0.25, 200), 5.0), None);
    }

    #[test]
    fn the_log_ratio_counts_to_a_fraction_of_a_channel() {
        let energy = axis(-1.0, 1.0, 4);
        let counts = Array1::from(vec![0.0, 8.0, 4.0, 4.0]);
        // Channels end at -0.5, 0.5, 1.5, 2.5: 0.5 + 0.25 takes a quarter of the third.
        let found = log_ratio(counts.view(), &energy, 0.5, 0.25);
        assert!((found - (16f32 / 9.0).ln()).abs() < 1e-6);
        assert!(log_ratio(Array1::zeros(4).view(), &energy, 0.0, 1.0).is_nan());
    }
}
