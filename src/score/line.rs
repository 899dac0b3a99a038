//! The features of one scan line: what it contributes to the scores before anything is known of the other lines.

use std::ops::Range;

use anyhow::{Result, ensure};
use ndarray::{Array1, ArrayView1, ArrayView2, s};

use super::features::{Projection, Residual};
use super::line_shift::{information, line_shift};
use super::pcc::pcc_score;
use crate::config::Window;
use crate::cube::Axis;
use crate::spectrum::{MIN_CHANNELS, shifted};

/// Numbers kept per pixel over all windows: the memory that scoring may use (held by tests/memory.rs).
const MAX_COLUMNS: usize = 64;
const SHIFT_COEFFICIENTS: usize = 24;
const COMPOSITION_COEFFICIENTS: usize = 8;
/// Predictions kept per window: the model's counts before it and in it.
const PREDICTED: usize = 2;
/// Log ratios of predicted counts to the mean spectrum's are clamped to this.
const MAX_PREDICTED: f64 = 3.0;
/// With more windows, too few coefficients would be left for each.
const MAX_WINDOWS: usize = 16;
/// An edge is strong if it has this share of the strongest edge's information.
const STRONG: f64 = 0.1;

/// A family of anomalies, by what it leaves in a residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// An edge at another energy or of another fine structure; amounts and backgrounds are free.
    Shift,
    /// An edge of another height.
    Composition,
}

/// Turns scan lines of one cube into features. Windows, reference edges and cosines are fixed beforehand.
#[derive(Clone, Debug)]
pub struct LineScorer {
    energy: Axis,
    /// The cube's mean spectrum, `[E]` counts per pixel.
    mean: Array1<f32>,
    windows: Vec<ScoredWindow>,
    /// Index of the window that `pcc` is taken in.
    pcc_window: usize,
    /// Columns of a pixel: the coefficients of each window, then the predictions of each.
    num_columns: usize,
}

/// A window, and the projections of its residuals.
#[derive(Clone, Debug)]
pub(super) struct ScoredWindow {
    pub window: Window,
    pub shift: Projection,
    pub composition: Projection,
    /// The background directions of the cube's mean spectrum, common to all pixels.
    common: [Vec<f64>; 2],
    /// The columns of its coefficients: those of the shift family, then those of composition.
    pub shift_columns: Range<usize>,
    pub composition_columns: Range<usize>,
    /// The window whose edge measures the drift of a line, for this window.
    pub reference: Option<usize>,
    /// Channels whose predicted counts are kept, and the logarithm of the mean spectrum's counts there.
    predicted: [(Range<usize>, f64); PREDICTED],
}

/// The features of one scan line.
#[derive(Clone, Debug, PartialEq)]
pub struct LineFeatures {
    /// `[x]`: neither ignored nor missing.
    pub valid: Vec<bool>,
    /// `[x]`, 1 - PCC, NaN where not valid.
    pub pcc: Vec<f32>,
    /// `[x, num_columns]`, C order, NaN where not valid: the coefficients of the residual in each window, then the
    /// logarithms of the counts that the model predicts before and in each window, relative to the mean spectrum's.
    pub columns: Vec<f32>,
    /// By window: the shift (eV) given to the line's model before scoring; 0 without a reference edge.
    pub drift_ev: Vec<f32>,
    /// By window: how much higher (eV) its edge lies in this line than in the mean spectrum; 0 where the edge is too
    /// weak.
    pub position_ev: Vec<f32>,
}

