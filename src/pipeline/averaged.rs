//! Cubes that are stored with the spatial mean already taken: it must not be taken twice.

use anyhow::Result;

use crate::comm::Comm;
use crate::config::Config;
use crate::invalid::Invalid;
use crate::output::read_text;
use crate::stream::Cube;

/// The name of a text in such cubes: the gain (ADU per electron) to run them with.
pub const AVERAGED: &str = "averaged_gain";

/// Refuses such cubes unless `preprocess.spatial_mean` is 1.
///
/// # Collective
/// # Errors
/// The first such cube, with the options to run it with.
pub fn check_averaged<'a>(comm: &Comm, cubes: impl Iterator<Item = &'a Cube>, config: &Config) -> Result<()> {
    if config.preprocess.spatial_mean == 1 {
        return Ok(());
    }
    comm.on_root(|| {
        let paths = cubes.map(|cube| &cube.info().path);
        let found = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "hspy"))
            .find_map(|path| Some((path, read_text(path, AVERAGED).ok()?)));
        match found {
            Some((path, gain)) => Err(Invalid(format!(
                "{}: holds means of 3 x 3 pixels (`protocol` post or roll): give preprocess.spatial_mean=1, \
                 preprocess.gain={gain}, preprocess.despike=false",
                path.display()
            ))
            .into()),
            None => Ok(()),
        }
    })
}
