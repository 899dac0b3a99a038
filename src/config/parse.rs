//! From YAML text and `--set a.b=value` to a [`Config`], with errors that name the key, the line and the mend.

use anyhow::Result;
use serde_yaml::{Mapping, Value};

use super::Config;
use super::tree::{compare, given, set};
use crate::config::{Auto, PcaFit, SurveyOptions};
use crate::invalid::Invalid;

/// As much as an address has bits for.
const MOST_MEMORY_MIB: u64 = 1 << 26;
/// More than any spectrum spans that is brought in line.
const MOST_SHIFT_EV: f64 = 1e3;

impl Config {
    /// Reads `text` (of the file `name`, for messages) and lays `overrides` (`a.b=value`, YAML values) over it.
    ///
    /// # Errors
    /// [`Invalid`]: unknown key with the nearest known one and its line, wrong type, value out of range.
    pub fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Config> {
        let empty = text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'));
        // Read once without the overrides: only the text itself knows its lines.
        let mut config = if empty {
            Config::default()
        } else {
            serde_yaml::from_str(text).map_err(|error| Invalid(format!("{name}: {}", explain(&error))))?
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

    fn validate(&self, name: &str) -> Result<()> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_string());
            }
        };
        let train = &self.train;
        require(train.micro_batch > 0, "train.micro_batch: at least 1");
        require(
            train.micro_batch > 0 && train.global_batch > 0 && train.global_batch.is_multiple_of(train.micro_batch),
            "train.global_batch: a multiple of train.micro_batch, at least one of it",
        );
        require(train.steps != Auto::Given(0), "train.steps: at least 1, or auto");
        require(train.epochs != Some(0), "train.epochs: at least 1");
        require(train.learning_rate > 0.0 && train.learning_rate.is_finite(), "train.learning_rate: above 0");
        require(train.kl_weight >= 0.0 && train.kl_weight.is_finite(), "train.kl_weight: 0 or more");
        require(train.clip > 0.0, "train.clip: above 0");
        require((0.0..=0.5).contains(&train.validation), "train.validation: from 0 to 0.5");
        require(train.checkpoint_epochs != Auto::Given(0), "train.checkpoint_epochs: at least 1, or auto");
        require(train.keep_checkpoints > 0, "train.keep_checkpoints: at least 1");
        require(train.cudnn_tries != Auto::Given(0), "train.cudnn_tries: at least 1, or auto");
        require(train.lanes > 0, "train.lanes: at least 1");
        require((64..=MOST_MEMORY_MIB).contains(&self.io.memory_mib), "io.memory_mib: from 64 to 67108864 (64 TiB)");
        require(matches!(self.preprocess.spatial_mean, 1 | 3), "preprocess.spatial_mean: 1 (none) or 3");
        for (key, value) in [("gain", self.preprocess.gain), ("read_noise", self.preprocess.read_noise)] {
            if let Auto::Given(value) = value {
                let least = if key == "gain" { value > 0.0 } else { value >= 0.0 };
                require(least && value.is_finite(), &format!("preprocess.{key}: a positive number, or auto"));
            }
        }
        let components = self.pca.components.as_slice();
        require(!components.contains(&Auto::Given(0)), "pca.components: each at least 1, or auto");
        require(!components.is_empty(), "pca.components: at least one number, or auto");
        require(
            (1..components.len()).all(|i| !components[..i].contains(&components[i])),
            "pca.components: each number once",
        );
        require(
            self.model.patch.is_none_or(|[y, x]| {
                let fits = |size: usize| size >= 4 && size.is_multiple_of(4);
                (y == 1 || fits(y)) && fits(x)
            }),
            "model.patch: [y, x], each a multiple of 4, or y = 1 for line scans",
        );
        require(self.model.latent != Some(0), "model.latent: at least 1");
        let increasing = |[low, high]: [f64; 2]| low.is_finite() && high.is_finite() && low < high;
        require(
            self.archive.energy_range_ev.is_none_or(increasing),
            "archive.energy_range_ev: [low, high] in eV with low < high",
        );
        if let super::Windows::List(windows) = &self.score.windows {
            for window in windows {
                require(
                    increasing(window.range_ev) && increasing(window.background_ev),
                    &format!("score.windows: {}: ranges are [low, high] in eV with low < high", window.name),
                );
                require(
                    window.background_ev[1] <= window.range_ev[1] && window.background_ev[0] < window.range_ev[0],
                    &format!("score.windows: {}: background_ev lies before the edge", window.name),
                );
            }
        }
        for region in &self.archive.regions {
            if let Err(problem) = region.validate() {
                require(false, &format!("archive.regions: {problem}"));
            }
        }
        require(
            (self.survey.models == super::Models::Pretrained) == self.survey.pretrained.is_some(),
            "survey.pretrained: the folders of trained runs, with survey.models: pretrained and only then",
        );
        require(
            self.pca.fit == PcaFit::Cube || self.survey == SurveyOptions::default(),
            "survey: its cubes are decomposed one by one; leave pca.fit at cube",
        );
        require(self.survey.train_cubes > 0, "survey.train_cubes: at least 1");
        if let Err(problem) = self.survey.validate() {
            require(false, &format!("survey.tags: {problem}"));
        }
        require(
            self.archive.low_loss.as_ref().is_none_or(|pattern| pattern.contains("{}")),
            "archive.low_loss: a path relative to the cube, with {} for the cube's name without extension",
        );
        require(
            self.preprocess.max_shift_ev > 0.0 && self.preprocess.max_shift_ev <= MOST_SHIFT_EV,
            "preprocess.max_shift_ev: above 0, to 1000 eV",
        );
        require(self.preprocess.rebin > 0, "preprocess.rebin: at least 1");
        require(!self.output.dir.as_os_str().is_empty(), "output: a folder");
        if let Err(error) = self.simulate.validate() {
            problems.push(format!("simulate.cubes: {error:#}"));
        }
        if let Err(error) = self.inject.validate() {
            problems.push(format!("inject.cubes: {error}"));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Invalid(format!("{name}: {}", problems.join("; "))).into())
    }
}

fn read(name: &str, tree: Value) -> Result<Config> {
    Ok(serde_yaml::from_value(tree).map_err(|error| Invalid(format!("{name}: {}", explain(&error))))?)
}

/// serde's message, with the nearest known key where one was not known.
pub(super) fn explain(error: &serde_yaml::Error) -> String {
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
    match nearest {
        Some(nearest) => format!("{message}. Did you mean `{nearest}`?"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{OneOrMany, Reconstruction};
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
}
