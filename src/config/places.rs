//! Where anomalies are put, in simulated and in measured cubes.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outline of one anomalous place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outline {
    #[default]
    Disc,
    /// One pixel.
    Pixel,
}

/// The places of one anomaly: so many of a shape, or as many as cover a share of the pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Places {
    pub shape: Outline,
    /// Number of places, unless `concentration` is given.
    pub count: usize,
    /// Smallest and largest radius of a disc, pixels.
    pub radius_px: [f64; 2],
    /// Share of the pixels that may be anomalous.
    pub concentration: Option<f64>,
}

impl Places {
    /// # Errors
    /// Names the field, its value and the values that it may have.
    pub fn validate(&self) -> Result<()> {
        let [low, high] = self.radius_px;
        within("radius_px", low, 0.5, 1e4)?;
        within("radius_px", high, low, 1e4)?;
        within("concentration", self.concentration.unwrap_or(0.0), 0.0, MOST_ANOMALOUS)
    }
}

/// More would not fit as discs at random places.
const MOST_ANOMALOUS: f64 = 0.5;

pub(super) fn default_count() -> usize {
    4
}

pub(super) fn default_radius() -> [f64; 2] {
    [2.2, 4.2]
}

/// # Errors
/// Names `name` where `value` is not from `low` to `high`.
pub(super) fn within(name: &str, value: f64, low: f64, high: f64) -> Result<()> {
    ensure!((low..=high).contains(&value), "`{name}` is {value}: give a value from {low} to {high}");
    Ok(())
}
