//! From YAML text and `--set a.b=value` to a [`Config`], with errors that name the key, the line and what to do.

use anyhow::Result;
use serde_yaml::{Mapping, Value};

use super::Config;
use super::tree::{compare, given, set};
use crate::invalid::Invalid;

impl Config {
    /// Reads `text` (of the file `name`, for messages) and lays `overrides` (`a.b=value`, YAML values) over it.
    ///
    /// # Errors
    /// [`Invalid`]: unknown key with the nearest known one and its line, wrong type, value out of range.
    pub fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Config> {
        // Editors of other systems begin a file with a byte-order mark.
        let text = text.trim_start_matches('\u{feff}');
        let empty = text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'));
        // Read once without the overrides: only the text itself knows its lines.
        let mut config = if empty {
            Config::default()
        } else {
            let read = serde_yaml::from_str(text);
            read.map_err(|error| Invalid(format!("{name}: {}{}", in_words(&error), mend(&error, text))))?
        };
        if !overrides.is_empty() {
            let mut value = if empty {
                Value::Mapping(Mapping::new())
            } else {
                serde_yaml::from_str(text).map_err(|error| Invalid(format!("{name}: {error}")))?
            };
            for assignment in overrides {
                set(&mut value, assignment)?;
            }
            let name = format!("{name} with --set {}", overrides.join(" --set "));
            config = read(&name, value)?;
        }
        config.validate(name)?;
        Ok(config)
    }

    /// As [`Config::parse`], from YAML that is read already.
    pub(super) fn from_tree(name: &str, tree: Value) -> Result<Config> {
        let config = match tree {
            Value::Null => Config::default(),
            tree => read(name, tree)?,
        };
        config.validate(name)?;
        Ok(config)
    }

    /// The whole configuration as YAML, defaults included.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("a configuration has plain types")
    }

    /// The keys in which two configurations differ, as `key: mine -> other`.
    pub fn differences(&self, other: &Config) -> Vec<String> {
        let value = |config: &Config| serde_yaml::to_value(config).expect("a configuration has plain types");
        let mut found = Vec::new();
        compare("", &value(self), &value(other), &mut found);
        found.into_iter().map(|(key, mine, other)| format!("{key}: {mine} -> {other}")).collect()
    }

    /// The keys that are not at their default, with their values as JSON, in the order of the fields.
    pub fn given(&self) -> Vec<(String, String)> {
        given(self)
    }
}

fn read(name: &str, tree: Value) -> Result<Config> {
    // As text again, a number serves where text is wanted: `--set` must not change what is valid.
    let as_text = serde_yaml::to_string(&tree).ok().and_then(|text| serde_yaml::from_str(&text).ok());
    match as_text {
        Some(config) => Ok(config),
        None => Ok(serde_yaml::from_value(tree).map_err(|error| Invalid(format!("{name}: {}", in_words(&error))))?),
    }
}

/// serde's message; with the nearest known key where a key is unknown.
pub(super) fn in_words(error: &serde_yaml::Error) -> String {
    let message = error.to_string();
    let Some(rest) = message.split("unknown field `").nth(1) else {
        return message;
    };
    let mut quoted = rest.split('`');
    let unknown = quoted.next().unwrap_or_default();
    let known = rest.split("expected").nth(1).unwrap_or_default();
    let nearest = known.split('`').skip(1).step_by(2).max_by(|a, b| {
        let alike = |known| strsim::normalized_damerau_levenshtein(unknown, known);
        alike(a).total_cmp(&alike(b))
    });
    let defaults = serde_yaml::to_value(Config::default()).expect("a configuration has plain types");
    match key_that_ends("", &defaults, unknown).or(nearest.map(str::to_owned)) {
        Some(nearest) => format!("{message}. Did you mean `{nearest}`?"),
        None => message,
    }
}

/// What to do about `error` of `text`, where that is known.
fn mend(error: &serde_yaml::Error, text: &str) -> String {
    let message = error.to_string();
    let line = error.location().and_then(|place| text.lines().nth(place.line().saturating_sub(1)));
    if message.contains("scanning an alias") {
        return "; a glob that begins with * needs quotes, as in \"*.hspy\"".into();
    }
    if line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t')) {
        return "; the line begins with a tab, and YAML is indented by spaces".into();
    }
    String::new()
}

