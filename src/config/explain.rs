//! What each key of a configuration means, from the JSON schema of its fields, which holds their comments.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Config, SweepFile};
use crate::invalid::Invalid;

/// The prefix of the keys of a sweep file, which is not a section of a configuration.
const SWEEP: &str = "sweep";

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// `train.steps`.
    pub key: String,
    /// What it is, with units and range.
    pub meaning: String,
    /// As YAML; none for a section or a key that must be given.
    pub default: Option<String>,
    /// The words that it accepts, each with its meaning.
    pub choices: Vec<(String, String)>,
}

/// `key` and all below it; every key of a configuration for "", those of a sweep file for `sweep`.
///
/// # Errors
/// [`Invalid`]: no such key, with the nearest one.
pub fn explain(key: &str) -> Result<Vec<Explained>, Invalid> {
    let mut all = Vec::new();
    walk(&schema::<Config>(), "", None, &mut all);
    if !key.is_empty() {
        walk(&schema::<SweepFile>(), SWEEP, None, &mut all);
    }
    let below = |found: &str| {
        key.is_empty() || found.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let found: Vec<Explained> = all.iter().filter(|one| below(&one.key)).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let near = all
        .iter()
        .max_by(|a, b| {
            let likeness = |one: &Explained| strsim::jaro_winkler(&one.key, key);
            likeness(a).total_cmp(&likeness(b))
        })
        .map_or("", |one| &one.key);
    Err(Invalid(format!(
        "no key {key:?} in a configuration; did you mean {near:?}? `coreloss config` shows all of them"
    )))
}

/// The schema of `T`, with the types of its fields written out in place.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Adds the keys of `schema` below `path`, those of sections and of items of lists after the key that holds them.
fn walk(schema: &Value, path: &str, defaults: Option<&Value>, found: &mut Vec<Explained>) {
    let fields = parts(schema).into_iter().find_map(|part| part.get("properties")?.as_object());
    for (name, field) in fields.into_iter().flatten() {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = defaults.and_then(|defaults| defaults.get(name)).or(field.get("default"));
        let shown = default.filter(|value| !value.is_object());
        found.push(Explained {
            key: key.clone(),
            meaning: description(field),
            default: shown.and_then(|value| serde_yaml::to_string(value).ok()).map(|text| text.trim().to_string()),
            choices: parts(field).into_iter().flat_map(words).collect(),
        });
        walk(field, &key, default, found);
    }
}

/// A schema, its alternatives (`auto` or a number, one or a list) and the items of its lists, at any depth.
fn parts(schema: &Value) -> Vec<&Value> {
    let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    let inner = alternatives.chain(schema.get("items")).flat_map(parts);
    std::iter::once(schema).chain(inner).collect()
}

/// The words that a part of a schema allows, each with its meaning.
fn words(part: &Value) -> Vec<(String, String)> {
    let listed = part.get("enum").and_then(Value::as_array).into_iter().flatten();
    let words = listed.chain(part.get("const")).filter_map(Value::as_str);
    words
        .map(|word| (word.to_string(), if part.get("const").is_some() { description(part) } else { String::new() }))
        .collect()
}

/// The comment on one line, its links as plain code.
fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.replace('\n', " ").replace("[`", "`").replace("`]", "`")
}

impl Explained {
    /// As lines for a terminal.
    pub fn text(&self) -> String {
        let mut text = self.key.clone();
        if let Some(default) = &self.default {
            text.push_str(&format!(" (default: {})", default.replace('\n', " ")));
        }
        text.push_str(&format!("\n    {}\n", self.meaning));
        for (word, meaning) in &self.choices {
            let line = format!("    {word}: {meaning}");
            text.push_str(line.trim_end_matches([':', ' ']));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_configuration_is_explained() {
        let mut all = explain("").unwrap();
        let value = serde_json::to_value(Config::default()).unwrap();
        let mut wanted = Vec::new();
        keys(&value, "", &mut wanted);
        for key in wanted {
            assert!(all.iter().any(|one| one.key == key), "{key} is not found");
        }
        all.extend(explain(SWEEP).unwrap());
        for Explained { key, meaning, .. } in all {
            assert!(!meaning.is_empty(), "{key} has no comment");
        }
    }

    fn keys(value: &Value, path: &str, found: &mut Vec<String>) {
        for (name, member) in value.as_object().into_iter().flatten() {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            keys(member, &key, found);
            found.push(key);
        }
    }

    #[test]
    fn a_key_has_its_meaning_default_and_choices() {
        let found = explain("preprocess.align").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].default.as_deref(), Some("none"));
        let words: Vec<&str> = found[0].choices.iter().map(|(word, _)| &word[..]).collect();
        assert_eq!(words, ["none", "low_loss", "edge"]);
        assert!(explain("inject.cubes").unwrap().len() > 5);
        assert!(explain("sweep").unwrap().iter().any(|one| one.key == "sweep.plots.by"));
        let error = explain("train.stepz").unwrap_err();
        assert!(error.0.contains("train.steps"), "{error}");
    }

    #[test]
    fn texts_have_the_numbers_of_the_program() {
        let meaning = |key: &str| explain(key).unwrap().remove(0).meaning;
        let config = Config::parse("test", "model: {preset: compact}", &[]).unwrap();
        let length = |patch| config.train.length(1, patch, config.model.preset);
        let [small, large] = [[12, 12], [24, 24]].map(|patch| length(patch).steps);
        let steps = format!("at least {small} with patches of 12 x 12 pixels, or {large} with 24 x 24");
        assert!(meaning("train.steps").contains(&steps), "{steps}");
        let patch = |shape: [usize; 3]| config.model.patch_for([shape].into_iter());
        assert_eq!(patch([48, 48, 2048]), [24, 24]);
        assert_eq!([patch([47, 48, 2048]), patch([48, 48, 2049])], [[12, 12]; 2]);
        let text = "24 x 24, with `compact` 12 x 12 where a cube to train on has fewer than 48 lines or columns, or \
                    more than 2048 channels";
        assert!(meaning("model.patch").contains(text));
        let blind = Config::default();
        let steps = blind.train.length(200 * 1024, [32, 32], blind.model.preset).steps;
        assert!(meaning("train.steps").contains(&format!("at most {steps}")), "{steps}");
        let pace = blind.pace();
        assert!(meaning("train.global_batch").contains(&format!("`auto`: {}", pace.global_batch)));
        assert!(meaning("train.micro_batch").contains(&format!("`auto`: {}", pace.micro_batch)));
        assert!(meaning("train.learning_rate").contains(&format!("`auto`: {:e}", pace.learning_rate)));
        assert!(meaning("train.clip").contains(&format!("`auto`: {}", pace.clip)));
    }
}
