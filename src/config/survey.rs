//! `survey`: how many cubes are scored by shared models.

use std::collections::BTreeMap;
use std::path::PathBuf;

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::values::OneOrMany;

/// What `coreloss survey` does besides scoring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SurveyOptions {
    /// Which cubes share a trained model.
    pub models: ModelScope,
    /// Folders of runs whose models are used, each for the cubes of its energy axis (`models: pretrained`).
    pub pretrained: Option<OneOrMany<String>>,
    /// Groups of cubes that belong together: a name and globs of cube ids. Cubes of one group and one energy axis share
    /// a model.
    pub tags: BTreeMap<String, OneOrMany<String>>,
    /// Most cubes of a group that its model learns from; they are spread over the group.
    pub train_cubes: usize,
    /// Files of verdicts that count for the ranking alone: regions recognised as an artefact or as known are set apart. They
    /// may be added at any time.
    pub verdicts: Vec<PathBuf>,
    /// Number of cubes that the page shows with their maps.
    pub shown: usize,
}

impl Default for SurveyOptions {
    fn default() -> Self {
        SurveyOptions {
            models: ModelScope::PerGroup,
            pretrained: None,
            tags: BTreeMap::new(),
            train_cubes: 32,
            verdicts: Vec::new(),
            shown: 100,
        }
    }
}

impl SurveyOptions {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require(
            (self.models == ModelScope::Pretrained) == self.pretrained.is_some(),
            "survey.pretrained: the folders of trained runs, with survey.models: pretrained and only then",
        );
        problems.require(self.train_cubes > 0, "survey.train_cubes: at least 1");
        for (tag, globs) in &self.tags {
            for glob in globs.as_slice() {
                let checked = Pattern::new(glob).map(drop).map_err(|error| format!("`{glob}` is no glob: {error}"));
                problems.take(&format!("survey.tags: {tag}"), checked);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelScope {
    /// Each cube has its own, trained on it.
    PerCube,
    /// One for each energy axis and tag.
    #[default]
    PerGroup,
    /// Trained before, by `coreloss train` or `run`.
    Pretrained,
}
