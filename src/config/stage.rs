//! Which part of the pipeline a command runs.

use super::{Config, PcaFit};

/// Which part of the pipeline to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    All,
    Train,
    Pca,
    Score,
    /// Many cubes of many kinds: `coreloss survey`.
    Survey,
}

impl Stage {
    /// Whether it fits anything to the cubes that are trained on.
    pub fn learns(self, config: &Config) -> bool {
        !matches!(self, Stage::Score | Stage::Pca) || config.pca.fit != PcaFit::Cube
    }
}
