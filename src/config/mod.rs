//! What the user asked for: YAML read into types that the rest of the program can rely on.
//!
//! The only module that knows YAML. Every key has a default that works; [`Config::parse`] refuses what it does not
//! know, and it names everything that is wrong, not the first thing.

mod anomaly;
mod explain;
#[cfg(test)]
mod fuzz;
mod inject;
mod material;
mod names;
mod neutral;
mod overrides;
mod parse;
mod places;
mod region;
mod sections;
mod simulate;
mod stage;
mod survey;
mod sweep;
mod tree;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use explain::{Explained, explain};
pub use region::{RegionOfInterest, RegionUse};
pub use sections::{
    Align, Archive, Auto, Backend, CommOptions, Device, Io, Model, OneOrMany, Pca, PcaFit, PcaSolver, Precision,
    Preprocess, Preset, Reconstruction, Reduction, Rule, Score, Train, Window, Windows,
};

pub use anomaly::{Anomaly, AnomalyKind};
pub use inject::{EdgeAnomaly, Inject, InjectedCube};
pub use material::{Material, MaterialChoice, MaterialEdge, Peak, Step};
pub use neutral::Work;
pub use overrides::Overrides;
pub use places::{Places, Shape};
pub use simulate::{CubeSpec, Protocol, SceneOptions, Simulate};
pub use stage::Stage;
pub use survey::{Models, SurveyOptions};
pub use sweep::{METRICS, Made, Plot, Point, Sweep, SweepFile};

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where results go: a folder, or `{dir, reconstruction}`.
    pub output: Output,
    /// Every random number follows from it.
    pub seed: u64,
    pub archive: Archive,
    pub preprocess: Preprocess,
    pub io: Io,
    pub model: Model,
    pub train: Train,
    pub comm: CommOptions,
    pub pca: Pca,
    pub score: Score,
    /// What `coreloss simulate` writes.
    pub simulate: Simulate,
    /// What `coreloss inject` writes.
    pub inject: Inject,
    /// What `coreloss survey` does beside scoring.
    pub survey: SurveyOptions,
}

/// Where results go and what they hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "OutputForm")]
pub struct Output {
    /// Folder of the run; made if absent.
    pub dir: PathBuf,
    /// Reconstructed spectra to write.
    pub reconstruction: Reconstruction,
}

impl Default for Output {
    fn default() -> Self {
        Output { dir: "out/run".into(), reconstruction: Reconstruction::Regions }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a folder, or a mapping with `dir` and `reconstruction: regions|window|none`")]
enum OutputForm {
    Dir(PathBuf),
    Full(OutputFields),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OutputFields {
    dir: PathBuf,
    reconstruction: Reconstruction,
}

impl Default for OutputFields {
    fn default() -> Self {
        let Output { dir, reconstruction } = Output::default();
        OutputFields { dir, reconstruction }
    }
}

impl From<OutputForm> for Output {
    fn from(form: OutputForm) -> Self {
        match form {
            OutputForm::Dir(dir) => Output { dir, ..Output::default() },
            OutputForm::Full(OutputFields { dir, reconstruction }) => Output { dir, reconstruction },
        }
    }
}
