//! What was done to the energies of a cube, as `summary.json` tells it.

use serde::{Deserialize, Serialize};

use crate::stream::Cube;

/// What was done to the energies of a cube, as `summary.json` tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnergySummary {
    /// Middle of the first and the last channel in use.
    pub first_ev: f64,
    pub last_ev: f64,
    /// Width of a channel in use.
    pub dispersion_ev: f64,
    /// Width of a channel as recorded.
    pub recorded_dispersion_ev: f64,
    /// Energies that were asked for but are not measured in every pixel of every cube.
    pub left_out_ev: Vec<[f64; 2]>,
    /// How the energies of the pixels were aligned; null where they were not.
    pub align: Option<AlignSummary>,
}

/// The shifts that were taken out of the energies of the pixels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlignSummary {
    /// What they were measured by.
    pub by: String,
    pub lowest_shift_ev: f64,
    pub median_shift_ev: f64,
    pub highest_shift_ev: f64,
    /// Pixels that took the shift of their neighbours.
    pub unmeasured: usize,
}

impl EnergySummary {
    /// Of a cube as it is scored. Rank-local.
    pub fn of(cube: &Cube) -> EnergySummary {
        let ([asked_low, asked_high], [low, high]) = (cube.asked().span(), cube.energy.span());
        let ends = [[asked_low, low.min(asked_high)], [high.max(asked_low), asked_high]];
        let missing = |end: &[f64; 2]| end[1] - end[0] > 0.02 * cube.energy.scale;
        let align = cube.shifts.as_ref().map(|shifts| {
            let [lowest_shift_ev, median_shift_ev, highest_shift_ev] = shifts.lowest_median_highest();
            AlignSummary {
                by: shifts.by.clone(),
                lowest_shift_ev,
                median_shift_ev,
                highest_shift_ev,
                unmeasured: shifts.unmeasured,
            }
        });
        EnergySummary {
            first_ev: cube.energy.value(0),
            last_ev: cube.energy.value(cube.energy.size - 1),
            dispersion_ev: cube.energy.scale,
            recorded_dispersion_ev: cube.dispersion(),
            left_out_ev: ends.into_iter().filter(missing).collect(),
            align,
        }
    }
}
