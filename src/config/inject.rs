//! Which anomalies are put into copies of measured cubes, as a configuration writes it.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::anomaly::AnomalyKind;
use super::names::check_names;
use super::places::{Outline, Places, default_count, default_radius, within};

/// The cubes of one `coreloss inject`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Inject {
    /// Folder for the copies and their truth; made if absent.
    pub dir: PathBuf,
    /// The measured cube that is copied where a cube of the list names none; `--set inject.input=FILE` reaches it.
    pub input: Option<String>,
    /// The copies to write.
    pub cubes: Vec<InjectedCube>,
}

impl Default for Inject {
    fn default() -> Self {
        Inject { dir: "out/injected".into(), input: None, cubes: Vec::new() }
    }
}

/// One copy and the name of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InjectedCube {
    /// File name without extension.
    pub name: String,
    /// The measured cube, relative to the working directory; `inject.input` by default.
    #[serde(default)]
    pub input: Option<String>,
    /// Copies with the same seed and the same options of places have their anomalies on the same pixels.
    #[serde(default)]
    pub seed: u64,
    /// An edge is separated from its background in the mean of the pixels up to so far away in y and x, 0 to 20, so
    /// that its noise does not enter the copy.
    #[serde(default = "default_neighbours")]
    pub neighbours_px: usize,
    /// The anomalies; the truth map numbers them from 1.
    pub anomalies: Vec<EdgeAnomaly>,
}

/// One kind of anomaly, the edge that it changes and the places that show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeAnomaly {
    pub kind: AnomalyKind,
    /// `shift`: eV. `scale`: what is added to the edge, as a share of it. `broaden`: full width at half maximum of the
    /// added width, eV. `ratio`: what is added to the edge below `split_ev`, as a share of it. `slope`: what is added
    /// to the background's exponent. `spike`: stored units. 0 makes a control, in which nothing changes.
    pub amount: f64,
    /// Nominal onset, eV: the edge that is found nearest to it is changed. Takes the place of the two ranges.
    #[serde(default)]
    pub edge_ev: Option<f64>,
    /// The edge, up to the next one or the end of the axis, eV.
    #[serde(default)]
    pub range_ev: Option<[f64; 2]>,
    /// Where the power law before the edge is fitted, eV.
    #[serde(default)]
    pub background_ev: Option<[f64; 2]>,
    /// `ratio`: the energy between the two white lines, eV.
    #[serde(default)]
    pub split_ev: Option<f64>,
    /// `shift`: by `amount` exactly, which smooths the noise of the edge; else by whole channels.
    #[serde(default)]
    pub interpolate: bool,
    #[serde(default)]
    pub shape: Outline,
    /// Number of discs or single pixels, unless `concentration` is given.
    #[serde(default = "default_count", alias = "count")]
    pub discs: usize,
    /// Smallest and largest radius of a disc in pixels.
    #[serde(default = "default_radius")]
    pub radius_px: [f64; 2],
    /// Share of the pixels that are not ignored, 0 to 0.5: as many places as it takes.
    #[serde(default)]
    pub concentration: Option<f64>,
}

fn default_neighbours() -> usize {
    3
}

impl EdgeAnomaly {
    pub fn places(&self) -> Places {
        Places { shape: self.shape, count: self.discs, radius_px: self.radius_px, concentration: self.concentration }
    }

