//! From the features of all scan lines to the scores of every pixel: the steps of scoring in their order.

use anyhow::Result;
use ndarray::{Array2, Zip};

use super::basis::{Basis, LineFeatures};
use super::grow::Family;
use super::kinds::{Found, Kind, find_kinds};
use super::sample::Sample;
use super::setting::best_setting;
use crate::bands::Bands;
use crate::comm::Comm;

/// Where no kind is, the most surprising pixel ranks this far below even odds, and others below it.
const BELOW_EVEN: f32 = 2.0;

/// Scores of a rank's pixels, `[local lines, x]`, higher is more anomalous; NaN where not valid.
///
/// All but `pcc` are `ln(1 + odds)` that a pixel is anomalous, in nats: `ln 2` means even odds.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// 1 - Pearson correlation of spectrum and reconstruction (the paper's); none of an ensemble.
    pub pcc: Option<Vec<f32>>,
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

impl Basis {
    /// Scores every pixel of a cube with lines of `width` pixels, from the features of its lines.
    ///
    /// `lines` are this rank's, in the order of the cube. `beside` is what another model predicts of its pixels: few maps
    /// `[lines, x]` in units of noise, which are believed as far as they help.
    ///
    /// # Collective
    /// Every rank of `comm`; a rank may have no line.
    ///
    /// # Errors
    /// Features that are not finite, on every rank.
    pub fn scores(
        &self,
        comm: &Comm,
        width: usize,
        lines: Vec<LineFeatures>,
        beside: &[Array2<f32>],
    ) -> Result<Scores> {
        let valid = lines.iter().flat_map(|line| &line.valid).filter(|valid| **valid).count();
        let bands = Bands::new(comm, width, lines.len(), valid);
        let pcc = lines.iter().flat_map(|line| line.pcc.iter().copied()).collect();
        let sample = Sample::new(&bands, self, &lines, beside)?;
        drop(lines);
        let (sample, setting) = best_setting(sample);
        if comm.is_root() {
            log::debug!(
                "{} coordinates, {} regressors, {:?}, guard {}",
                sample.dimensions(),
                sample.regressors.len(),
                setting.trust,
                setting.guard
            );
        }
        let Found { kinds, odds, surprise } = find_kinds(&sample, self, &setting)?;
        if comm.is_root() {
            kinds.iter().for_each(|kind| log::info!("{kind}"));
        }
        let family = |family: Family| move |kind: &Kind| kind.family == family;
        Ok(Scores {
            pcc: Some(pcc),
            shift: score(&surprise.energies, &kinds, &odds, family(Family::Shift)),
            composition: score(&surprise.heights, &kinds, &odds, family(Family::Composition)),
            combined: score(&surprise.any, &kinds, &odds, |_| true),
            kind_of: kind_of(&odds, bands.shape()),
            kinds,
        })
    }
}

/// `ln(1 + odds)` by the kinds that are `wanted`; where there is none, pixels rank by their `surprise`, below even odds.
fn score(surprise: &Array2<f32>, kinds: &[Kind], odds: &[Array2<f32>], wanted: impl Fn(&Kind) -> bool) -> Vec<f32> {
    let mut found = surprise.mapv(|surprise| match surprise.is_nan() {
        true => f32::NAN,
        false => (surprise.max(1e-3).ln() - BELOW_EVEN).min(-0.01),
    });
    for (_, odds) in kinds.iter().zip(odds).filter(|(kind, _)| wanted(kind)) {
        Zip::from(&mut found).and(odds).for_each(|found, &odds| {
            if odds > 0.0 {
                *found = found.max(odds);
            }
        });
    }
    found.into_iter().map(log_one_plus_exp).collect()
}

/// The kind with the highest odds of each pixel, from 1.
fn kind_of(odds: &[Array2<f32>], shape: (usize, usize)) -> Vec<f32> {
    let mut kind_of = Array2::<f32>::zeros(shape);
    let mut highest = Array2::<f32>::zeros(shape);
    for (number, odds) in (1..).zip(odds) {
        Zip::from(&mut kind_of).and(&mut highest).and(odds).for_each(|kind, highest, &odds| {
            if odds > *highest {
                (*highest, *kind) = (odds, number as f32);
            }
        });
    }
    kind_of.into_iter().collect()
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
