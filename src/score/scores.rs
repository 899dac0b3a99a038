//! From the features of all scan lines to the scores of every pixel: the steps of scoring in their order.

use anyhow::{Result, ensure};
use ndarray::Array2;

use super::calibrate::calibrate;
use super::detrend::detrend;
use super::kinds::{Found, Kind, find_kinds};
use super::line::{Family, LineFeatures, LineScorer};
use super::subspace::Subspace;
use crate::bands::Bands;
use crate::comm::Comm;

/// Scores of a rank's pixels, `[local lines, x]`, higher is more anomalous; NaN where not valid.
///
/// All but `pcc` are `ln(1 + odds)` that a pixel is anomalous, in nats: `ln 2` means even odds.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// 1 - Pearson correlation of spectrum and reconstruction (the paper's).
    pub pcc: Vec<f32>,
    /// For an edge that has moved or changed its fine structure.
    pub shift: Vec<f32>,
    /// For an edge of another height.
    pub composition: Vec<f32>,
    /// For either.
    pub combined: Vec<f32>,
    /// The kinds of anomaly that were found, equal on all ranks.
    pub kinds: Vec<Kind>,
    /// The kind that a pixel belongs to, an index of `kinds` counted from 1; 0 where it belongs to none.
    pub kind_of: Vec<f32>,
}

impl Scores {
    /// The shift (eV) of the kind that each pixel belongs to; NaN where it belongs to none that moved. Rank-local.
    pub fn estimated_shift_ev(&self) -> Vec<f32> {
        let shift = |&kind: &f32| {
            let kind = self.kinds.get((kind as usize).checked_sub(1)?)?;
            Some(kind.shift_ev?.0 as f32)
        };
        let shifts = self.kind_of.iter().map(shift);
        shifts.map(|shift| shift.unwrap_or(f32::NAN)).collect()
    }
}

impl LineScorer {
    /// Scores every pixel of a cube with lines of `width` pixels, from the features of its lines and its mean
    /// reconstruction (`[E]` counts).
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
        width: usize,
        mut lines: Vec<LineFeatures>,
        mean_reconstruction: &[f64],
    ) -> Result<Scores> {
        ensure!(
            mean_reconstruction.len() == self.energy().size,
            "the mean reconstruction has {} channels, the energy axis {}",
            mean_reconstruction.len(),
            self.energy().size
        );
        let valid = lines.iter().flat_map(|l| &l.valid).filter(|v| **v).count();
        let bands = Bands::new(comm, width, lines.len(), valid);
        let mut subspaces = Vec::new();
        for window in 0..self.scored_windows().len() {
            for family in [Family::Shift, Family::Composition] {
                let range = self.scored_windows()[window].columns(family);
                if range.is_empty() {
                    continue;
                }
                let (columns, predicted) = (self.num_columns(), self.predicted_columns());
                calibrate(comm, &mut lines, columns, range, &predicted, bands.num_valid)?;
                // Amounts may vary slowly over a specimen; the energy of an edge should not.
                if family == Family::Shift {
                    detrend(&bands, &mut lines, columns, range);
                }
                let (of, valid) = ((window, family), bands.num_valid);
                subspaces.push(Subspace::new(comm, self, &lines, of, mean_reconstruction, valid)?);
            }
        }
        let Found { kinds, odds, kind_of } = find_kinds(&bands, &lines, &mut subspaces)?;
        if comm.is_root() {
            kinds.iter().for_each(|kind| log::info!("{kind}"));
        }
        let score = |odds: Array2<f32>| odds.into_iter().map(log_one_plus_exp).collect();
        Ok(Scores {
            pcc: lines.iter().flat_map(|l| l.pcc.iter().copied()).collect(),
            shift: score(odds.shift),
            composition: score(odds.composition),
            combined: score(odds.combined),
            kinds,
            kind_of: kind_of.into_iter().collect(),
        })
    }
}

/// `ln(1 + e^x)`; very small ones stay above 0, so that they still rank.
fn log_one_plus_exp(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let x = f64::from(x).max(-80.0);
    (x.max(0.0) + (-x.abs()).exp().ln_1p()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_odds_are_the_logarithm_of_two() {
        assert_eq!(log_one_plus_exp(0.0), std::f32::consts::LN_2);
        assert!(log_one_plus_exp(40.0) == 40.0 && log_one_plus_exp(-40.0) > 0.0);
        assert!(log_one_plus_exp(f32::NAN).is_nan());
    }
}
