//! What a simulated cube is made of, as a configuration writes it.

use std::path::PathBuf;

use anyhow::{bail, ensure, Result};
use serde::{Deserialize, Serialize};

use super::places::{default_count, default_radius, within, Places, Shape};

/// The cubes of one `coreloss simulate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Simulate {
    /// Folder for the cubes and their truth; made if absent.
    pub dir: PathBuf,
    /// A cube's place in this list is part of its random numbers: append, and the cubes before stay as they were.
    pub cubes: Vec<CubeSpec>,
}

impl Default for Simulate {
    fn default() -> Self {
        Simulate {
            dir: "out/simulated".into(),
            cubes: Vec::new(),
        }
    }
}

/// One cube and the name of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CubeSpec {
    /// File name without extension.
    pub name: String,
    #[serde(default)]
    pub scene: SceneOptions,
}

/// A BiFeO3-like scene; the defaults are the project's demonstration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SceneOptions {
    /// Pixels along y, pixels along x, channels.
    pub shape: [usize; 3],
    /// Energy loss of the first channel, eV, 100 to 3000.
    pub energy_offset_ev: f64,
    /// eV per channel, above 0.
    pub dispersion_ev: f64,
    /// Electrons that a pixel's spectrum holds on average, above 0. 85000 gives the paper's contrast at 1312 channels.
    pub dose: f64,
    /// ADU per electron, above 0.
    pub gain: f64,
    /// Electrons rms per voxel, 0 or more.
    pub read_noise: f64,
    /// Mean thickness in inelastic mean free paths, above 0.
    pub thickness: f64,
    /// Energy drift over the scan, eV peak to peak; a twentieth of it, rms, is added at random per scan line.
    pub energy_drift_ev: f64,
    /// Cosmic rays per voxel, 0 to 1.
    pub spike_rate: f64,
    pub seed: u64,
    /// In the truth map, the first anomaly is 1.
    pub anomalies: Vec<Anomaly>,
}

impl Default for SceneOptions {
    fn default() -> Self {
        SceneOptions {
            shape: [96, 96, 240],
            energy_offset_ev: 420.0,
            dispersion_ev: 400.0 / 240.0,
            dose: 85_000.0,
            gain: 1.0,
            read_noise: 1.0,
            thickness: 0.55,
            energy_drift_ev: 1.0,
            spike_rate: 2e-6,
            seed: 0,
            anomalies: Vec::new(),
        }
    }
}

/// How a spectrum differs where it is anomalous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// The edge lies `amount` eV higher (lower where negative).
    Shift,
    /// The O K edge is weaker by the fraction `amount`.
    Oxygen,
    /// The edge is stronger by the fraction `amount` (weaker where negative).
    Scale,
    /// The edge is wider: `amount` is the full width at half maximum of what is added, eV.
    Broaden,
    /// The first white line is stronger by the fraction `amount` while the second stays: L3 over L2.
    Ratio,
    /// The background falls with an exponent larger by `amount`.
    Slope,
    /// One channel is brighter by `amount`.
    Spike,
}

/// One kind of anomaly and the discs that show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anomaly {
    pub kind: AnomalyKind,
    /// eV for `shift` (at most 40 either way), a fraction from -1 to 1 for `oxygen`.
    pub amount: f64,
    #[serde(default)]
    pub shape: Shape,
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
        Places {
            shape: self.shape,
            count: self.discs,
            radius_px: self.radius_px,
            concentration: self.concentration,
        }
    }
}

impl SceneOptions {
    /// Refuses what cannot be simulated.
    /// # Errors
    /// Names the field, its value and the values that it may have.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            self.shape.iter().all(|&n| n > 0),
            "`shape` is {:?}: y, x and energy must be at least 1",
            self.shape
        );
        within("energy_offset_ev", self.energy_offset_ev, 100.0, 3000.0)?;
        within("dispersion_ev", self.dispersion_ev, 0.005, 20.0)?;
        within("dose", self.dose, 1e-3, 1e12)?;
        within("gain", self.gain, 1e-6, 1e9)?;
        within("read_noise", self.read_noise, 0.0, 1e6)?;
        within("thickness", self.thickness, 1e-3, 3.0)?;
        within("energy_drift_ev", self.energy_drift_ev, 0.0, 20.0)?;
        within("spike_rate", self.spike_rate, 0.0, 1.0)?;
        for anomaly in &self.anomalies {
            match anomaly.kind {
                AnomalyKind::Shift => within("amount", anomaly.amount, -40.0, 40.0)?,
                AnomalyKind::Oxygen => within("amount", anomaly.amount, -1.0, 1.0)?,
                _ => bail!("`kind`: simulated cubes have `shift` and `oxygen`"),
            }
            anomaly.places().validate()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_fills_in_what_is_left_out_and_refuses_what_is_unknown() {
        let yaml = "cubes:\n- name: a\n  scene: {dose: 5000, anomalies: [{kind: oxygen, amount: 0.3}]}\n- name: b\n";
        let simulate: Simulate = serde_yaml::from_str(yaml).unwrap();
        let scene = &simulate.cubes[0].scene;
        assert_eq!((scene.dose, scene.shape), (5000.0, [96, 96, 240]));
        assert_eq!(
            (scene.anomalies[0].discs, scene.anomalies[0].radius_px),
            (4, [2.2, 4.2])
        );
        assert_eq!(simulate.cubes[1].scene, SceneOptions::default());
        assert!(serde_yaml::from_str::<Simulate>("cubes: [{name: a, doze: 1}]").is_err());
    }

    #[test]
    fn what_cannot_be_simulated_is_named() {
        let scene = SceneOptions {
            dose: -1.0,
            ..Default::default()
        };
        assert!(scene
            .validate()
            .unwrap_err()
            .to_string()
            .contains("`dose` is -1"));
        let scene = SceneOptions {
            dose: f64::NAN,
            ..Default::default()
        };
        assert!(scene.validate().is_err());
        assert!(SceneOptions::default().validate().is_ok());
    }
}
