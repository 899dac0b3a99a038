//! The maps of a scored cube that the ranking of a survey shows.

use anyhow::Result;
use ndarray::Array2;

use super::stored::{cube_path, read_map};
use super::summary::CubeSummary;
use super::titles::{COUNTS, REGIONS, map_title};
use crate::config::Config;

/// The maps of a scored cube that the ranking of a survey shows, `[y, x]`.
pub struct Thumbnail {
    /// Mean counts of each spectrum.
    pub mean_image: Array2<f32>,
    /// The default score.
    pub score: Array2<f32>,
    /// Region of each pixel, 0 for none.
    pub labels: Array2<i32>,
}

/// Reads the maps of a scored cube. Rank-local.
///
/// # Errors
/// A file that is gone or damaged.
pub fn read_thumbnail(config: &Config, summary: &CubeSummary) -> Result<Thumbnail> {
    let path = cube_path(&config.output.dir, &summary.name);
    Ok(Thumbnail {
        mean_image: read_map(&path, COUNTS)? / summary.shape[2] as f32,
        score: read_map(&path, &map_title(&summary.default.method, &summary.default.score))?,
        labels: read_map(&path, REGIONS)?.mapv(|label| label as i32),
    })
}
