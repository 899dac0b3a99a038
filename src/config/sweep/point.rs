//! One point of a sweep: its configuration, where the cubes that it reads come from, and what it is known by.

use std::path::Path;

use anyhow::{ensure, Result};
use glob::{MatchOptions, Pattern};
use serde_yaml::Value;
use sha2::{Digest, Sha256};

use super::{Point, Simulated, Sweep};
use crate::config::parse::lay;
use crate::config::{Config, CubeSpec, Invalid, OneOrMany, Simulate};

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
            given
                .next_back()
                .map_or(String::new(), |(_, value)| text(value))
        })
        .collect();
    let label = label(&sweep.columns, &values);
    let place = format!("{name}: point {} ({label})", sweep.points.len());
    for (key, value) in combination.iter().filter(|(key, _)| key != NAME) {
        let path: Vec<&str> = key.split('.').collect();
        lay(&mut tree, &path, 0, value)
            .map_err(|problem| Invalid(format!("{place}: {key}: {problem}")))?;
    }
    let mut config = Config::from_tree(&place, tree)?;
    let mut wanted = Vec::new();
    let inputs = config.archive.inputs.clone();
    let inputs = resolve(&config, inputs.as_slice(), &mut wanted)?;
    let training = config.archive.train_inputs.take();
    let training = training
        .map(|inputs| resolve(&config, inputs.as_slice(), &mut wanted))
        .transpose()?;
    config.archive.inputs = OneOrMany::Many(inputs);
    config.archive.train_inputs = training.map(OneOrMany::Many);
    let training = hash(&trained(&config));
    let kind = if sweep.train { "" } else { "untrained " };
    let hash = hash(&format!("{kind}{}", results(&config)));
    let folder = sweep.output.join("archive");
    for inputs in [
        Some(&mut config.archive.inputs),
        config.archive.train_inputs.as_mut(),
    ]
    .into_iter()
    .flatten()
    {
        let place = |input: &String| match input.strip_prefix(SIMULATED) {
            Some(name) => folder.join(format!("{name}.hspy")).display().to_string(),
            None => input.clone(),
        };
        *inputs = OneOrMany::Many(inputs.as_slice().iter().map(place).collect());
    }
    Ok(Point {
        label,
        hash,
        values,
        config,
        simulated: wanted,
        training,
    })
}

/// Stands for the folder in which a sweep keeps its simulated cubes, wherever that is.
const SIMULATED: &str = "simulated:";

/// `inputs` with those that lie in `simulate.dir` named by what they hold; adds these to `wanted`.
fn resolve(config: &Config, inputs: &[String], wanted: &mut Vec<Simulated>) -> Result<Vec<String>> {
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    let folder = &config.simulate.dir;
    // What all cubes have in common counts for each of them.
    let mut common = config.simulate.clone();
    common.dir = Simulate::default().dir;
    common.cubes.clear();
    let common = serde_json::to_string(&common)?;
    let mut resolved = Vec::new();
    for input in inputs {
        let pattern = Pattern::new(input).ok();
        let mut found = false;
        for (index, cube) in config.simulate.cubes.iter().enumerate() {
            let file = folder.join(format!("{}.hspy", cube.name));
            let matches = pattern
                .as_ref()
                .is_some_and(|pattern| pattern.matches_path_with(&file, options));
            if !matches && Path::new(input) != file && Path::new(input) != folder {
                continue;
            }
            found = true;
            let scene = serde_json::to_string(&cube.scene)?;
            let name = format!(
                "{}-{}",
                cube.name,
                hash(&format!("{index} {scene} {common}"))
            );
            let cube = Simulated {
                spec: CubeSpec {
                    name: name.clone(),
                    scene: cube.scene.clone(),
                },
                index: index as u64,
            };
            if !wanted.contains(&cube) {
                wanted.push(cube);
            }
            resolved.push(format!("{SIMULATED}{name}"));
        }
        ensure!(
            found || config.simulate.cubes.is_empty() || !Path::new(input).starts_with(folder),
            Invalid(format!(
                "{input} lies in simulate.dir and means none of simulate.cubes"
            ))
        );
        if !found {
            resolved.push(input.clone());
        }
    }
    Ok(resolved)
}

/// All that the results depend on.
fn results(config: &Config) -> String {
    let mut config = config.clone();
    let default = Config::default();
    config.output.dir = default.output.dir;
    config.io = default.io;
    config.comm = default.comm;
    config.simulate = default.simulate;
    config.survey = default.survey;
    config.train.device = default.train.device;
    config.train.checkpoint_epochs = default.train.checkpoint_epochs;
    format!("{:?}", config.given())
}

/// All that the trained model depends on.
fn trained(config: &Config) -> String {
    let mut config = config.clone();
    let default = Config::default();
    config.output = default.output;
    config.pca = default.pca;
    config.score = default.score;
    if config.archive.train_inputs.is_some() {
        config.archive.inputs = default.archive.inputs;
    }
    results(&config)
}

/// Forty bits of SHA-256.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest[..5]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
    let parts = columns
        .iter()
        .zip(values)
        .filter(|(_, value)| !value.is_empty());
    let parts: Vec<String> = parts
        .map(|(column, value)| match column.as_str() {
            NAME => value.clone(),
            column => format!("{column}_{value}"),
        })
        .collect();
    let plain: String = parts
        .join("-")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "._+-".contains(*c))
        .take(LONGEST)
        .collect();
    if plain.is_empty() {
        "point".into()
    } else {
        plain.trim_start_matches('.').into()
    }
}
