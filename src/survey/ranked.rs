//! A cube of a survey in the ranking, and its regions.

use super::catalogue::Entry;
use crate::config::ResidualSpectrum;
use crate::results::verdicts::Recognised;
use crate::results::{CubeSummary, RegionSummary};

/// A scored cube with its surprise.
pub struct Ranked<'a> {
    pub entry: &'a Entry,
    pub summary: CubeSummary,
    /// Of the most surprising region that is not set apart; without one that of the highest pixel, not above 0.
    pub surprise: f64,
    /// Those that count, in their order.
    pub regions: Vec<RankedRegion>,
    /// Those that verdicts set apart.
    pub apart: Vec<RankedRegion>,
    /// The day of its recording.
    pub date: Option<&'a str>,
}

pub struct RankedRegion {
    pub summary: RegionSummary,
    pub surprise: f64,
    pub verdict: Option<Recognised>,
    /// Its kind across cubes, from 1; 0 where it has none.
    pub kind: usize,
    pub residual: Option<ResidualSpectrum>,
}
