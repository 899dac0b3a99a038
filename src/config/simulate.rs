//! What a simulated cube is made of, as a configuration writes it.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::anomaly::{Anomaly, AnomalyKind};
use super::material::{Material, MaterialChoice};
use super::names::check_names;
use super::places::within;

/// The cubes of one `coreloss simulate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Simulate {
    /// Folder for the cubes and their truth; made if absent.
    pub dir: PathBuf,
    /// Material of the scenes that name none: `BiFeO3`, `LaMnO3`, `SrTiO3`, or a description ([`Material`]).
    pub material: MaterialChoice,
    /// Writes `NAME.expected.hspy` beside each cube: the counts that the specimen without its anomalies has on average. As one of
    /// `methods.given` it is the best that any model can do.
    pub expectation: bool,
    /// The cubes. Their random numbers depend on their position in this list: append new ones at its end.
    pub cubes: Vec<CubeSpec>,
}

impl Default for Simulate {
    fn default() -> Self {
        Simulate {
            dir: "out/simulated".into(),
            material: MaterialChoice::default(),
            expectation: false,
            cubes: Vec::new(),
        }
    }
}

impl Simulate {
    /// What `scene` shows.
    /// # Errors
    /// A material that is not known or makes no sense.
    pub fn material(&self, scene: &SceneOptions) -> Result<Material> {
        scene.material.as_ref().unwrap_or(&self.material).material()
    }

    /// Refuses what cannot be simulated.
    /// # Errors
    /// Names the cube, the field, its value and the values that it may have.
    pub fn validate(&self) -> Result<()> {
        check_names(self.cubes.iter().map(|cube| cube.name.as_str()))?;
        for cube in &self.cubes {
            let valid = self.material(&cube.scene).and_then(|material| cube.scene.validate(&material));
            if let Err(error) = valid {
                bail!("{}: {error:#}", cube.name);
            }
        }
        Ok(())
    }
}

/// One cube and the name of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CubeSpec {
    /// File name without extension.
    pub name: String,
    #[serde(default)]
    pub scene: SceneOptions,
}

/// At which point anomalies enter the simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The specimen is changed before the electrons are counted: as in a microscope.
    #[default]
    Phys,
    /// The difference, without noise, is added to the 3 x 3 mean of a normal cube: the paper's sharp anomalies. The cube
    /// is stored as that mean, without cosmic rays; score it with `preprocess: {spatial_mean: 1, gain: ...}`.
    Post,
    /// The 20 channels on either side of the edge are rolled in a circle, in the 3 x 3 mean of a normal cube: the authors'
    /// code. Stored as that mean, as `post`.
    Roll,
}

/// What lies where in the field. Anomalies of particles lie on particles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// One crystal.
    #[default]
    Bulk,
    /// Particles of 4 to 9 pixels radius on about a third of a thin film.
    Particles,
    /// Two phases with other amounts of each element and another valence, and a border of a pixel between them.
    Interface,
    /// Grains of some 450 pixels, each with amounts of its own.
    Grains,
}

/// A simulated scene; the defaults are those of the demonstration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SceneOptions {
    /// `simulate.material` by default.
    pub material: Option<MaterialChoice>,
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
    /// Side of a pixel, 0.01 to 100.
    pub pixel_angstrom: f64,
    /// By how much the lattice is turned against the scan, -180 to 180.
    pub lattice_degrees: f64,
    /// Mean thickness in inelastic mean free paths, above 0.
    pub thickness: f64,
    /// Variation of the thickness over the field, rms, relative to its mean: 0 to 0.5.
    pub thickness_rms: f64,
    /// No lattice, and thickness and background the same everywhere.
    pub homogeneous: bool,
    /// Smooth shift of the material's anomalous edge over the field (strain, valence), eV rms; it is no anomaly.
    pub benign_shift_ev: f64,
    /// Energy drift over the scan, eV peak to peak; a twentieth of it, rms, is added at random per scan line.
    pub energy_drift_ev: f64,
    /// Cosmic rays per voxel, 0 to 1.
    pub spike_rate: f64,
    /// Seed of the specimen and of the counts.
    pub seed: u64,
    /// Cubes with the same seed and the same number here show the same specimen; by default a cube's position in the
    /// list, so that each has its own.
    pub specimen: Option<u64>,
    /// Likewise for the scan: its drifts, the noise of its counts, and where its anomalies lie. Cubes that share this
    /// too differ only in what their anomalies are.
    pub scan: Option<u64>,
    pub layout: Layout,
    pub protocol: Protocol,
    /// Writes the expected counts, without noise. For `phys`.
    pub noiseless: bool,
    /// Puts the pixels at random places, so that neighbours tell nothing about each other. For `phys`.
    pub shuffled: bool,
    /// The anomalies; the truth map numbers them from 1.
    pub anomalies: Vec<Anomaly>,
}

