//! The cubes that a model learned from, as its checkpoint remembers them: they may be overwritten, and others may be added.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Header, list};
use crate::comm::Comm;
use crate::config::Config;
use crate::cube::Axis;
use crate::shard::owned;
use crate::stream::{Cube, Identity, Use};

/// The identity of each cube, by its id. Empty in checkpoints of older versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LearnedFrom(BTreeMap<String, Identity>);

/// What the newest checkpoint tells of its training.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Training {
    pub learned_from: LearnedFrom,
    pub energy: Axis,
    /// Whether no step is left to do.
    pub finished: bool,
}

impl LearnedFrom {
    /// The `cubes` as they are now; each rank reads its share of them.
    ///
    /// # Collective
    /// # Errors
    /// A cube that cannot be read any more.
    pub fn of(comm: &Comm, config: &Config, cubes: &[Cube]) -> Result<LearnedFrom> {
        let mine = &cubes[owned(cubes.len(), comm.rank(), comm.size())];
        let read = |cube: &Cube| Ok((cube.info().id.clone(), Identity::of(cube, config, Use::Training)?));
        let mine = comm.agree(mine.iter().map(read).collect::<Result<Vec<(String, Identity)>>>())?;
        Ok(LearnedFrom(comm.all_gather(&mine).into_iter().flatten().collect()))
    }

    /// Whether the cubes are known.
    pub fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// The ids of the cubes.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether it learned from a cube of this id.
    pub fn has(&self, cube: &Cube) -> bool {
        self.0.contains_key(&cube.info().id)
    }

    /// Whether it learned from a cube of this id that was another then. Rank-local.
    ///
    /// # Errors
    /// A cube that cannot be read any more.
    pub fn had_another(&self, cube: &Cube, config: &Config) -> Result<bool> {
        match self.0.get(&cube.info().id) {
            Some(then) => Ok(!then.is_of(cube, config, Use::Training)?),
            None => Ok(false),
        }
    }
}

impl Training {
    /// Of the newest checkpoint in `directory`, whose tensors are not read; none where there is none, or none that tells.
    /// Rank-local.
    pub fn newest(directory: &Path) -> Option<Training> {
        let found = list(&directory.join("checkpoints")).ok()?;
        let header = found.iter().rev().find_map(|path| header(path))?;
        Some(Training { finished: header.course.finished, learned_from: header.learned_from, energy: header.energy })
    }
}

/// The header of the checkpoint at `path`, unless it is damaged.
fn header(path: &Path) -> Option<Header> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut description = Vec::new();
    file.take(length).read_to_end(&mut description).ok()?;
    let description: serde_json::Value = serde_json::from_slice(&description).ok()?;
    let text = description.get("__metadata__")?.get(super::HEADER)?.as_str()?;
    serde_json::from_str(text).ok()
}
