//! From the features of all scan lines to one score per pixel and method.

use anyhow::{ensure, Result};

use super::covariance::{Columns, Whitening};
use super::line::{LineFeatures, LineScorer, ScoredWindow};
use super::quantile::quantiles;
use super::templates::TemplateBank;
use crate::comm::Comm;

/// Scores of a rank's pixels, `[local lines, x]`, higher is more anomalous.
///
/// NaN where not valid; but for `pcc` also where the residual is not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// 1 - Pearson correlation (the paper's).
    pub pcc: Vec<f32>,
    /// Largest likelihood ratio of a shifted edge, in the units of the first window.
    pub shift: Vec<f32>,
    /// Squared Mahalanobis distance of the residual, in the units of the first window.
    pub composition: Vec<f32>,
    /// Squared standard deviations above the median of `shift` or `composition`, whichever is more.
    pub combined: Vec<f32>,
    /// The shift (eV) that explains the pixel best; the grid of the template bank.
    pub estimated_shift_ev: Vec<f32>,
}

impl LineScorer {
    /// Scores every pixel of a cube from the features of its lines and the cube's mean reconstruction (`[E]` counts).
    ///
    /// `lines` are this rank's, in the order of the cube.
    ///
    /// # Collective
    /// Every rank of `comm`; a rank may have no line.
    ///
    /// # Errors
    /// A mean reconstruction of the wrong length, on every rank.
    pub fn scores(
        &self,
        comm: &Comm,
        lines: &[LineFeatures],
        mean_reconstruction: &[f64],
    ) -> Result<Scores> {
        ensure!(
            mean_reconstruction.len() == self.energy().size,
            "the mean reconstruction has {} channels, the energy axis {}",
            mean_reconstruction.len(),
            self.energy().size
        );
        let valid = lines.iter().flat_map(|l| &l.valid).filter(|v| **v).count();
        let num_valid = comm.sum_u64(valid as u64);
        let mut shift = Vec::new();
        let mut shift_ev = Vec::new();
        let mut composition = Vec::new();
        for window in self.scored_windows() {
            let (score, ev) = self.shift_of(comm, lines, window, mean_reconstruction, num_valid)?;
            shift.push(score);
            shift_ev.push(ev);
            composition.push(self.composition_of(comm, lines, window, num_valid)?);
        }
        let (shift, best_window) = largest(comm, &shift)?;
        let (composition, _) = largest(comm, &composition)?;
        let estimated_shift_ev = best_window
            .iter()
            .enumerate()
            .map(|(i, &window)| shift_ev[window][i])
            .collect();
        let combined = combined(comm, &shift, &composition)?;
        Ok(Scores {
            pcc: lines.iter().flat_map(|l| l.pcc.iter().copied()).collect(),
            shift,
            composition,
            combined,
            estimated_shift_ev,
        })
    }

    /// The shift score of one window and the shift that it stands for.
    ///
    /// # Collective
    fn shift_of(
        &self,
        comm: &Comm,
        lines: &[LineFeatures],
        window: &ScoredWindow,
        mean_reconstruction: &[f64],
        num_valid: u64,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let columns = self.columns(lines, &window.shift_columns, num_valid);
        let whitening = Whitening::trimmed(comm, &columns)?;
        let bank = TemplateBank::new(
            self.energy(),
            window,
            mean_reconstruction,
            columns.len(),
            &whitening,
        );
        let best = |pixel: &[f32]| bank.best(&whitening.pixel(pixel));
        Ok((columns.map(|p| best(p).0), columns.map(|p| best(p).1)))
    }

    /// The composition score of one window.
    ///
    /// # Collective
    fn composition_of(
        &self,
        comm: &Comm,
        lines: &[LineFeatures],
        window: &ScoredWindow,
        num_valid: u64,
    ) -> Result<Vec<f32>> {
        let columns = self.columns(lines, &window.composition_columns, num_valid);
        let whitening = Whitening::trimmed(comm, &columns)?;
        Ok(columns.map(|pixel| whitening.distance(pixel)))
    }

    fn columns<'a>(
        &self,
        lines: &'a [LineFeatures],
        range: &std::ops::Range<usize>,
        num_valid: u64,
    ) -> Columns<'a> {
        let lines = lines.iter().map(|l| l.coefficients.as_slice()).collect();
        Columns::new(lines, self.num_coefficients(), range.start, range.len())
            .at_most_for(num_valid)
    }
}

/// Where a score lies among normal pixels: its root's median and the distance from there to one sigma.
struct Scale {
    median: f64,
    sigma: f64,
}

impl Scale {
    /// # Collective
    fn measure(comm: &Comm, scores: &[f32]) -> Result<Scale> {
        // 0.841: one standard deviation above the median of a normal distribution, which roots of
        // squared distances nearly follow; low enough that anomalies do not reach it.
        let found = quantiles(comm, scores, &[0.5, 0.841])?;
        let (median, upper) = (found[0].max(0.0).sqrt(), found[1].max(0.0).sqrt());
        let sigma = upper - median;
        Ok(Scale {
            median: if median.is_finite() { median } else { 0.0 },
            sigma: if sigma > 0.0 { sigma } else { 1.0 },
        })
    }

    /// How many sigma a score lies above the median.
    fn sigmas(&self, score: f32) -> f64 {
        (f64::from(score).sqrt() - self.median) / self.sigma
    }

    /// The score that lies so many sigma above the median.
    fn score(&self, sigmas: f64) -> f32 {
        (self.median + self.sigma * sigmas).max(0.0).powi(2) as f32
    }
}

/// The largest of the windows' scores per pixel, each in units of its own spread, and the window it is from.
///
/// # Collective
fn largest(comm: &Comm, windows: &[Vec<f32>]) -> Result<(Vec<f32>, Vec<usize>)> {
    if let [only] = windows {
        return Ok((only.clone(), vec![0; only.len()]));
    }
    let mut scales = Vec::with_capacity(windows.len());
    for scores in windows {
        scales.push(Scale::measure(comm, scores)?);
    }
    let pixel = |i: usize| {
        let mut best = (0, f64::NEG_INFINITY);
        for (window, scores) in windows.iter().enumerate() {
            if scores[i].is_nan() {
                return (f32::NAN, window);
            }
            let sigmas = scales[window].sigmas(scores[i]);
            if sigmas > best.1 {
                best = (window, sigmas);
            }
        }
        (scales[0].score(best.1), best.0)
    };
    Ok((0..windows[0].len()).map(pixel).unzip())
}

/// The larger of two scores, each in sigmas above its median, squared; 0 at and below the median.
///
/// # Collective
fn combined(comm: &Comm, shift: &[f32], composition: &[f32]) -> Result<Vec<f32>> {
    let of_shift = Scale::measure(comm, shift)?;
    let of_composition = Scale::measure(comm, composition)?;
    let pixel = |(&a, &b): (&f32, &f32)| {
        if a.is_nan() || b.is_nan() {
            return f32::NAN;
        }
        let sigmas = of_shift.sigmas(a).max(of_composition.sigmas(b));
        sigmas.max(0.0).powi(2) as f32
    };
    Ok(shift.iter().zip(composition).map(pixel).collect())
}
