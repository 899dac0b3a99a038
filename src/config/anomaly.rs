//! The anomalies of simulated cubes.

use anyhow::{Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::material::{Material, MaterialEdge};
use super::places::{Outline, Places, default_count, default_radius, within};

/// How a spectrum differs where it is anomalous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// The edge lies `amount` eV higher (lower where negative).
    Shift,
    /// The O K edge is stronger by the fraction `amount`: -0.3 is a deficiency of 30 %.
    Oxygen,
    /// The edge is stronger by the fraction `amount` (weaker where negative).
    Scale,
    /// The edge is wider: `amount` is the full width at half maximum of what is added, eV.
    Broaden,
    /// The first white line is stronger by the fraction `amount` while the second stays: L3 over L2.
    Ratio,
    /// A share `amount` of the atoms has another valence: their edge lies `valence_shift_ev` higher.
    Mixture,
    /// The background falls with an exponent larger by `amount`.
    Slope,
    /// One channel is brighter by `amount`.
    Spike,
}

/// One kind of anomaly and the places that show it, in a simulated cube.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anomaly {
    pub kind: AnomalyKind,
    /// eV for `shift` (at most 40 either way) and `broaden`, electrons for `spike`, an exponent for `slope`, else a
    /// fraction.
    pub amount: f64,
    /// The element whose edge changes; the material's anomalous element by default.
    #[serde(default)]
    pub element: Option<String>,
    /// `mixture`: how much higher the edge of the other valence lies, eV.
    #[serde(default)]
    pub valence_shift_ev: Option<f64>,
    #[serde(default)]
    pub shape: Outline,
    /// Number of discs or single pixels, unless `concentration` is given.
    #[serde(default = "default_count", alias = "count")]
    pub discs: usize,
    /// Smallest and largest radius of a disc in pixels.
    #[serde(default = "default_radius")]
    pub radius_px: [f64; 2],
    /// Share of the cube's pixels in discs, 0 to 0.5: as many discs as it takes, the last one smaller.
    #[serde(default)]
    pub concentration: Option<f64>,
}

impl Anomaly {
    pub fn places(&self) -> Places {
        Places { shape: self.shape, count: self.discs, radius_px: self.radius_px, concentration: self.concentration }
    }

    /// The edge that is changed; none where `material` has no such element.
    pub fn edge<'a>(&'a self, material: &'a Material) -> Option<&'a MaterialEdge> {
        let element = match self.kind {
            AnomalyKind::Oxygen => Some("O"),
            _ => self.element.as_deref(),
        };
        material.anomalous(element)
    }

    pub(super) fn validate(&self, material: &Material) -> Result<()> {
        self.places().validate()?;
        let [low, high] = match self.kind {
            AnomalyKind::Shift => [-40.0, 40.0],
            AnomalyKind::Oxygen => [-1.0, 1.0],
            AnomalyKind::Scale | AnomalyKind::Ratio => [-1.0, 10.0],
            AnomalyKind::Broaden => [0.0, 40.0],
            AnomalyKind::Mixture => [0.0, 1.0],
            AnomalyKind::Slope => [-3.0, 3.0],
            AnomalyKind::Spike => [0.0, 1e9],
        };
        within("amount", self.amount, low, high)?;
        ensure!(
            (self.kind == AnomalyKind::Mixture) == self.valence_shift_ev.is_some(),
            "`valence_shift_ev` goes with `kind: mixture` and with no other"
        );
        within("valence_shift_ev", self.valence_shift_ev.unwrap_or(0.0), -20.0, 20.0)?;
        let changes_edge = !matches!(self.kind, AnomalyKind::Slope | AnomalyKind::Spike);
        ensure!(
            self.element.is_none() || (changes_edge && self.kind != AnomalyKind::Oxygen),
            "`element` has no meaning for this kind"
        );
        let edge = self.edge(material);
        if changes_edge && edge.is_none() {
            bail!("`element` is {}: the material has {}", self.element.as_deref().unwrap_or("O"), material.elements());
        }
        ensure!(
            self.kind != AnomalyKind::Ratio || edge.is_some_and(|edge| edge.steps.len() >= 2),
            "`ratio` needs an edge with two `steps`, as L2,3 has"
        );
        Ok(())
    }
}
