//! Plane waves taken away from maps one by one, the strongest in what is left first.

use std::f64::consts::TAU;

use nalgebra::DMatrix;
use ndarray::{Array1, Array2, Axis as Dim};

use super::line_offsets::{LineOffsets, LineSums};
use super::peaks::Spectra;
use crate::cube::neighbourhood;
use crate::spectrum::{Middle, median};

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
/// Lines are put in their places by so many of the strongest waves, fewer at first: while lines are out of place, weak waves are
/// but the blur of strong ones. How often by each number.
const PLACED_BY: [usize; 4] = [2, 4, 8, 16];
const STEPS: usize = 3;
/// Waves longer than this, in pixels, are no lattice: they do not tell where a line lies.
const LONGEST_PX: f64 = 20.0;
/// A pixel counts for the place of its line as if the square of its gradient were so many times the median at most.
const STEEPEST: f64 = 4.0;
/// Half the side of a place, pixels.
const PLACE_PX: usize = 2;
/// Ridge of the regression of maps on waves, pixels.
const RIDGE: f64 = 1.0;

/// What predicts the pixels of one fold.
pub struct WaveFit<'a> {
    maps: &'a [Array1<f64>],
    /// 1 for the pixels that are fitted to, else 0.
    weights: Array1<f64>,
    /// Pixels of a line.
    width: usize,
    offsets: LineOffsets,
    /// `[y, x]`, waves a pixel.
    frequencies: Vec<[f64; 2]>,
    /// Each is orthogonal to those before it over the pixels that are fitted to, and of unit power there.
    waves: Vec<Array1<f64>>,
    /// What is left of each map.
    left: Vec<Array1<f64>>,
}

/// What the first waves predict.
pub struct Prefix {
    /// Mean square over the pixels that are judged, the largest cut.
    pub error: f64,
    /// Mean square over the pixels of the fold around its worst place.
    pub worst: f64,
    /// Of the pixels of the fold, `[pixel, map]`.
    pub predicted: Vec<f32>,
}

