//! One point of a sweep: its configuration, where the cubes that it reads come from, and what it is known by.

use anyhow::Result;
use serde_yaml::Value;
use sha2::{Digest, Sha256};

use super::made::{kept_in, resolve};
use super::{Point, Sweep};
use crate::config::tree::lay;
use crate::config::{Config, OneOrMany, Work};
use crate::invalid::Invalid;

/// What `name:` of a list's entry gives; it is no key of the configuration.
const NAME: &str = "name";

/// The next point of `sweep`: `combination` laid over `tree`.
pub(super) fn point(
    name: &str,
    sweep: &Sweep,
    keys: &[String],
    mut tree: Value,
    combination: &[(String, Value)],
) -> Result<Point> {
    let values: Vec<String> = keys
        .iter()
        .map(|key| {
            let mut given = combination.iter().filter(|(other, _)| other == key);
            given.next_back().map_or(String::new(), |(_, value)| text(value))
        })
        .collect();
    let label = label(&sweep.columns, &values);
    let place = format!("{name}: point {} ({label})", sweep.points.len());
    for (key, value) in combination.iter().filter(|(key, _)| key != NAME) {
        let path: Vec<&str> = key.split('.').collect();
        lay(&mut tree, &path, 0, value).map_err(|problem| Invalid(format!("{place}: {key}: {problem}")))?;
    }
    let mut config = Config::from_tree(&place, tree)?;
    let mut wanted = Vec::new();
    let inputs = config.archive.inputs.clone();
    let inputs = resolve(&config, inputs.as_slice(), &mut wanted)?;
    let training = config.archive.train_inputs.take();
    let training = training.map(|inputs| resolve(&config, inputs.as_slice(), &mut wanted)).transpose()?;
    config.archive.inputs = OneOrMany::Many(inputs);
    config.archive.train_inputs = training.map(OneOrMany::Many);
    let training = hash(&given(&config, Work::Training));
    let kind = if sweep.train { "" } else { "untrained " };
    let hash = hash(&format!("{kind}{}", given(&config, Work::Run)));
    let folder = sweep.store.join("archive");
    for inputs in [Some(&mut config.archive.inputs), config.archive.train_inputs.as_mut()].into_iter().flatten() {
        let places = inputs.as_slice().iter();
        *inputs = OneOrMany::Many(places.map(|input| kept_in(&folder, input)).collect());
    }
    Ok(Point {
        label,
        hash,
        values,
        config,
        made: wanted.into_iter().map(|cube| cube.kept_in(&folder)).collect(),
        training,
    })
}

/// What is given of the keys that the result of `work` depends on.
fn given(config: &Config, work: Work) -> String {
    let config = config.with_neutral_keys_of(&Config::default(), work);
    format!("{:?}", config.given())
}

/// Raised whenever a configuration comes to give other results, as when a default changes: a folder of cubes, trainings and
/// points must not answer for a later program than made them.
const RESULTS: u32 = 3;

/// Forty bits of SHA-256.
pub(super) fn hash(text: &str) -> String {
    format!("{:.10x}", Sha256::digest(format!("{RESULTS} {text}")))
}

/// A value on one line: strings as they are, all else as JSON.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string(value).unwrap_or_default(),
    }
}

/// What varies, fit for a file name.
fn label(columns: &[String], values: &[String]) -> String {
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
