//! One point of a sweep: its configuration, the cubes that it reads, and the hashes that it is known by.

use std::path::Path;

use anyhow::Result;
use serde_yaml::Value;

use super::hash::hash;
use super::made::{Made, kept_in, resolve};
use crate::config::tree::lay;
use crate::config::{Config, OneOrMany, Work};
use crate::invalid::Invalid;

/// The name of an entry of `list`; not a key of the configuration.
const NAME: &str = "name";

/// One configuration of a sweep.
#[derive(Debug)]
pub struct Point {
    /// `amount_2.4-latent_16`: what varies, fit for a file name.
    pub label: String,
    /// Hash of what its results depend on.
    pub hash: String,
    /// By column, as text; empty where a list leaves the key out.
    pub values: Vec<String>,
    /// Its inputs are the sweep's own cubes where there are such; its output is still that of the base.
    pub config: Config,
    /// The sweep's own cubes that it reads, to be made first, in this order.
    pub made: Vec<Made>,
    /// Hash of what its trained model depends on: points that share it train once.
    pub training: String,
}

impl Point {
    /// The point of `config`, whose own cubes lie in the folder `archive`; `train` tells whether a network is trained.
    ///
    /// # Errors
    /// An input in the folder of the simulated or injected cubes that is none of them.
    pub(super) fn new(
        label: String,
        values: Vec<String>,
        mut config: Config,
        archive: &Path,
        train: bool,
    ) -> Result<Point> {
        let mut wanted = Vec::new();
        let inputs = config.archive.inputs.clone();
        let inputs = resolve(&config, inputs.as_slice(), &mut wanted)?;
        let training = config.archive.train_inputs.take();
        let training = training.map(|inputs| resolve(&config, inputs.as_slice(), &mut wanted)).transpose()?;
        config.archive.inputs = OneOrMany::Many(inputs);
        config.archive.train_inputs = training.map(OneOrMany::Many);
        let training = hash(&given(&config, Work::Training));
        let kind = if train { "" } else { "untrained " };
        let hash = hash(&format!("{kind}{}", given(&config, Work::Run)));
        for inputs in [Some(&mut config.archive.inputs), config.archive.train_inputs.as_mut()].into_iter().flatten() {
            let given = inputs.as_slice().iter();
            *inputs = OneOrMany::Many(given.map(|input| kept_in(archive, input)).collect());
        }
        let made = wanted.into_iter().map(|cube| cube.kept_in(archive)).collect();
        Ok(Point { label, hash, values, config, made, training })
    }
}

/// The values of `combination` by key, as text; the last one where a key is given twice.
pub(super) fn values_of(keys: &[String], combination: &[(String, Value)]) -> Vec<String> {
    let value = |key: &String| combination.iter().rev().find(|(other, _)| other == key);
    keys.iter().map(|key| value(key).map_or(String::new(), |(_, value)| text(value))).collect()
}

/// The configuration of `combination` laid over `tree`; `name` is for messages.
///
/// # Errors
/// [`Invalid`]: a key that is none, a value that is not valid.
pub(super) fn configured(name: &str, mut tree: Value, combination: &[(String, Value)]) -> Result<Config> {
    for (key, value) in combination.iter().filter(|(key, _)| key != NAME) {
        let path: Vec<&str> = key.split('.').collect();
        lay(&mut tree, &path, 0, value).map_err(|problem| Invalid(format!("{name}: {key}: {problem}")))?;
    }
    Config::from_tree(name, tree)
}

/// The values given for the keys that the result of `work` depends on.
fn given(config: &Config, work: Work) -> String {
    let config = config.with_neutral_keys_of(&Config::default(), work);
    format!("{:?}", config.given())
}

/// A value on one line: strings as they are, all else as JSON.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string(value).unwrap_or_default(),
    }
}

/// What varies, fit for a file name.
pub(super) fn label(columns: &[String], values: &[String]) -> String {
    const LONGEST: usize = 80;
    let parts = columns.iter().zip(values).filter(|(_, value)| !value.is_empty());
    let parts: Vec<String> = parts
        .map(|(column, value)| match column.as_str() {
            NAME => value.clone(),
            column => format!("{column}_{value}"),
        })
        .collect();
    let plain: String =
        parts.join("-").chars().filter(|c| c.is_ascii_alphanumeric() || "._+-".contains(*c)).take(LONGEST).collect();
    if plain.is_empty() { "point".into() } else { plain.trim_start_matches('.').into() }
}
