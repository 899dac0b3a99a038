//! `preprocess`: from stored values to electrons per channel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::values::Auto;

/// From stored values to electrons per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    /// Stored units per electron; `auto`: fitted.
    pub gain: Auto<f64>,
    /// Read noise in electrons rms; `auto`: fitted.
    pub read_noise: Auto<f64>,
    /// Replaces cosmic-ray spikes by the median of their neighbours.
    pub despike: bool,
    /// Side, in pixels, of a spatial mean that is taken first: 1 (none), or 3 as in the paper.
    pub spatial_mean: usize,
    /// Ignores vacuum pixels, found by their total counts.
    pub vacuum: bool,
    /// Aligns the energies of the pixels. Channels that are then not measured in every pixel are left out.
    pub align: Align,
    /// Largest shift that is accepted, eV.
    pub max_shift_ev: f64,
    /// Shifts by whole channels only. A shift by a fraction `f` of a channel smooths: it removes `2 f (1 - f)` of the
    /// variance of the counting noise and correlates neighbouring channels.
    pub whole_channels: bool,
    /// Number of adjacent channels that are summed into one.
    pub rebin: usize,
    /// Writes a map of t/lambda, the thickness in inelastic mean free paths, where there is a zero-loss peak.
    pub thickness: bool,
}

impl Default for Preprocess {
    fn default() -> Self {
        Preprocess {
            gain: Auto::Auto,
            read_noise: Auto::Auto,
            despike: true,
            spatial_mean: 1,
            vacuum: true,
            align: Align::None,
            max_shift_ev: 10.0,
            whole_channels: false,
            rebin: 1,
            thickness: true,
        }
    }
}

/// No spectrum is shifted by more, eV.
const MOST_SHIFT_EV: f64 = 1e3;

/// A 3 x 3 mean leaves fewer independent pixels, by this factor: the sum of its squared correlations.
const AVERAGED_FACTOR: f64 = 4.457;

impl Preprocess {
    /// How many pixels there are for each that has noise of its own.
    pub fn dependence(&self) -> f64 {
        if self.spatial_mean == 1 { 1.0 } else { AVERAGED_FACTOR }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        let given = |value: Auto<f64>, holds: fn(f64) -> bool| match value {
            Auto::Given(value) => holds(value) && value.is_finite(),
            Auto::Auto => true,
        };
        problems.require(given(self.gain, |gain| gain > 0.0), "preprocess.gain: a positive number, or auto");
        problems
            .require(given(self.read_noise, |noise| noise >= 0.0), "preprocess.read_noise: a positive number, or auto");
        problems.require(matches!(self.spatial_mean, 1 | 3), "preprocess.spatial_mean: 1 (none) or 3");
        problems.require(
            self.max_shift_ev > 0.0 && self.max_shift_ev <= MOST_SHIFT_EV,
            "preprocess.max_shift_ev: above 0, to 1000 eV",
        );
        problems.require(self.rebin > 0, "preprocess.rebin: at least 1");
    }
}

/// How the energies of a cube's pixels are aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// Not at all; scoring follows the drift from line to line in any case.
    #[default]
    None,
    /// By the zero-loss peak of each pixel, which is put at 0 eV (see `archive.low_loss`).
    LowLoss,
    /// By the strongest edge of each pixel, which is put where it lies in the cube's mean spectrum. This removes
    /// chemical shifts of that edge together with the drift.
    Edge,
}