    fn validate(&self) -> Result<()> {
        self.places().validate()?;
        match self.kind {
            AnomalyKind::Shift => within("amount", self.amount, -40.0, 40.0)?,
            AnomalyKind::Scale | AnomalyKind::Ratio => within("amount", self.amount, -1.0, 10.0)?,
            AnomalyKind::Broaden => within("amount", self.amount, 0.0, 40.0)?,
            AnomalyKind::Slope => within("amount", self.amount, -3.0, 3.0)?,
            AnomalyKind::Spike => within("amount", self.amount, 0.0, 1e9)?,
            AnomalyKind::Oxygen | AnomalyKind::Mixture => bail!(
                "`oxygen` and `mixture` are for simulated cubes: here give `scale` with the O K edge and a negative \
                 `amount`, or `broaden`"
            ),
        }
        ensure!(self.kind == AnomalyKind::Shift || !self.interpolate, "`interpolate` is for `kind: shift` only");
        ensure!(
            (self.kind == AnomalyKind::Ratio) == self.split_ev.is_some(),
            "`split_ev`, the energy between the two white lines, goes with `kind: ratio` and with no other"
        );
        let highest = f64::from(u16::MAX);
        match (self.edge_ev, self.range_ev, self.background_ev) {
            (Some(edge), None, None) => {
                within("edge_ev", edge, 0.0, highest)?;
                within("split_ev", self.split_ev.unwrap_or(edge), edge, highest)
            }
            (None, Some(range), Some(background)) => {
                for (name, [low, high]) in [("range_ev", range), ("background_ev", background)] {
                    ensure!(
                        0.0 < low && low < high && high.is_finite(),
                        "`{name}` is [{low}, {high}]: give [low, high] in eV with 0 < low < high"
                    );
                }
                ensure!(
                    background[1] <= range[1] && background[0] < range[0],
                    "`background_ev` lies before `range_ev`"
                );
                let split = self.split_ev.unwrap_or(range[1]);
                within("split_ev", split, range[0], range[1])
            }
            _ => bail!(
                "give `edge_ev`, the nominal onset of an edge to be found, or both `range_ev` and `background_ev`"
            ),
        }
    }
}

impl Inject {
    /// Refuses what cannot be put into a cube.
    /// # Errors
    /// Names the cube, the field, its value and the values that it may have.
    pub fn validate(&self) -> Result<()> {
        check_names(self.cubes.iter().map(|cube| cube.name.as_str()))?;
        for cube in &self.cubes {
            let name = &cube.name;
            ensure!(
                cube.input.is_some() || self.input.is_some(),
                "{name}: give `input`, the measured cube, here or as inject.input"
            );
            ensure!(cube.neighbours_px <= 20, "{name}: `neighbours_px` is {}: give 0 to 20", cube.neighbours_px);
            for (i, anomaly) in cube.anomalies.iter().enumerate() {
                if let Err(error) = anomaly.validate() {
                    bail!("{name}: anomaly {}: {error}", i + 1);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(anomaly: &str) -> String {
        let yaml = format!("input: a.hspy\ncubes: [{{name: a, anomalies: [{anomaly}]}}]");
        let inject: Inject = serde_yaml::from_str(&yaml).unwrap();
        inject.validate().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_cannot_be_injected_is_said() {
        assert_eq!(problem("{kind: shift, amount: 2, edge_ev: 708}"), "");
        let ranges = "range_ev: [695, 950], background_ev: [650, 690]";
        assert_eq!(problem(&format!("{{kind: ratio, amount: .2, split_ev: 715, {ranges}}}")), "");
        for (anomaly, word) in [
            ("{kind: shift, amount: 2}", "give `edge_ev`"),
            ("{kind: shift, amount: 2, edge_ev: 708, range_ev: [695, 950]}", "or both"),
            ("{kind: oxygen, amount: .3, edge_ev: 532}", "give `scale`"),
            ("{kind: ratio, amount: .3, edge_ev: 532}", "`split_ev`"),
            ("{kind: scale, amount: -2, edge_ev: 532}", "`amount` is -2"),
            ("{kind: scale, amount: 1, interpolate: true, edge_ev: 532}", "`interpolate`"),
            ("{kind: shift, amount: 2, range_ev: [695, 690], background_ev: [650, 690]}", "`range_ev` is [695, 690]"),
        ] {
            let message = problem(anomaly);
            assert!(message.contains(word) && message.contains("a: anomaly 1"), "{message}");
        }
    }
}
