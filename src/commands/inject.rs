//! `coreloss inject`: copies of measured cubes with known anomalies, and their truth maps.

use anyhow::{Context, Result};

use super::ConfigArguments;
use super::startup::configured;
use crate::comm::Comm;
use crate::ending::Ending;
use crate::invalid::Invalid;
use crate::labelled::write_copy;

/// Writes `inject.cubes` as `NAME.hspy` with `NAME.truth.hspy` into `inject.dir`; they are the same for any number of
/// ranks.
///
/// # Collective
/// # Errors
/// No cubes in the configuration; an input that cannot be read; a copy that would replace a file that is not one; an
/// edge that is not found; anomalies that do not fit on the specimen; a folder that cannot be written.
pub fn inject(comm: &Comm, arguments: &ConfigArguments) -> Result<Ending> {
    let config = &configured(comm, arguments)?;
    let specification = &config.inject;
    if specification.cubes.is_empty() {
        return Err(Invalid(
            "inject.cubes is empty: list copies with a name and anomalies, as configs/nanocubes_inject.yaml does"
                .into(),
        )
        .into());
    }
    for cube in &specification.cubes {
        write_copy(comm, config, cube).with_context(|| format!("inject.cubes: {}", cube.name))?;
        if comm.is_root() {
            println!("{}", specification.dir.join(format!("{}.hspy", cube.name)).display());
        }
    }
    Ok(Ending::Done)
}