impl Default for SceneOptions {
    fn default() -> Self {
        SceneOptions {
            material: None,
            shape: [96, 96, 240],
            energy_offset_ev: 420.0,
            dispersion_ev: 400.0 / 240.0,
            dose: 85_000.0,
            gain: 1.0,
            read_noise: 1.0,
            pixel_angstrom: 0.33,
            lattice_degrees: 7.0,
            thickness: 0.55,
            thickness_rms: 0.12,
            homogeneous: false,
            benign_shift_ev: 0.0,
            energy_drift_ev: 1.0,
            spike_rate: 2e-6,
            seed: 0,
            specimen: None,
            scan: None,
            layout: Layout::Bulk,
            protocol: Protocol::Phys,
            noiseless: false,
            shuffled: false,
            anomalies: Vec::new(),
        }
    }
}

impl SceneOptions {
    /// Refuses what cannot be simulated of `material`.
    /// # Errors
    /// Names the field, its value and the values that it may have.
    pub fn validate(&self, material: &Material) -> Result<()> {
        ensure!(self.shape.iter().all(|&n| n > 0), "`shape` is {:?}: y, x and energy must be at least 1", self.shape);
        within("energy_offset_ev", self.energy_offset_ev, 100.0, 3000.0)?;
        within("dispersion_ev", self.dispersion_ev, 0.005, 20.0)?;
        within("dose", self.dose, 1e-3, 1e12)?;
        within("gain", self.gain, 1e-6, 1e9)?;
        within("read_noise", self.read_noise, 0.0, 1e6)?;
        within("pixel_angstrom", self.pixel_angstrom, 0.01, 100.0)?;
        within("lattice_degrees", self.lattice_degrees, -180.0, 180.0)?;
        within("thickness", self.thickness, 1e-3, 3.0)?;
        within("thickness_rms", self.thickness_rms, 0.0, 0.5)?;
        within("benign_shift_ev", self.benign_shift_ev, 0.0, 10.0)?;
        within("energy_drift_ev", self.energy_drift_ev, 0.0, 20.0)?;
        within("spike_rate", self.spike_rate, 0.0, 1.0)?;
        ensure!(
            self.protocol == Protocol::Phys || !(self.noiseless || self.shuffled),
            "`noiseless` and `shuffled` are for `protocol: phys` only"
        );
        for (i, anomaly) in self.anomalies.iter().enumerate() {
            anomaly
                .validate(material)
                .and_then(|()| self.protocol.validate(anomaly.kind))
                .map_err(|error| error.context(format!("anomaly {}", i + 1)))?;
        }
        Ok(())
    }
}

impl Protocol {
    fn validate(self, kind: AnomalyKind) -> Result<()> {
        match self {
            Protocol::Phys => Ok(()),
            Protocol::Post => {
                ensure!(kind != AnomalyKind::Spike, "`protocol: post` adds no `spike`: give phys");
                Ok(())
            }
            Protocol::Roll => {
                ensure!(kind == AnomalyKind::Shift, "`protocol: roll` is for `kind: shift` only");
                Ok(())
            }
        }
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
        assert_eq!((scene.anomalies[0].discs, scene.anomalies[0].radius_px), (4, [2.2, 4.2]));
        assert_eq!(simulate.cubes[1].scene, SceneOptions::default());
        assert!(serde_yaml::from_str::<Simulate>("cubes: [{name: a, doze: 1}]").is_err());
    }

    #[test]
    fn what_cannot_be_simulated_is_named() {
        let problem = |scene: &str| {
            let yaml = format!("cubes: [{{name: a, scene: {{{scene}}}}}]");
            let simulate: Simulate = serde_yaml::from_str(&yaml).unwrap();
            let checked = simulate.validate();
            checked.map_or_else(|error| error.to_string(), |()| String::new())
        };
        let anomaly = |rest: &str| problem(&format!("anomalies: [{{{rest}}}]"));
        assert_eq!(problem(""), "");
        assert_eq!(anomaly("kind: ratio, amount: .2, element: Fe, shape: pixel, count: 3"), "");
        for (found, word) in [
            (problem("dose: -1"), "a: `dose` is -1"),
            (problem("dose: .nan"), "`dose`"),
            (problem("material: NaCl"), "`material` is NaCl"),
            (anomaly("kind: shift, amount: 2, element: Mn"), "`element` is Mn: the material has O, Fe, Bi"),
            (anomaly("kind: ratio, amount: 2, element: O"), "two `steps`"),
            (anomaly("kind: mixture, amount: .2"), "`valence_shift_ev`"),
            (problem("protocol: post, shuffled: true"), "`shuffled` are for `protocol: phys`"),
            (anomaly("kind: slope, amount: .2, element: O"), "`element` has no meaning"),
            (problem("protocol: roll, anomalies: [{kind: scale, amount: .1}]"), "anomaly 1: `protocol: roll`"),
        ] {
            assert!(found.contains(word), "{found}: {word}");
        }
    }
}
