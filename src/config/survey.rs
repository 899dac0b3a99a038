//! How many cubes are surveyed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::OneOrMany;

/// What `coreloss survey` does beside scoring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SurveyOptions {
    /// Which cubes share a trained model.
    pub models: Models,
    /// Folders of runs whose models are used, each for the cubes of its energy axis (`models: pretrained`).
    pub pretrained: Option<OneOrMany<String>>,
    /// Groups of what belongs together: a name and globs on cube ids. Cubes of one energy axis and name share a model.
    pub tags: BTreeMap<String, OneOrMany<String>>,
    /// Cubes of a group that its model learns from, at most; spread over the group.
    pub train_cubes: usize,
    /// Cubes that the page shows with their maps.
    pub shown: usize,
}

impl Default for SurveyOptions {
    fn default() -> Self {
        SurveyOptions {
            models: Models::PerGroup,
            pretrained: None,
            tags: BTreeMap::new(),
            train_cubes: 32,
            shown: 100,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Models {
    /// Each cube its own, trained on it.
    PerCube,
    /// One for each energy axis and tag.
    #[default]
    PerGroup,
    /// Trained before, by `coreloss train` or `run`.
    Pretrained,
}