impl LineScorer {
    /// Prepares `windows` of spectra on `energy` (eV); `mean` is the cube's mean spectrum (`[E]` counts per pixel).
    ///
    /// # Errors
    /// No window, or a window with fewer than four channels on the axis; named with the axis's range.
    pub fn new(energy: &Axis, windows: &[Window], mean: &[f64]) -> Result<LineScorer> {
        ensure!(!windows.is_empty(), "no energy window to score in: give score.windows, or take the whole axis");
        ensure!(
            windows.len() <= MAX_WINDOWS,
            "score.windows: {} windows; give at most {MAX_WINDOWS}, memory for more is not kept",
            windows.len()
        );
        let energies = energy.values();
        let share = MAX_COLUMNS / windows.len() - PREDICTED;
        let composition = (share / 4).clamp(1, COMPOSITION_COEFFICIENTS);
        let shift = (share - composition).min(SHIFT_COEFFICIENTS);
        let mut next = 0;
        let mut scored = Vec::with_capacity(windows.len());
        for window in windows {
            let [low, high] = window.range_ev;
            let range = energy.indices(low, high);
            ensure!(
                range.len() >= MIN_CHANNELS,
                "score.windows: '{}' ({low} to {high} eV) covers {} channels of this cube, whose energies are {:.1} \
                 to {:.1} eV; give a window inside them",
                window.name,
                range.len(),
                energy.value(0),
                energy.value(energy.size.saturating_sub(1)),
            );
            let shift = Projection::new(&energies, range.clone(), shift);
            let of_mean = &mean[range.clone()];
            let root = Residual::new(of_mean.iter().copied(), of_mean).root;
            let common = shift.background_directions(&root);
            let composition = Projection::new(&energies, range, composition);
            let middle = next + shift.num_coefficients();
            let end = middle + composition.num_coefficients();
            scored.push(ScoredWindow {
                window: window.clone(),
                shift,
                composition,
                common,
                shift_columns: next..middle,
                composition_columns: middle..end,
                reference: None,
                predicted: predicted(energy, window, mean),
            });
            next = end;
        }
        let strength = strengths(&scored, mean, energy.scale);
        for i in 0..scored.len() {
            scored[i].reference = reference(&scored, &strength, i);
        }
        Ok(LineScorer {
            energy: energy.clone(),
            mean: mean.iter().map(|&m| m as f32).collect(),
            pcc_window: latest_strong(&scored, &strength),
            windows: scored,
            num_columns: next + PREDICTED * windows.len(),
        })
    }

    /// The windows, in the order given.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter().map(|w| &w.window)
    }

    /// The window whose edge measures the drift for window `i`; `None` where lines are not corrected for drift.
    pub fn reference(&self, i: usize) -> Option<&Window> {
        let reference = self.windows[i].reference?;
        Some(&self.windows[reference].window)
    }

    /// Floats kept for one pixel.
    pub fn num_columns(&self) -> usize {
        self.num_columns
    }

    /// The columns of the model's predictions.
    pub(super) fn predicted_columns(&self) -> Range<usize> {
        self.num_columns - PREDICTED * self.windows.len()..self.num_columns
    }

    /// The features of one scan line: `u` and `reconstruction` are `[x, E]` counts, `valid` is `[x]`.
    ///
    /// `share` `[x]` is the share of a full spatial mean's pixels that a pixel is the mean of. With fewer pixels a mean
    /// is noisier, and its residual is scaled down accordingly.
    ///
    /// Rank-local and pure: the same line gives the same features wherever it is computed.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn line(
        &self,
        u: ArrayView2<f32>,
        reconstruction: ArrayView2<f32>,
        valid: &[bool],
        share: &[f32],
    ) -> LineFeatures {
        assert_eq!(u.dim(), reconstruction.dim(), "a line and its reconstruction");
        assert_eq!(u.dim(), (valid.len(), self.energy.size), "a line and the axis");
        let num_pixels = valid.len();
        let mut columns = vec![f32::NAN; num_pixels * self.num_columns];
        let predicted = self.predicted_columns().start;
        let mut drift_ev = Vec::with_capacity(self.windows.len());
        let mut position_ev = Vec::with_capacity(self.windows.len());
        let mean = self.mean.broadcast(u.dim()).expect("checked above");
        // By reference window: few serve all others.
        let mut drifts = vec![None; self.windows.len()];
        for (i, window) in self.windows.iter().enumerate() {
            let drift = window.reference.map_or(0.0, |reference| {
                let edge = &self.windows[reference].shift;
                let measure = || line_shift(edge, u, reconstruction, valid, self.energy.scale);
                *drifts[reference].get_or_insert_with(measure)
            });
            drift_ev.push(drift as f32);
            // The model does not know of anomalies: this is where the edge would be without any.
            let scale = self.energy.scale;
            let position = line_shift(&window.shift, reconstruction, mean, valid, scale);
            position_ev.push((position + drift) as f32);
            for x in (0..num_pixels).filter(|&x| valid[x]) {
                let pixel = &mut columns[x * self.num_columns..][..self.num_columns];
                window.predict(reconstruction.row(x), &mut pixel[predicted + PREDICTED * i..][..PREDICTED]);
                let range = window.shift.range.clone();
                let mu = shifted(reconstruction.row(x), drift / self.energy.scale, range.clone());
                let counts = range.map(|i| f64::from(u[[x, i]]));
                let mut residual = Residual::new(counts, &mu);
                let weight = f64::from(share[x]).sqrt();
                residual.values.iter_mut().for_each(|value| *value *= weight);
                window.fill(residual, pixel);
            }
        }
        let range = self.windows[self.pcc_window].shift.range.clone();
        let pcc = (0..num_pixels)
            .map(|x| {
                if valid[x] {
                    let window = s![x, range.clone()];
                    pcc_score(u.slice(window), reconstruction.slice(window))
                } else {
                    f32::NAN
                }
            })
            .collect();
        LineFeatures { valid: valid.to_vec(), pcc, columns, drift_ev, position_ev }
    }

    pub(super) fn scored_windows(&self) -> &[ScoredWindow] {
        &self.windows
    }

    pub(super) fn energy(&self) -> &Axis {
        &self.energy
    }
}

