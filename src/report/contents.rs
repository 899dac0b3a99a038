//! What a report shows: of a run, and of each of its cubes.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView1};

use super::spectra::Spectra;
use crate::config::ResidualSpectrum;
use crate::results::verdicts::Recognised;
use crate::results::{FailedInput, RegionSummary, ScoreSummary, meaning_of};
use crate::score::Meaning;

/// What a report shows of a run beside its cubes.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub title: String,
    pub version: String,
    /// What the reader has to know first.
    pub note: Option<&'static str>,
    /// Facts about the run, in order: ranks, threads, time, seed, ...
    pub facts: Vec<(String, String)>,
    /// By step; empty where nothing was trained.
    pub loss: Vec<LossPoint>,
    /// By step; empty where nothing was trained.
    pub steps: Vec<StepPoint>,
    pub failed_inputs: Vec<FailedInput>,
    /// The resolved configuration.
    pub config_yaml: String,
}

/// Losses at one step.
#[derive(Clone, Copy, Debug)]
pub struct LossPoint {
    pub step: u64,
    pub train: f64,
    /// None where the step was not validated.
    pub validation: Option<f64>,
}

/// Other figures of one training step.
#[derive(Clone, Copy, Debug)]
pub struct StepPoint {
    pub step: u64,
    /// Kullback-Leibler divergence of the latent code, nats per pixel of the patch.
    pub kl: f64,
    pub grad_norm: f64,
}

/// What was found in one cube.
#[derive(Clone, Debug)]
pub struct Cube {
    /// The cube id.
    pub name: String,
    /// `[y, x, energy]`.
    pub shape: [usize; 3],
    /// What is doubtful about its file.
    pub problems: Vec<String>,
    /// Length of a pixel along x, and its unit.
    pub pixel_size: Option<(f64, String)>,
    /// Mean counts of each spectrum, `[y, x]`.
    pub mean_image: Array2<f32>,
    /// Measured before scoring: energy shift, thickness.
    pub properties: Vec<Property>,
    /// Energy loss of each channel, eV.
    pub energy_ev: Vec<f64>,
    /// Mean counts by channel.
    pub mean_spectrum: Vec<f64>,
    /// Name and range in eV.
    pub windows: Vec<(String, [f64; 2])>,
    /// Name and onset in eV of the edges found in the mean spectrum.
    pub edges: Vec<(String, f64)>,
    pub maps: Vec<Map>,
    /// By method: how much worse it explains spectra than their noise allows, nats a pixel.
    pub excess_nats: BTreeMap<String, f64>,
    /// 0 normal, above 0 anomalous, `[y, x]`.
    pub truth: Option<Array2<i32>>,
    /// Regions of the default map, the strongest first.
    pub regions: Vec<RegionSummary>,
    /// Of the cube's file and what was read with it.
    pub fingerprint: String,
    /// Residual spectra of the first regions.
    pub residuals: Vec<ResidualSpectrum>,
    /// By label: what verdicts say of a region.
    pub recognised: BTreeMap<i32, Recognised>,
    /// Mean counts of the first regions, `[region, energy]`.
    pub region_spectra: Option<Array2<f32>>,
    /// The same as one method reconstructs them, and the name of that; it need not be the default one.
    pub region_reconstructions: Option<Array2<f32>>,
    pub reconstructed_by: String,
    /// Label of the region of each pixel, 0 for none, `[y, x]`.
    pub labels: Array2<i32>,
    /// For the page to explore the cube.
    pub spectra: Option<Spectra>,
    /// Explained variance ratio by component; empty without PCA.
    pub scree: Vec<f64>,
    /// The first principal components.
    pub components: Vec<Component>,
    /// The latent dimensions that vary most over the cube.
    pub latent: Vec<Property>,
    /// Where the cube comes from, in order: file, instrument, date, fingerprint.
    pub provenance: Vec<(String, String)>,
}

