//! A field as a sum of plane waves: what repeats in it, such as a lattice, and what changes slowly.
//!
//! Cells of pixels come in folds. What predicts a fold has seen neither its pixels nor those within an anomaly's reach: not for
//! the choice of the waves, nor for their amounts. The number of waves is the one that predicts all folds best. Pixels that are
//! predicted badly are then left out for the others' sake, and all is done again. A fold takes the lines to lie where they were
//! scanned, or where the waves say that they do, whichever predicts it better.

use ndarray::Array1;
use rayon::prelude::*;

use super::line_offsets::LineOffsets;
use super::peaks::Spectra;
use super::wave_fit::{MOST_LEFT_OUT, Prefix, WaveFit, mean_of_most};
use crate::comm::Comm;
use crate::cube::neighbourhood;
use crate::shard::owned;

/// Side of the cells, in pixels. Those at the border of a field are half as wide, as they are seen from one side alone.
const CELL: usize = 12;
/// The reach of an anomaly around a cell, in pixels.
const GUARD: usize = 2;
const FOLDS: usize = 4;
/// How often all is done, each time without the pixels that were predicted badly before: in fields of up to so many pixels, and
/// in larger ones, of which anomalies are a small part.
const ROUNDS: [usize; 2] = [3, 1];
const SMALL_FIELD: usize = 1 << 14;
/// How much worse than the lines as scanned their places may predict the worst place.
const MOST_WORSE: f64 = 1.1;
/// Badly predicted pixels are so many deviations above the median, on average over a square of this reach.
const FAR: f64 = 3.0;
const REACH: usize = 1;
/// A deviation is this times the distance from the lower quartile to the median.
const NORMAL: f64 = 1.4826;

/// The maps of a whole field.
pub struct Maps {
    /// `[y, x]`.
    pub size: [usize; 2],
    /// Of each component, in C order and units of noise; 0 where a pixel is not valid.
    pub maps: Vec<Array1<f64>>,
    pub valid: Vec<bool>,
}

impl Maps {
    /// What the waves in the rest of the field predict of each pixel, like `maps`; the same on every rank, which share the work.
    ///
    /// # Collective
    ///
    /// # Source
    /// Orthogonal matching pursuit: Pati, Rezaiifar & Krishnaprasad, Asilomar 27 (1993) 40; held-out choice of its length:
    /// Stone, J. R. Stat. Soc. B 36 (1974) 111.
    pub fn predicted_by_waves(&self, comm: &Comm) -> Vec<Array1<f64>> {
        let spectra = Spectra::new(self.size);
        let folds: Vec<usize> = (0..self.valid.len()).map(|i| self.fold(i)).collect();
        let [few, many] = ROUNDS;
        let rounds = if self.valid.len() <= SMALL_FIELD { few } else { many };
        let mut kept = self.valid.clone();
        let mut predicted = Vec::new();
        // From the whole field: a fold sees half of some lines, which is too little to tell a line from one a period away.
        let places = WaveFit::new(self.weights(|i| kept[i]), &self.maps, self.size[1], LineOffsets::none(self.size[0]));
        let mut places = vec![places.placed(&spectra, true); FOLDS];
        for _ in 0..rounds {
            predicted = self.round(comm, &spectra, &folds, &kept, &mut places);
            kept = self.well_predicted(&predicted);
        }
        predicted
    }

    /// 1 for the pixels that are `fitted` to, else 0.
    fn weights(&self, fitted: impl Fn(usize) -> bool) -> Array1<f64> {
        (0..self.valid.len()).map(|i| f64::from(u8::from(fitted(i)))).collect()
    }

    fn fold(&self, i: usize) -> usize {
        let cell = |at: usize| (at + CELL / 2) / CELL;
        let [y, x] = [cell(i / self.size[1]), cell(i % self.size[1])];
        if self.size[0] == 1 { x % FOLDS } else { y % 2 * 2 + x % 2 }
    }

    /// Whether the pixel is within an anomaly's reach of the fold.
    fn is_near(&self, i: usize, folds: &[usize], fold: usize) -> bool {
        let [height, width] = self.size;
        let columns = neighbourhood(i % width, GUARD, width);
        neighbourhood(i / width, GUARD, height).any(|y| columns.clone().any(|x| folds[y * width + x] == fold))
    }