impl ScoredWindow {
    /// The columns of the coefficients of `family`.
    pub fn columns(&self, family: Family) -> &Range<usize> {
        match family {
            Family::Shift => &self.shift_columns,
            Family::Composition => &self.composition_columns,
        }
    }

    /// Writes the predictions of `reconstruction` `[E]` before and in the window to `out`.
    fn predict(&self, reconstruction: ArrayView1<f32>, out: &mut [f32]) {
        for (out, (range, mean)) in out.iter_mut().zip(&self.predicted) {
            let counts = reconstruction.slice(s![range.clone()]);
            let found = log_sum(counts.iter().map(|&v| f64::from(v))) - mean;
            *out = found.clamp(-MAX_PREDICTED, MAX_PREDICTED) as f32;
        }
    }

    /// Writes the coefficients of one pixel's residual to its columns of `pixel`.
    fn fill(&self, mut residual: Residual, pixel: &mut [f32]) {
        let columns = self.composition_columns.clone();
        let values = self.composition.cosine_coefficients(&residual.values);
        pixel[columns].iter_mut().zip(values).for_each(|(p, v)| *p = v as f32);
        self.shift.remove_background_alike(&mut residual.values, &residual.root, &self.common);
        let columns = self.shift_columns.clone();
        let values = self.shift.cosine_coefficients(&residual.values);
        pixel[columns].iter_mut().zip(values).for_each(|(p, v)| *p = v as f32);
    }
}

/// The channels before and in a window whose counts are predicted, and the logarithm of the mean spectrum's counts
/// there.
fn predicted(energy: &Axis, window: &Window, mean: &[f64]) -> [(Range<usize>, f64); PREDICTED] {
    [window.background_ev, window.range_ev].map(|[low, high]| {
        let range = energy.indices(low, high);
        let sum = log_sum(mean[range.clone()].iter().copied());
        (range, sum)
    })
}

fn log_sum(counts: impl Iterator<Item = f64>) -> f64 {
    counts.sum::<f64>().max(1e-3).ln()
}

/// The Fisher information of each window's edge about a shift, from the mean spectrum (eV^-2 per pixel).
fn strengths(windows: &[ScoredWindow], mean: &[f64], scale_ev: f64) -> Vec<f64> {
    let mean: Array1<f32> = mean.iter().map(|&m| m as f32).collect();
    windows
        .iter()
        .map(|w| information(&w.shift, mean.view(), scale_ev))
        .map(|strength| if strength.is_finite() { strength } else { 0.0 })
        .collect()
}

/// The strongest window that shares no channel with window `i`, if it has an edge at all.
fn reference(windows: &[ScoredWindow], strength: &[f64], i: usize) -> Option<usize> {
    let own = &windows[i].shift.range;
    (0..windows.len())
        .filter(|&j| {
            let other = &windows[j].shift.range;
            strength[j] > 0.0 && (other.end <= own.start || own.end <= other.start)
        })
        .max_by(|&a, &b| strength[a].total_cmp(&strength[b]).then(b.cmp(&a)))
}

/// The window highest in energy among those with a strong edge.
fn latest_strong(windows: &[ScoredWindow], strength: &[f64]) -> usize {
    let strongest = strength.iter().copied().fold(0.0, f64::max);
    (0..windows.len())
        .filter(|&i| strength[i] >= STRONG * strongest)
        .max_by_key(|&i| windows[i].shift.range.start)
        .unwrap_or(0)
}
