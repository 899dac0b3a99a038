//! `coreloss simulate`: the simulated cubes of a configuration, and their truth maps.

use anyhow::{Context, Result};

use super::ConfigArguments;
use super::startup::configured;
use crate::comm::Comm;
use crate::ending::Ending;
use crate::invalid::Invalid;
use crate::labelled::write_cube;

/// Writes `simulate.cubes` as `NAME.hspy` with `NAME.truth.hspy` into `simulate.dir`; they are the same for any number
/// of ranks.
///
/// # Collective
/// # Errors
/// No cubes in the configuration; a folder that cannot be written.
pub fn simulate(comm: &Comm, arguments: &ConfigArguments) -> Result<Ending> {
    let config = &configured(comm, arguments)?;
    let specification = &config.simulate;
    if specification.cubes.is_empty() {
        return Err(Invalid(
            "simulate.cubes is empty: list cubes with a name and a scene, as configs/demo.yaml does".into(),
        )
        .into());
    }
    for (index, cube) in specification.cubes.iter().enumerate() {
        write_cube(comm, config, cube, index as u64).with_context(|| format!("simulate.cubes: {}", cube.name))?;
        if comm.is_root() {
            println!("{}", specification.dir.join(format!("{}.hspy", cube.name)).display());
        }
    }
    Ok(Ending::Done)
}
