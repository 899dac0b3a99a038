//! `archive`: which cubes, and which part of them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::{Problems, increasing};
use super::region::RegionOfInterest;
use super::values::OneOrMany;

/// Which cubes, and which part of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// Paths and globs of the cubes to score; trained on too unless `train_inputs` is given.
    pub inputs: OneOrMany<String>,
    /// Paths and globs of the cubes to train on.
    pub train_inputs: Option<OneOrMany<String>>,
    /// Output folder of an earlier run on the training cubes. The pixels that it flagged, and their neighbours, are
    /// left out of the training, so that a second run finds anomalies that the first one learned as normal. This needs
    /// small patches: few large ones are free of flagged pixels.
    pub train_without: Option<PathBuf>,
    /// Files of verdicts, as the report saves them. Regions called real are left out of the training, with the pixels around
    /// them; those recognised as an artefact or as known are set apart in the report, and in the ranking of a survey.
    pub verdicts: Vec<PathBuf>,
    /// Path of the dataset inside the HDF5 files; found when there is one candidate.
    pub dataset: Option<String>,
    /// Which image of a Gatan file, or energy range of a Velox file (`coreloss inspect` lists them from 0, thumbnails
    /// left out); the core-loss spectrum image by default.
    pub image: Option<usize>,
    /// `[low, high]` in eV; by default all energies, or those from 50 eV where core losses follow a zero-loss peak.
    pub energy_range_ev: Option<[f64; 2]>,
    /// Parts of the cubes to ignore, or the only parts to train on.
    pub regions: Vec<RegionOfInterest>,
    /// Path of the low-loss cube of each cube, relative to the cube; `{}` stands for the cube's name without extension.
    /// By default `X.lowloss.hspy` (or `.dm4`, ...) beside `X`, else the low-loss image of the same Gatan or Velox file,
    /// else the cube itself if it holds the zero-loss peak.
    pub low_loss: Option<String>,
}

impl Default for Archive {
    fn default() -> Self {
        Archive {
            inputs: OneOrMany::Many(Vec::new()),
            train_inputs: None,
            train_without: None,
            verdicts: Vec::new(),
            dataset: None,
            image: None,
            energy_range_ev: None,
            regions: Vec::new(),
            low_loss: None,
        }
    }
}

impl Archive {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.require(
            self.energy_range_ev.is_none_or(increasing),
            "archive.energy_range_ev: [low, high] in eV with low < high",
        );
        for region in &self.regions {
            problems.take("archive.regions", region.validate());
        }
        problems.require(
            self.low_loss.as_ref().is_none_or(|pattern| pattern.contains("{}")),
            "archive.low_loss: a path relative to the cube, with {} for the cube's name without extension",
        );
    }
}