impl<'a> WaveFit<'a> {
    /// Of `maps` without their mean, in lines of `width`, fitted where `weights` are 1; the lines have these `offsets`.
    pub fn new(weights: Array1<f64>, maps: &'a [Array1<f64>], width: usize, offsets: LineOffsets) -> WaveFit<'a> {
        let ones = Array1::ones(weights.len());
        let (frequencies, waves) = (Vec::new(), Vec::new());
        let mut fit = WaveFit { maps, weights, width, offsets, frequencies, waves, left: maps.to_vec() };
        fit.take(ones);
        fit
    }

    /// The offsets of the lines that make the strongest waves strongest, from those that they have on: by as many waves as fits
    /// `from_scratch`, or a small correction. Rank-local.
    pub fn placed(mut self, spectra: &Spectra, from_scratch: bool) -> LineOffsets {
        if self.weights.len() == self.width {
            return self.offsets;
        }
        let numbers = if from_scratch { &PLACED_BY[..] } else { &PLACED_BY[PLACED_BY.len() - 1..] };
        for &number in numbers {
            while self.frequencies.len() < number && self.grow(spectra) {}
            for _ in 0..STEPS {
                let mut moved = WaveFit::new(self.weights.clone(), self.maps, self.width, self.improved());
                self.frequencies.iter().for_each(|&frequency| _ = moved.take_frequency(frequency));
                if moved.power_left() >= self.power_left() {
                    break;
                }
                self = moved;
            }
            self = WaveFit::new(self.weights, self.maps, self.width, self.offsets);
        }
        self.offsets
    }

    /// What no, one, two and more waves predict of the pixels `own`, until more do not help those that are `judged`. Rank-local.
    pub fn grown(mut self, spectra: &Spectra, own: &[usize], judged: &[bool]) -> Vec<Prefix> {
        let mut prefixes = vec![self.prefix(own, judged)];
        let mut best = 0;
        while prefixes.len() <= MOST.min(best + PATIENCE) && self.grow(spectra) {
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
        let squares = judged.map(|(&i, _)| self.square(i));
        let maps = || self.maps.iter().zip(&self.left);
        Prefix {
            error: mean_of_most(squares.collect()),
            worst: self.worst(own),
            predicted: own.iter().flat_map(|&i| maps().map(move |(map, left)| (map[i] - left[i]) as f32)).collect(),
        }
    }

    /// What is left of a pixel, squared and summed over the maps.
    fn square(&self, i: usize) -> f64 {
        self.left.iter().map(|map| map[i] * map[i]).sum()
    }

    fn worst(&self, own: &[usize]) -> f64 {
        let mut squares = vec![f64::NAN; self.weights.len()];
        own.iter().for_each(|&i| squares[i] = self.square(i));
        let height = squares.len() / self.width;
        let around = |&i: &usize| {
            let columns = neighbourhood(i % self.width, PLACE_PX, self.width);
            let lines = neighbourhood(i / self.width, PLACE_PX, height);
            let near = lines.flat_map(|y| columns.clone().map(move |x| y * self.width + x)).map(|j| squares[j]);
            let (sum, count) =
                near.filter(|square| !square.is_nan()).fold((0.0, 0.0), |(s, n), square| (s + square, n + 1.0));
            sum / count
        };
        own.iter().map(around).fold(0.0, f64::max)
    }

    /// Takes away one more wave; whether it is above the noise.
    fn grow(&mut self, spectra: &Spectra) -> bool {
        let maps: Vec<Vec<f64>> = self.left.iter().map(|map| (map * &self.weights).to_vec()).collect();
        let gain = self.take_frequency(spectra.strongest(&maps, &self.offsets));
        // Of unit noise; the strongest of as many waves as there are pixels has more by chance.
        let by_chance = 2.0 * self.left.len() as f64 + 2.0 * self.weights.sum().max(1.0).ln();
        gain > by_chance + LEAST_GAIN
    }

    fn take_frequency(&mut self, frequency: [f64; 2]) -> f64 {
        self.frequencies.push(frequency);
        let phases = self.phases(frequency);
        self.take(phases.mapv(f64::cos)) + self.take(phases.mapv(f64::sin))
    }

    fn phases(&self, [fy, fx]: [f64; 2]) -> Array1<f64> {
        Array1::from_shape_fn(self.weights.len(), |i| {
            let [down, right] = self.offsets.of(i / self.width);
            TAU * (fy * ((i / self.width) as f64 + down) + fx * ((i % self.width) as f64 + right))
        })
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

    fn power_left(&self) -> f64 {
        self.left.iter().map(|map| (map * &self.weights).dot(map)).sum()
    }

    /// Offsets with which these waves leave less.
    fn improved(&self) -> LineOffsets {
        let gradients = self.gradients();
        let mut sums = vec![LineSums::default(); self.weights.len() / self.width];
        let weights = self.weights_of_places(&gradients);
        for (left, [along_y, along_x]) in self.left.iter().zip(&gradients) {
            for (i, &weight) in weights.iter().enumerate() {
                let (sum, [y, x]) = (&mut sums[i / self.width], [along_y[i] * weight, along_x[i] * weight]);
                sum.gradients = [sum.gradients[0] + y * y, sum.gradients[1] + y * x, sum.gradients[2] + x * x];
                sum.left = [sum.left[0] + y * left[i], sum.left[1] + x * left[i]];
            }
        }
        let fitted = (0..self.weights.len()).filter(|&i| self.weights[i] > 0.0);
        let squares = fitted.map(|i| self.left.iter().map(|map| map[i] * map[i]).sum());
        let noise = mean_of_most(squares.collect()) / self.left.len().max(1) as f64;
        self.offsets.improved(&sums, noise)
    }

    /// The weight that each pixel has for the place of its line. Steep pixels count as less steep ones: a border between two phases
    /// has a course of its own, by which no lattice is moved.
    fn weights_of_places(&self, gradients: &[[Array1<f64>; 2]]) -> Vec<f64> {
        let square = |i: usize| -> f64 { gradients.iter().flatten().map(|along| along[i] * along[i]).sum() };
        let squares: Vec<f64> = (0..self.weights.len()).map(square).collect();
        let fitted = squares.iter().zip(&self.weights).filter(|(_, weight)| **weight > 0.0);
        let most = STEEPEST * median(fitted.map(|(&square, _)| square), Middle::Upper);
        let share = |square: f64| if square > most { most / square } else { 1.0 };
        squares.iter().zip(&self.weights).map(|(&square, weight)| weight * share(square)).collect()
    }

    /// The gradients along y and x of what the waves of a lattice predict of each map, for a move by a pixel.
    fn gradients(&self) -> Vec<[Array1<f64>; 2]> {
        let pixels = self.weights.len();
        // The mean, then cosine and sine of each wave.
        let mut columns = Array2::ones((pixels, 1 + 2 * self.frequencies.len()));
        for (k, &frequency) in self.frequencies.iter().enumerate() {
            let phases = self.phases(frequency);
            columns.column_mut(1 + 2 * k).assign(&phases.mapv(f64::cos));
            columns.column_mut(2 + 2 * k).assign(&phases.mapv(f64::sin));
        }
        let fitted = &columns * &self.weights.view().insert_axis(Dim(1));
        let products = fitted.t().dot(&columns);
        let size = products.nrows();
        let ridge = |i: usize, k: usize| if i == k { RIDGE } else { 0.0 };
        let factors = DMatrix::from_fn(size, size, |i, k| products[[i, k]] + ridge(i, k)).cholesky();
        let gradient = |map: &Array1<f64>| {
            let right = fitted.t().dot(map);
            let amounts =
                factors.as_ref().map(|factors| factors.solve(&DMatrix::from_column_slice(size, 1, &right.to_vec())));
            let mut found = [0, 1].map(|_| Array1::zeros(pixels));
            for (k, frequency) in self.frequencies.iter().enumerate() {
                let (Some(amounts), true) = (&amounts, frequency[0].hypot(frequency[1]) * LONGEST_PX > 1.0) else {
                    continue;
                };
                let (cosine, sine) = (amounts[(1 + 2 * k, 0)], amounts[(2 + 2 * k, 0)]);
                for (gradient, f) in found.iter_mut().zip(frequency) {
                    gradient.scaled_add(TAU * f * sine, &columns.column(1 + 2 * k));
                    gradient.scaled_add(-TAU * f * cosine, &columns.column(2 + 2 * k));
                }
            }
            found
        };
        self.maps.iter().map(gradient).collect()
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
