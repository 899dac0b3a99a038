//! The cubes that a sweep makes for its points, named by what they hold: simulated ones and copies of measured ones.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use glob::{MatchOptions, Pattern};

use super::hash::hash;
use crate::config::tree::given;
use crate::config::{Archive, Config, CubeSpec, Inject, InjectedCube, Simulate};
use crate::invalid::Invalid;

/// A cube of the sweep's own, made once for all points that read it. Its name is the one that the configuration gives
/// it and a hash of all that it depends on.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// With its position in `simulate.cubes`, on which its random numbers depend.
    Simulated(Box<CubeSpec>, u64),
    Injected(InjectedCube),
}

/// Stands for the folder of a sweep's own cubes, wherever that is.
const MADE: &str = "made:";

impl Made {
    pub fn name(&self) -> &str {
        match self {
            Made::Simulated(cube, _) => &cube.name,
            Made::Injected(copy) => &copy.name,
        }
    }

    /// The cube, with its original in `folder` if that is a cube of the sweep's own too.
    pub(super) fn kept_in(self, folder: &Path) -> Made {
        match self {
            Made::Injected(copy) => {
                Made::Injected(InjectedCube { input: copy.input.map(|input| kept_in(folder, &input)), ..copy })
            }
            simulated => simulated,
        }
    }
}

/// The path of `input`; in `folder` if it is a cube of the sweep's own.
pub(super) fn kept_in(folder: &Path, input: &str) -> String {
    match input.strip_prefix(MADE) {
        Some(name) => folder.join(format!("{name}.hspy")).display().to_string(),
        None => input.to_string(),
    }
}

/// `inputs`, with those in `simulate.dir` and `inject.dir` named by what they hold. Adds these to `wanted`, each after
/// its original.
///
/// # Errors
/// [`Invalid`]: an input in one of these folders that is none of its cubes.
pub(super) fn resolve(config: &Config, inputs: &[String], wanted: &mut Vec<Made>) -> Result<Vec<String>> {
    let (simulate, inject) = (&config.simulate, &config.inject);
    let mut resolved = Vec::new();
    for input in inputs {
        let mut found = simulated(config, input)?;
        found.extend(injected(config, input, wanted)?);
        for (section, folder, none) in
            [("simulate", &simulate.dir, simulate.cubes.is_empty()), ("inject", &inject.dir, inject.cubes.is_empty())]
        {
            ensure!(
                !found.is_empty() || none || !Path::new(input).starts_with(folder),
                Invalid(format!("{input} lies in {section}.dir and means none of {section}.cubes"))
            );
        }
        if found.is_empty() {
            resolved.push(input.clone());
        }
        resolved.extend(found.into_iter().map(|cube| want(cube, wanted)));
    }
    Ok(resolved)
}

/// Adds `cube` to `wanted`; gives its name as an input.
fn want(cube: Made, wanted: &mut Vec<Made>) -> String {
    let input = format!("{MADE}{}", cube.name());
    if !wanted.contains(&cube) {
        wanted.push(cube);
    }
    input
}

/// Those of `simulate.cubes` that `input` means.
fn simulated(config: &Config, input: &str) -> Result<Vec<Made>> {
    // What all cubes have in common counts for each of them.
    let common = given(&Simulate { dir: Simulate::default().dir, cubes: Vec::new(), ..config.simulate.clone() });
    let mut found = Vec::new();
    for (index, cube) in config.simulate.cubes.iter().enumerate() {
        if means(input, &config.simulate.dir, &cube.name) {
            let scene = given(&cube.scene);
            let hash = hash(&format!("{index} {scene:?} {common:?}"));
            let spec = CubeSpec { name: format!("{}-{hash}", cube.name), scene: cube.scene.clone() };
            found.push(Made::Simulated(Box::new(spec), index as u64));
        }
    }
    Ok(found)
}

/// Those of `inject.cubes` that `input` means; adds simulated originals to `wanted`.
fn injected(config: &Config, input: &str, wanted: &mut Vec<Made>) -> Result<Vec<Made>> {
    // How the original is read and which of its pixels are specimen.
    let archive = given(&Archive { inputs: Archive::default().inputs, train_inputs: None, ..config.archive.clone() });
    let preprocess = given(&config.preprocess);
    let Inject { dir, cubes, .. } = &config.inject;
    let mut found = Vec::new();
    for copy in cubes.iter().filter(|copy| means(input, dir, &copy.name)) {
        let mut copy = copy.clone();
        let original = copy.input.or(config.inject.input.clone());
        let original = original.unwrap_or_default();
        let mut own = simulated(config, &original)?;
        copy.input = Some(match (own.pop(), own.len()) {
            (None, _) => original,
            (Some(cube), 0) => want(cube, wanted),
            (Some(_), more) => bail!(Invalid(format!(
                "inject.cubes: {}: `input` {original} means {} of simulate.cubes: name one",
                copy.name,
                more + 1
            ))),
        });
        let name = std::mem::take(&mut copy.name);
        let held = serde_json::to_string(&copy)?;
        copy.name = format!("{name}-{}", hash(&format!("{held} {archive:?} {preprocess:?}")));
        found.push(Made::Injected(copy));
    }
    Ok(found)
}

/// Whether `input`, a path or a glob, means the cube `name` in `folder`.
fn means(input: &str, folder: &Path, name: &str) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let file = folder.join(format!("{name}.hspy"));
    Path::new(input) == file
        || Path::new(input) == folder
        || Pattern::new(input).is_ok_and(|glob| glob.matches_path_with(&file, options))
}
