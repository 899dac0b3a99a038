//! Plane waves taken away from maps one by one, the strongest in what is left first.

use std::f64::consts::TAU;

use ndarray::Array1;

use super::peaks::Spectra;

/// Waves at most.
const MOST: usize = 60;
/// So many waves after the best number the search ends.
const PATIENCE: usize = 12;
/// A wave takes away so much more than the strongest of the noise does.
const LEAST_GAIN: f64 = 6.0;
/// The least part of a wave's power that those before it do not hold.
const LEAST_OWN: f64 = 0.02;
/// The largest share of a field that is taken for anomalous.
pub const MOST_LEFT_OUT: f64 = 0.15;

/// What predicts the pixels of one fold.
pub struct WaveFit<'a> {
    maps: &'a [Array1<f64>],
    /// 1 for the pixels that are fitted to, else 0.
    weights: Array1<f64>,
    /// Each is orthogonal to those before it over the pixels that are fitted to, and of unit power there.
    waves: Vec<Array1<f64>>,
    /// What is left of each map.
    left: Vec<Array1<f64>>,
}

/// What the first waves predict.
pub struct Prefix {
    /// Mean square over the pixels that are judged.
    pub error: f64,
    /// Of the pixels of the fold, `[pixel, map]`.
    pub predicted: Vec<f32>,
}

impl<'a> WaveFit<'a> {
    /// Of `maps` without their mean, fitted where `weights` are 1.
    pub fn new(weights: Array1<f64>, maps: &'a [Array1<f64>]) -> WaveFit<'a> {
        let ones = Array1::ones(weights.len());
        let mut fit = WaveFit { maps, weights, waves: Vec::new(), left: maps.to_vec() };
        fit.take(ones);
        fit
    }

    /// What no, one, two and more waves predict of the pixels `own`, in lines of `width`, until more do not help those that are
    /// `judged`. Rank-local.
    pub fn grown(mut self, width: usize, spectra: &Spectra, own: &[usize], judged: &[bool]) -> Vec<Prefix> {
        let mut prefixes = vec![self.prefix(own, judged)];
        let mut best = 0;
        while prefixes.len() <= MOST.min(best + PATIENCE) && self.grow(width, spectra) {
            prefixes.push(self.prefix(own, judged));
            let last = prefixes.len() - 1;
            if prefixes[last].error < prefixes[best].error {
                best = last;
            }
        }
        prefixes
    }

    fn prefix(&self, own: &[usize], judged: &[bool]) -> Prefix {
        let judged = own.iter().zip(judged).filter(|(_, judged)| **judged);
        let squares = judged.map(|(&i, _)| self.left.iter().map(|map| map[i] * map[i]).sum());
        let maps = || self.maps.iter().zip(&self.left);
        Prefix {
            error: mean_of_most(squares.collect()),
            predicted: own.iter().flat_map(|&i| maps().map(move |(map, left)| (map[i] - left[i]) as f32)).collect(),
        }
    }

    /// Takes away one more wave; whether it is above the noise.
    fn grow(&mut self, width: usize, spectra: &Spectra) -> bool {
        let maps: Vec<Vec<f64>> = self.left.iter().map(|map| (map * &self.weights).to_vec()).collect();
        let [fy, fx] = spectra.strongest(&maps);
        let phase = |i: usize| TAU * (fy * (i / width) as f64 + fx * (i % width) as f64);
        let phases = Array1::from_shape_fn(self.weights.len(), phase);
        let gain = self.take(phases.mapv(f64::cos)) + self.take(phases.mapv(f64::sin));
        // Of unit noise; the strongest of as many waves as there are pixels has more by chance.
        let by_chance = 2.0 * self.left.len() as f64 + 2.0 * self.weights.sum().max(1.0).ln();
        gain > by_chance + LEAST_GAIN
    }

    /// Takes `wave` away from what is left; the power that it had over the pixels that are fitted to.
    fn take(&mut self, mut wave: Array1<f64>) -> f64 {
        let power = |wave: &Array1<f64>, weights: &Array1<f64>| (wave * weights).dot(wave);
        let whole = power(&wave, &self.weights);
        // Twice, as the first leaves rounding errors.
        for _ in 0..2 {
            let fitted = &wave * &self.weights;
            let amounts: Vec<f64> = self.waves.iter().map(|before| before.dot(&fitted)).collect();
            amounts.iter().zip(&self.waves).for_each(|(&amount, before)| wave.scaled_add(-amount, before));
        }
        let own = power(&wave, &self.weights);
        if own <= LEAST_OWN * whole {
            return 0.0;
        }
        wave /= own.sqrt();
        let fitted = &wave * &self.weights;
        let mut gain = 0.0;
        for map in &mut self.left {
            let amount = fitted.dot(map);
            map.scaled_add(-amount, &wave);
            gain += amount * amount;
        }
        self.waves.push(wave);
        gain
    }
}

/// The mean of `values`, of which the largest count as the largest of the others: anomalies are not to be predicted.
pub fn mean_of_most(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable_by(f64::total_cmp);
    let most = values[((1.0 - MOST_LEFT_OUT) * (values.len() - 1) as f64) as usize];
    values.iter().map(|value| value.min(most)).sum::<f64>() / values.len() as f64
}
