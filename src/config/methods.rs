//! `methods`: what is scored besides the network and the linear baselines.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// What is scored besides the network and the linear baselines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Methods {
    /// The linear blind spot, method `context`: up to four components of each pixel, predicted from the rest of the field by what
    /// has not seen it. In fields of up to 65536 pixels as a sum of plane waves, which a lattice is once each line is put where
    /// drift and jitter have moved it, or by a ridge regression on the pixels around, whichever is nearer; in larger ones by the
    /// regression.
    pub context: bool,
    /// All of the program's own methods as one, method `ensemble`: each pixel has the score of the method that is surest of it.
    /// Its map is the default.
    pub ensemble: bool,
    /// Reconstructions by other programs, by name: `{mine: "models/{}.npy"}`. Each is an array `[y, x, energy]` of electrons
    /// or of shares, in a `.npy` file or in any format that cubes are read from; `{}` stands for the id of the cube. It is
    /// scored and reported like the program's own methods.
    pub given: BTreeMap<String, String>,
}

impl Default for Methods {
    fn default() -> Self {
        Methods { context: true, ensemble: true, given: BTreeMap::new() }
    }
}

impl Methods {
    pub(super) fn validate(&self, problems: &mut Problems) {
        for (name, path) in &self.given {
            let is_word = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let is_taken = ["cvae", "context", "ensemble", "mean"].contains(&name.as_str()) || name.starts_with("pca");
            problems.require(
                is_word && !name.is_empty() && !is_taken,
                format!(
                    "methods.given: {name:?} cannot name a method: use lower-case letters, digits and _, and none of the \
                     program's own names (ensemble, cvae, context, mean, pca...)"
                ),
            );
            problems.require(!path.is_empty(), format!("methods.given: {name}: the path is empty"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_given_method_has_a_name_of_its_own() {
        let parse = |yaml: &str| Config::parse("test", yaml, &[]);
        parse("methods: {given: {mine: 'a/{}.npy', other_2: b.hspy}}").unwrap();
        for name in ["pca3", "cvae", "context", "ensemble", "Mine", "a-b"] {
            let error = parse(&format!("methods: {{given: {{{name}: a.npy}}}}")).unwrap_err().to_string();
            assert!(error.contains("cannot name a method"), "{name}: {error}");
        }
    }
}
