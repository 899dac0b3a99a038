//! A whole configuration, section by section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::comm::CommOptions;
use super::inject::Inject;
use super::io::Io;
use super::methods::Methods;
use super::model::Model;
use super::output::Output;
use super::pca::{Pca, PcaFit};
use super::preprocess::Preprocess;
use super::problems::Problems;
use super::score::Score;
use super::simulate::Simulate;
use super::survey::SurveyOptions;
use super::train::{Pace, Train};
use crate::invalid::Invalid;

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where results go: a folder, or `{dir, reconstruction}`.
    pub output: Output,
    /// Seed of every random number.
    pub seed: u64,
    pub archive: Archive,
    pub preprocess: Preprocess,
    pub io: Io,
    pub model: Model,
    pub train: Train,
    pub comm: CommOptions,
    pub pca: Pca,
    pub score: Score,
    pub methods: Methods,
    /// What `coreloss simulate` writes.
    pub simulate: Simulate,
    /// What `coreloss inject` writes.
    pub inject: Inject,
    /// What `coreloss survey` does besides scoring.
    pub survey: SurveyOptions,
}

impl Config {
    /// What a step of training takes: what is given, else what suits the preset.
    pub fn pace(&self) -> Pace {
        self.train.pace(self.model.preset)
    }

    /// # Errors
    /// [`Invalid`], with all that is wrong in the sections and between them.
    pub(super) fn validate(&self, name: &str) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        self.output.validate(&mut problems);
        self.archive.validate(&mut problems);
        self.preprocess.validate(&mut problems);
        self.io.validate(&mut problems);
        self.model.validate(&mut problems);
        self.train.validate(self.model.preset, &mut problems);
        self.pca.validate(&mut problems);
        self.score.validate(&mut problems);
        self.methods.validate(&mut problems);
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