    /// Predictions by the waves that are fitted to the pixels that are `kept`. `places` are where the lines lie for each fold.
    ///
    /// # Collective
    fn round(
        &self,
        comm: &Comm,
        spectra: &Spectra,
        folds: &[usize],
        kept: &[bool],
        places: &mut [LineOffsets],
    ) -> Vec<Array1<f64>> {
        let [height, width] = self.size;
        let mine = owned(FOLDS, comm.rank(), comm.size());
        let fitted = mine.clone().into_par_iter().map(|fold| {
            let weights = self.weights(|i| kept[i] && !self.is_near(i, folds, fold));
            let own: Vec<usize> = (0..folds.len()).filter(|&i| folds[i] == fold).collect();
            let judged: Vec<bool> = own.iter().map(|&i| kept[i]).collect();
            let fit = |offsets: &LineOffsets| WaveFit::new(weights.clone(), &self.maps, width, offsets.clone());
            let grown = |offsets: LineOffsets| (fit(&offsets).grown(spectra, &own, &judged), offsets);
            let scanned = LineOffsets::none(height);
            if places[fold].are_none() {
                return grown(scanned);
            }
            let placed = grown(fit(&places[fold]).placed(spectra, false));
            let scanned = grown(scanned);
            if is_nearer(&placed.0, &scanned.0) { placed } else { scanned }
        });
        let (fitted, found): (Vec<Vec<Prefix>>, Vec<LineOffsets>) = fitted.collect::<Vec<_>>().into_iter().unzip();
        places[mine].clone_from_slice(&found);
        let errors: Vec<Vec<f64>> =
            fitted.iter().map(|prefixes| prefixes.iter().map(|prefix| prefix.error).collect()).collect();
        let errors: Vec<Vec<f64>> = comm.all_gather(&errors).concat();
        // A fit that has ended goes on as it is.
        let error = |count: usize| errors.iter().map(|of_fold| of_fold[count.min(of_fold.len() - 1)]).sum::<f64>();
        let longest = errors.iter().map(Vec::len).max().unwrap_or(1);
        let best = (0..longest).min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(0);
        let chosen: Vec<Vec<f32>> = fitted
            .into_iter()
            .map(|mut prefixes| prefixes.swap_remove(best.min(prefixes.len() - 1)).predicted)
            .collect();
        let chosen: Vec<Vec<f32>> = comm.all_gather(&chosen).concat();
        let mut next = [0; FOLDS];
        let mut predicted = vec![Array1::zeros(folds.len()); self.maps.len()];
        for (i, &fold) in folds.iter().enumerate() {
            for map in &mut predicted {
                map[i] = f64::from(chosen[fold][next[fold]]);
                next[fold] += 1;
            }
        }
        predicted
    }

    /// How far off what is `predicted` is from each pixel, squared and summed over the maps; 0 where a pixel is not valid.
    fn squares(&self, predicted: &[Array1<f64>]) -> Vec<f64> {
        let square = |i: usize| -> f64 {
            self.maps.iter().zip(predicted).map(|(map, predicted)| (map[i] - predicted[i]).powi(2)).sum()
        };
        (0..self.valid.len()).map(|i| if self.valid[i] { square(i) } else { 0.0 }).collect()
    }

    /// The mean over the valid pixels of the squares of what is `predicted`, the largest cut.
    pub fn error(&self, predicted: &[Array1<f64>]) -> f64 {
        let squares = self.squares(predicted).into_iter().zip(&self.valid);
        mean_of_most(squares.filter(|(_, valid)| **valid).map(|(square, _)| square).collect())
    }

    /// The valid pixels but those that are, with the pixels around, predicted much worse than most.
    fn well_predicted(&self, predicted: &[Array1<f64>]) -> Vec<bool> {
        let [height, width] = self.size;
        let squares = self.squares(predicted);
        let around = |i: usize| {
            let columns = neighbourhood(i % width, REACH, width);
            let places =
                neighbourhood(i / width, REACH, height).flat_map(|y| columns.clone().map(move |x| y * width + x));
            let (sum, count) =
                places.filter(|&j| self.valid[j]).fold((0.0, 0.0), |(s, n), j| (s + squares[j], n + 1.0));
            sum / f64::max(count, 1.0)
        };
        let means: Vec<f64> = (0..squares.len()).into_par_iter().map(around).collect();
        let mut sorted: Vec<f64> =
            means.iter().zip(&self.valid).filter(|(_, valid)| **valid).map(|(&mean, _)| mean).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            sorted.get((share * sorted.len().saturating_sub(1) as f64) as usize).copied().unwrap_or_default()
        };
        let far = at(0.5) + FAR * NORMAL * (at(0.5) - at(0.25));
        let most = far.max(at(1.0 - MOST_LEFT_OUT));
        means.iter().zip(&self.valid).map(|(&mean, &valid)| valid && mean <= most).collect()
    }
}

/// Whether the best of `a` predicts better than the best of `b`, and its worst place, which raises false alarms, hardly worse.
fn is_nearer(a: &[Prefix], b: &[Prefix]) -> bool {
    let best = |prefixes: &[Prefix]| -> (f64, f64) {
        let best = prefixes.iter().min_by(|a, b| a.error.total_cmp(&b.error)).expect("no wave is a prefix too");
        (best.error, best.worst)
    };
    let (a, b) = (best(a), best(b));
    a.0 < b.0 && a.1 < MOST_WORSE * b.1
}
