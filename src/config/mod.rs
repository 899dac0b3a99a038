//! What the user asked for: YAML read into types that the rest of the program can rely on.
//!
//! The only module that knows YAML. Every key has a default that works; [`Config::parse`] refuses what it does not
//! know, and it names everything that is wrong, not the first thing.

mod anomaly;
mod archive;
mod comm;
mod explain;
#[cfg(test)]
mod fuzz;
mod inject;
mod io;
mod material;
mod model;
mod names;
mod neutral;
mod output;
mod overrides;
mod parse;
mod pca;
mod places;
mod preprocess;
mod problems;
mod region;
mod score;
mod simulate;
mod stage;
mod survey;
mod sweep;
mod train;
mod tree;
mod values;

use serde::{Deserialize, Serialize};

pub use anomaly::{Anomaly, AnomalyKind};
pub use archive::Archive;
pub use comm::{Backend, CommOptions};
pub use explain::{Explained, explain};
pub use inject::{EdgeAnomaly, Inject, InjectedCube};
pub use io::Io;
pub use material::{Material, MaterialChoice, MaterialEdge, Peak, Step};
pub use model::{Model, Preset};
pub use neutral::Work;
pub use output::{Output, Reconstruction};
pub use overrides::Overrides;
pub use pca::{Pca, PcaFit, PcaSolver};
pub use places::{Places, Shape};
pub use preprocess::{Align, Preprocess};
pub use region::{RegionOfInterest, RegionUse};
pub use score::{Rule, Score, Window, Windows};
pub use simulate::{CubeSpec, Protocol, SceneOptions, Simulate};
pub use stage::Stage;
pub use survey::{Models, SurveyOptions};
pub use sweep::{METRICS, Made, Plot, Point, Sweep, SweepFile};
pub use train::{Device, Precision, Reduction, Train, TrainingLength};
pub use values::{Auto, OneOrMany};

use crate::invalid::Invalid;
use problems::Problems;

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

impl Config {
    /// # Errors
    /// [`Invalid`], with all that is wrong in the sections and between them.
    fn validate(&self, name: &str) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        self.output.validate(&mut problems);
        self.archive.validate(&mut problems);
        self.preprocess.validate(&mut problems);
        self.io.validate(&mut problems);
        self.model.validate(&mut problems);
        self.train.validate(&mut problems);
        self.pca.validate(&mut problems);
        self.score.validate(&mut problems);
        problems.take("simulate.cubes", self.simulate.validate());
        problems.take("inject.cubes", self.inject.validate());
        self.survey.validate(&mut problems);
        problems.require(
            self.pca.fit == PcaFit::Cube || self.survey == SurveyOptions::default(),
            "survey: its cubes are decomposed one by one; leave pca.fit at cube",
        );
        problems.end(name)
    }
}