/// The first key below `path` of a configuration whose last part is `name`: who writes it in another place means it.
fn key_that_ends(path: &str, tree: &Value, name: &str) -> Option<String> {
    tree.as_mapping()?.iter().find_map(|(key, value)| {
        let key = key.as_str()?;
        let whole = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if key == name { Some(whole) } else { key_that_ends(&whole, value, name) }
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Auto, OneOrMany, Reconstruction};
    use super::*;

    fn refused(text: &str, overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        Config::parse("run.yaml", text, &overrides).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest() {
        let message = refused("seed: 1\ntrain:\n  global_bacth: 16\n", &[]);
        assert!(message.contains("line 3"), "{message}");
        assert!(message.contains("Did you mean `global_batch`?"), "{message}");
        let message = refused("inputs: a.hspy\n", &[]);
        assert!(message.contains("Did you mean `archive.inputs`?"), "{message}");
    }

    #[test]
    fn common_slips_are_told_with_what_to_do() {
        for (text, words) in [
            ("archive:\n  inputs: *.hspy\n", "needs quotes, as in \"*.hspy\""),
            ("archive:\n\tinputs: [a.hspy]\n", "YAML is indented by spaces"),
            ("train:\n  steps: 1_000\n", "`1_000` is no number to YAML: leave out the _"),
            ("train:\n  steps: -5\n", "not -5"),
            ("train:\n  steps: 1.5\n", "not 1.5"),
            ("output: 1.5\n", "a folder (in quotes if it looks like another type)"),
            ("archive:\n  inputs: [2024]\n", "in quotes"),
        ] {
            let message = refused(text, &[]);
            assert!(message.contains(words) && message.contains("run.yaml"), "{message}");
        }
        let config = Config::parse("run.yaml", "output: 20240301\ntrain: {steps: 1e2}\n", &[]).unwrap();
        assert_eq!((config.output.dir.to_str(), config.train.steps), (Some("20240301"), Auto::Given(100)));
    }

    #[test]
    fn a_byte_order_mark_is_no_key_and_overrides_change_no_type() {
        let text = "\u{feff}seed: 4\narchive: {dataset: 1}\n";
        for sets in [vec![], vec!["train.steps=5".to_string()]] {
            let config = Config::parse("run.yaml", text, &sets).unwrap();
            assert_eq!((config.seed, config.archive.dataset.as_deref()), (4, Some("1")));
        }
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let message = refused("train: {micro_batch: 3}\nio: {memory_mib: 1}\n", &[]);
        assert!(message.contains("train.global_batch") && message.contains("io.memory_mib"), "{message}");
    }

    #[test]
    fn overrides_take_yaml_values_and_reach_below_a_plain_output() {
        let sets =
            ["archive.inputs=[a.hspy, b.hspy]", "output.reconstruction=window", "train.steps=5"].map(String::from);
        let config = Config::parse("run.yaml", "output: here\n", &sets).unwrap();
        assert_eq!(config.archive.inputs, OneOrMany::Many(vec!["a.hspy".into(), "b.hspy".into()]));
        assert_eq!(config.output.dir.to_str(), Some("here"));
        assert_eq!(config.output.reconstruction, Reconstruction::Window);
        assert_eq!(config.train.steps, Auto::Given(5));
    }

    #[test]
    fn overrides_reach_into_lists() {
        let text = "simulate: {cubes: [{name: a}, {name: b}]}\n";
        let sets = ["simulate.cubes.*.scene.seed=3", "simulate.cubes.1.scene.dose=5000"].map(String::from);
        let config = Config::parse("run.yaml", text, &sets).unwrap();
        let scenes: Vec<_> = config.simulate.cubes.iter().map(|cube| &cube.scene).collect();
        assert_eq!((scenes[0].seed, scenes[1].seed), (3, 3));
        assert_eq!((scenes[0].dose, scenes[1].dose), (85_000.0, 5000.0));
        let message = refused(text, &["simulate.cubes.2.scene.seed=3"]);
        assert!(message.contains("simulate.cubes is a list of 2"), "{message}");
    }

    #[test]
    fn a_written_configuration_reads_back_equal() {
        let config = Config::parse("run.yaml", "preprocess: {gain: 1.5}\nseed: 7\n", &[]).unwrap();
        let again = Config::parse("again", &config.to_yaml(), &[]).unwrap();
        assert_eq!(config, again);
        assert!(config.differences(&again).is_empty());
        let other = Config::parse("other", "seed: 8\npreprocess: {gain: 1.5}\n", &[]).unwrap();
        assert_eq!(config.differences(&other), ["seed: 7 -> 8"]);
    }

    #[test]
    fn every_shipped_configuration_is_valid() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let mut read = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                Config::parse(&path.display().to_string(), &text, &[]).unwrap();
                read += 1;
            }
        }
        assert!(read >= 3);
    }

    #[test]
    fn an_override_of_an_unknown_key_is_refused() {
        let message = refused("seed: 1\n", &["trian.steps=4"]);
        assert!(message.contains("Did you mean `train`?"), "{message}");
    }

    #[test]
    fn a_region_is_a_box_or_a_polygon() {
        let parse = |regions: &str| Config::parse("run.yaml", &format!("archive: {{regions: [{regions}]}}\n"), &[]);
        for good in [
            "{y: [0, 2], x: [3, 9], use: ignore}",
            "{polygon: [[0, 0], [4.5, 0], [2, 7]], use: train, cubes: monday/*}",
        ] {
            let config = parse(good).unwrap();
            let again = Config::parse("again", &config.to_yaml(), &[]).unwrap();
            assert_eq!(config, again);
        }
        for (bad, word) in [
            ("{y: [2, 2], x: [3, 9], use: ignore}", "one past last"),
            ("{y: [0, 2], use: ignore}", "y and x, or a polygon"),
            ("{y: [0, 2], x: [0, 1], polygon: [[0, 0], [1, 0], [1, 1]], use: train}", "or a polygon"),
            ("{polygon: [[0, 0], [1, 0]], use: train}", "at least three corners"),
            ("{polygon: [[0, 0], [1, 0], [.nan, 1]], use: train}", "at least three corners"),
            ("{y: [0, 2], x: [3, 9], use: ignore, cubes: '[a'}", "no valid glob"),
        ] {
            let message = parse(bad).unwrap_err().to_string();
            assert!(message.contains("archive.regions") && message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_tag_needs_globs() {
        let message = refused("survey: {tags: {steel: ['a/*', 'b[']}}", &[]);
        assert!(message.contains("survey.tags: steel: `b[` is no glob"), "{message}");
    }
}
