//! How many cubes are surveyed.

use std::collections::BTreeMap;

use glob::Pattern;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::values::OneOrMany;

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
        SurveyOptions { models: Models::PerGroup, pretrained: None, tags: BTreeMap::new(), train_cubes: 32, shown: 100 }
    }
}

impl SurveyOptions {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require(
            (self.models == Models::Pretrained) == self.pretrained.is_some(),
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

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_tag_needs_globs() {
        let refused = |text: &str| Config::parse("s.yaml", text, &[]).unwrap_err().to_string();
        let message = refused("survey: {tags: {steel: ['a/*', 'b[']}}");
        assert!(message.contains("survey.tags: steel: `b[` is no glob"), "{message}");
    }
}
