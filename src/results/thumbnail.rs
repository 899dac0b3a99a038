//! The maps of a scored cube that the ranking of a survey shows.

use anyhow::Result;
use ndarray::{Array2, Ix2};

use super::stored::cube_path;
use super::summary::CubeSummary;
use super::titles::{COUNTS, REGIONS, map_title};
use crate::config::Config;
use crate::output::read_signal_f32;

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
    let map = |title: &str| -> Result<Array2<f32>> {
        let (_, values) = read_signal_f32(&path, title)?;
        Ok(values.into_dimensionality::<Ix2>()?)
    };
    Ok(Thumbnail {
        mean_image: map(COUNTS)? / summary.shape[2] as f32,
        score: map(&map_title(&summary.default.method, &summary.default.score))?,
        labels: map(REGIONS)?.mapv(|label| label as i32),
    })
}
