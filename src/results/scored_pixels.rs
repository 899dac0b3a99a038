//! Scores, flags and truth of all pixels of a finished run: repeated runs are evaluated together.

use std::path::Path;

use anyhow::Result;

use super::stored::{cube_path, read_json};
use super::titles::{map_title, mask_title};
use crate::archive;
use crate::cube::CubeInfo;
use crate::output::read_signal_f32;

/// The pixels of one score map, in C order.
#[derive(Clone, Debug, Default)]
pub struct ScoredPixels {
    /// NaN where a pixel was ignored.
    pub scores: Vec<f32>,
    pub flagged: Vec<bool>,
    /// 0 normal, above 0 anomalous.
    pub truth: Vec<i32>,
}

impl ScoredPixels {
    /// Reads `method` and `score` of the cube `id` in the run of `directory`; `None` without truth. Rank-local.
    ///
    /// # Errors
    /// Results that are gone or damaged.
    pub fn read(directory: &Path, id: &str, method: &str, score: &str) -> Result<Option<ScoredPixels>> {
        let path = cube_path(directory, id);
        let info: CubeInfo = read_json(&path, "cube")?;
        let Some(truth) = archive::truth(&info.path, [info.y.size, info.x.size])? else {
            return Ok(None);
        };
        let map = |title: String| read_signal_f32(&path, &title).map(|(_, values)| values);
        let flags = map(mask_title(method, score))?;
        Ok(Some(ScoredPixels {
            scores: map(map_title(method, score))?.into_iter().collect(),
            flagged: flags.into_iter().map(|flag| flag > 0.0).collect(),
            truth: truth.into_iter().collect(),
        }))
    }

    /// Adds the pixels of another run.
    pub fn extend(&mut self, other: ScoredPixels) {
        self.scores.extend(other.scores);
        self.flagged.extend(other.flagged);
        self.truth.extend(other.truth);
    }
}
