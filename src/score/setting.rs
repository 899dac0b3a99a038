//! How a cube is judged: how far its prediction is believed, and what is left out around each block. Both are chosen by the
//! likelihood of pixels that are left out.

use ndarray::Array2;

use super::discs::Disc;
use super::left_out::LeftOut;
use super::quantile::quantiles;
use super::sample::Sample;
use super::trust::Trust;

/// Share of the pixels that take no part in regressions and covariances since they lie farthest, and how often they are
/// chosen anew.
const TRIMMED: f64 = 0.05;
const ROUNDS: usize = 2;
/// Share of the pixels, those of the lowest likelihood, that do not count in a choice.
const NOT_COUNTED: f64 = 0.3;
/// The gain, nats a pixel, that a prediction has to bring that is subtracted without a regression: its misfit stays.
const LEAST_GAIN: f64 = 0.25;
/// The gain, nats a pixel, that the removal of slow trends has to bring: noise alone gains up to 0.45 by it, and it takes a
/// part of large anomalies as well.
const TREND_GAIN: f64 = 0.6;
/// The loss, nats a pixel, at which a larger guard is dropped.
const GUARD_LOSS: f64 = 0.3;
/// Fields with fewer pixels have no guard unless it costs nothing, and those with still fewer have none.
const SMALL_FIELD: usize = 2000;
const TINY_FIELD: usize = 900;

/// What all steps of a search have in common.
pub struct Setting {
    pub discs: [Disc; 4],
    pub trust: Trust,
    /// Blocks on either side of one that do not judge it either.
    pub guard: usize,
    /// The pixels that judge others.
    weights: Array2<bool>,
    /// Mean log likelihood of most pixels, left out.
    likelihood: f64,
}

/// `sample` or itself without slow trends, whichever makes the pixels that are left out more likely, and its setting.
///
/// # Collective
pub fn best_setting(sample: Sample) -> (Sample, Setting) {
    let setting = best_trust(&sample);
    if let Some(without) = sample.without_trends()
        && Setting::new(&without, setting.trust).likelihood > setting.likelihood + TREND_GAIN
    {
        let setting = best_trust(&without).with_best_guard(&without);
        return (without, setting);
    }
    let setting = setting.with_best_guard(&sample);
    (sample, setting)
}

/// With the least guard, and the prediction believed as far as makes the pixels that are left out most likely.
///
/// # Collective
fn best_trust(sample: &Sample) -> Setting {
    let mut best: Option<Setting> = None;
    let trusts = [false, true].into_iter().flat_map(|beside| {
        let ways = [(false, false), (false, true), (true, true), (true, false)];
        ways.map(|(as_it_is, regressed)| Trust { as_it_is, regressed, beside })
    });
    for trust in trusts {
        let is_known = !(trust.as_it_is || trust.regressed) || !sample.regressors.is_empty();
        if !is_known || trust.beside && sample.beside.is_empty() {
            continue;
        }
        let setting = Setting::new(sample, trust);
        let gain = if trust.as_it_is && !trust.regressed { LEAST_GAIN } else { 1e-3 };
        if best.as_ref().is_none_or(|best| setting.likelihood > best.likelihood + gain) {
            best = Some(setting);
        }
    }
    best.expect("the mean spectrum always counts")
}

impl Setting {
    /// With the least guard.
    ///
    /// # Collective
    fn new(sample: &Sample, trust: Trust) -> Setting {
        let discs = Disc::sizes(sample.bands.is_line_scan());
        let (guard, _) = guards(sample.bands.field());
        let (weights, likelihood) = trimmed(sample, trust, &discs[1], guard);
        Setting { discs, trust, guard, weights, likelihood }
    }

    /// With the largest guard that costs little likelihood.
    ///
    /// # Collective
    fn with_best_guard(mut self, sample: &Sample) -> Setting {
        let (least, most) = guards(sample.bands.field());
        for guard in (least + 1..=most).rev() {
            let (weights, found) = trimmed(sample, self.trust, &self.discs[1], guard);
            if found > self.likelihood - GUARD_LOSS {
                (self.guard, self.weights) = (guard, weights);
                break;
            }
        }
        self
    }

    /// The pixels that judge others, without some.
    pub fn weights_without(&self, left_out: Option<&Array2<bool>>) -> Array2<bool> {
        match left_out {
            Some(left_out) => {
                ndarray::Zip::from(&self.weights).and(left_out).map_collect(|&weight, &out| weight && !out)
            }
            None => self.weights.clone(),
        }
    }
}

/// The least and the largest guard of a field: about a third of a scan, or half of the shorter side.
fn guards([height, width]: [usize; 2]) -> (usize, usize) {
    if height == 1 {
        return (1, 2);
    }
    let least = usize::from(height * width >= SMALL_FIELD);
    if height * width < TINY_FIELD {
        return (least, least);
    }
    let blocks = (height.min(width) as f64 / 6.0).ceil();
    (least, least.max((((0.47 * blocks - 1.0) / 2.0).round() as usize).max(1)))
}

/// The pixels that judge others, and the mean log likelihood of most pixels.
///
/// # Collective
fn trimmed(sample: &Sample, trust: Trust, disc: &Disc, guard: usize) -> (Array2<bool>, f64) {
    let bands = sample.bands;
    let mut weights = sample.counted[0].mapv(|value| !value.is_nan());
    let mut likelihood = f64::NEG_INFINITY;
    for _ in 0..ROUNDS {
        let pooled = LeftOut::new(sample, trust, disc, &weights, None, guard);
        let residuals = pooled.residuals(&pooled.models());
        let squares = residuals.squares();
        let cut = quantiles(bands.comm, &squares, &[1.0 - TRIMMED])[0];
        let least = quantiles(bands.comm, &residuals.likelihood, &[NOT_COUNTED])[0];
        let counted = |value: &f32| f64::from(*value) >= least;
        let chosen: Vec<f32> = residuals.likelihood.iter().map(|v| if counted(v) { *v } else { f32::NAN }).collect();
        let number = bands.comm.sum_u64(chosen.iter().filter(|v| !v.is_nan()).count() as u64).max(1);
        let largest = chosen.iter().filter(|v| !v.is_nan()).fold(1f64, |most, v| most.max(f64::from(v.abs())));
        let bound = bands.comm.max_f64(largest);
        likelihood = bands.sum(&chosen, bound).unwrap_or(f64::NEG_INFINITY) / number as f64;
        weights = bands.map(squares).mapv(|square| f64::from(square) <= cut);
    }
    (weights, likelihood)
}