/// A map of something other than a score.
#[derive(Clone, Debug)]
pub struct Property {
    pub name: String,
    /// Its unit, and what it means.
    pub note: String,
    /// `[y, x]`, NaN where ignored.
    pub values: Array2<f32>,
}

/// One principal component.
#[derive(Clone, Debug)]
pub struct Component {
    /// By channel.
    pub factor: Vec<f64>,
    /// `[y, x]`, NaN where ignored.
    pub loading: Array2<f32>,
    /// Explained variance ratio.
    pub share: f64,
}

/// One score of one method.
#[derive(Clone, Debug)]
pub struct Map {
    /// `cvae`, `pca3`, ...
    pub method: String,
    /// `pcc`, `shift`, ...
    pub score: String,
    /// `[y, x]`, higher is more anomalous, NaN where ignored.
    pub values: Array2<f32>,
    pub found: ScoreSummary,
    /// The map that the regions and the page's first sentence come from.
    pub is_default: bool,
}

impl Map {
    /// Infinite where no value can be above it.
    pub fn threshold(&self) -> f32 {
        self.found.threshold.unwrap_or(f32::INFINITY)
    }

    /// Whether its values are odds, `ln(1 + odds)`.
    pub fn is_odds(&self) -> bool {
        meaning_of(&self.score) == Meaning::Odds
    }

    /// `METHOD SCORE`.
    pub fn title(&self) -> String {
        format!("{} {}", self.method, self.score)
    }
}

impl Cube {
    /// The default map, or the first where none is marked so.
    pub fn default_map(&self) -> Option<&Map> {
        self.maps.iter().find(|map| map.is_default).or(self.maps.first())
    }

    /// The regions that no verdict sets apart, the strongest first.
    pub fn new_regions(&self) -> impl Iterator<Item = &RegionSummary> {
        self.regions.iter().filter(|region| self.set_apart(region).is_none())
    }

    /// Why a verdict sets a region apart, if one does.
    pub fn set_apart(&self, region: &RegionSummary) -> Option<&Recognised> {
        self.recognised.get(&region.label).filter(|found| found.is_set_apart())
    }

    /// The map to hold the default one against: the same score of the linear blind spot or, where that is the default, of the
    /// principal components that explain the cube best.
    pub fn rival_map(&self) -> Option<&Map> {
        let default = self.default_map()?;
        let others = || self.maps.iter().filter(|map| map.score == default.score && map.method != default.method);
        let excess = |map: &&Map| self.excess_nats.get(&map.method).copied().unwrap_or(f64::INFINITY);
        let linear = others().filter(|map| map.method.starts_with("pca"));
        others()
            .find(|map| map.method == "context")
            .or_else(|| linear.min_by(|a, b| excess(a).total_cmp(&excess(b))))
            .or_else(|| others().next())
    }

    /// The row of the region `label`, which counts from 1, if the `table` reaches so far.
    pub fn region_row<'a>(&self, table: &'a Option<Array2<f32>>, label: i32) -> Option<ArrayView1<'a, f32>> {
        let table = table.as_ref()?;
        let index = usize::try_from(label - 1).ok().filter(|&index| index < table.nrows())?;
        Some(table.row(index))
    }

    /// The scores that the maps have, each once, the default first.
    pub fn scores(&self) -> Vec<&str> {
        let mut scores: Vec<&str> = Vec::new();
        for map in self.default_map().into_iter().chain(&self.maps) {
            if !scores.contains(&map.score.as_str()) {
                scores.push(&map.score);
            }
        }
        scores
    }

    /// The maps of one score: CVAE first, then the other methods in their order.
    pub fn maps_of(&self, score: &str) -> Vec<&Map> {
        let mut maps: Vec<&Map> = self.maps.iter().filter(|map| map.score == score).collect();
        let default = self.default_map().map(|map| &map.method);
        maps.sort_by_key(|map| (Some(&map.method) != default, map.method != "cvae"));
        maps
    }
}
