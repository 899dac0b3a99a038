//! The report of a run: one self-contained HTML page and the maps as PNGs, from plain structs.
//!
//! Knows no HDF5 and no MPI: whoever has the figures fills [`Report`] on one rank.

mod chart;
mod compare;
mod figure;
mod frame;
mod gather;
mod inside;
mod page;
mod picture;
mod plot;
mod ranking;
mod scale;
mod section;
mod text;

#[cfg(test)]
mod example;

pub use compare::{Line, comparison};
pub use gather::write_run;
pub use ranking::{RankedCube, RankedRegion, ranking_html};

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ndarray::Array2;
use page::Page;
use sha2::{Digest, Sha256};

use crate::durable;

/// All that a report shows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub title: String,
    pub version: String,
    /// What to know of the run, in order: ranks, threads, seed, device, time, configuration.
    pub facts: Vec<(String, String)>,
    /// By step; empty where nothing was trained.
    pub loss: Vec<LossPoint>,
    /// The parts of each step's loss; empty where nothing was trained.
    pub steps: Vec<StepPoint>,
    /// Path and reason.
    pub failed_inputs: Vec<(String, String)>,
    /// The resolved configuration.
    pub config_yaml: String,
}

/// Cubes that the page shows in full, so that it opens for an archive of thousands too.
pub const MOST_CUBES: usize = 40;

/// Losses at one step.
#[derive(Clone, Copy, Debug)]
pub struct LossPoint {
    pub step: u64,
    pub train: f64,
    /// Where a validation was made at this step.
    pub validation: Option<f64>,
}

/// What one step of training came to.
#[derive(Clone, Copy, Debug)]
pub struct StepPoint {
    pub step: u64,
    /// Nats that the latent code carries, for each pixel of the patch.
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
    /// Length of a pixel along x, and its unit.
    pub pixel_size: Option<(f64, String)>,
    /// Mean counts of each spectrum, `[y, x]`.
    pub mean_image: Array2<f32>,
    /// What was measured of each pixel before it was scored.
    pub properties: Vec<Property>,
    /// Energy loss of each channel, eV.
    pub energy_ev: Vec<f64>,
    /// Mean counts by channel.
    pub mean_spectrum: Vec<f64>,
    /// Name and range in eV.
    pub windows: Vec<(String, [f64; 2])>,
    /// Name and onset in eV of what was found in the mean spectrum.
    pub edges: Vec<(String, f64)>,
    pub maps: Vec<Map>,
    /// 0 normal, above 0 anomalous, `[y, x]`.
    pub truth: Option<Array2<i32>>,
    /// Regions of the default map.
    pub regions: Vec<Region>,
    /// Region of each pixel, 0 for none, `[y, x]`.
    pub labels: Array2<i32>,
    /// Explained variance ratio by component; empty without PCA.
    pub scree: Vec<f64>,
    /// The first of them.
    pub components: Vec<Component>,
    /// The dimensions of the latent code that differ most over the cube.
    pub latent: Vec<Property>,
    /// Where the cube comes from, in order: file, instrument, date, fingerprint.
    pub provenance: Vec<(String, String)>,
}

/// What was measured of each pixel: by how much its energies were moved, how thick it is.
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
    /// Of the variance.
    pub share: f64,
}

/// One score of one method.
#[derive(Clone, Debug)]
pub struct Map {
    /// `cvae`, `pca3`, ...
    pub method: String,
    /// `pcc`, `shift`, ...
    pub score: String,
    /// `[y, x]`, larger is stranger, NaN where ignored.
    pub values: Array2<f32>,
    pub threshold: f32,
    /// Pixels above the threshold.
    pub flagged: usize,
    /// The map that regions, and the page's first sentence, come from.
    pub is_default: bool,
    /// Against the truth.
    pub metrics: Option<Metrics>,
}

/// How well a map finds the truth; NaN where undefined.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    pub auroc: f64,
    pub average_precision: f64,
    pub best_f1: f64,
    /// These three at the threshold.
    pub f1: f64,
    pub precision: f64,
    pub recall: f64,
}

/// A connected run of flagged pixels.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its number in [`Cube::labels`].
    pub label: i32,
    /// Its centre, in pixels.
    pub y: f64,
    pub x: f64,
    /// Pixels.
    pub area: usize,
    pub max_score: f64,
    pub mean_score: f64,
    /// With its standard error.
    pub estimated_shift_ev: Option<(f64, f64)>,
    /// Which window gives it away, and by what; empty where that is not known.
    pub differs: String,
    /// Where its mean spectrum differs most from the reconstruction, eV.
    pub energies_ev: Vec<[f64; 2]>,
    /// Mean counts by channel.
    pub spectrum: Vec<f32>,
    /// Mean counts by channel of the default method's reconstruction; empty where it was not kept.
    pub reconstruction: Vec<f32>,
}

/// Writes `report.html` and a PNG of each map, `<cube id with / replaced by __>.<method>.<score>.png`, into `directory`.
///
/// `cubes` come in the order of the page, and one at a time: the first [`MOST_CUBES`] are shown in full, all are in the
/// overview.
///
/// Rank-local. Each file is whole or absent: it is written beside its place and renamed.
///
/// # Errors
/// Those of `cubes`; a map whose shape is not its cube's, naming both; a file that cannot be written.
pub fn write(directory: &Path, report: &Report, cubes: impl Iterator<Item = Result<Cube>>) -> Result<()> {
    let mut stems = HashSet::new();
    let mut page = Page::default();
    for cube in cubes {
        let cube = cube?;
        check_shapes(&cube)?;
        let stem = file_stem(&cube.name, &mut stems);
        for map in &cube.maps {
            let name = format!("{stem}.{}.{}.png", map.method, map.score);
            let note = format!("{} {} score of {}", map.method, map.score, cube.name);
            let bytes = figure::map_png(map, &cube.labels, cube.truth.as_ref(), &note)
                .with_context(|| format!("drawing {name}"))?;
            replace(directory, &name, &bytes)?;
        }
        page.add(&cube)?;
    }
    replace(directory, "report.html", page.html(report)?.as_bytes())
}

/// The PNG of a map [y, x] that stands alone; `note` is kept in it.
///
/// # Errors
/// A map without pixels.
pub fn picture(values: &Array2<f32>, is_score: bool, note: &str) -> Result<Vec<u8>> {
    let quantity = if is_score { picture::Quantity::Score } else { picture::Quantity::Property };
    figure::picture_png(values, quantity, note)
}

/// Refuses a cube whose maps would be drawn over one another wrongly.
fn check_shapes(cube: &Cube) -> Result<()> {
    let expected = (cube.shape[0], cube.shape[1]);
    let check = |what: &str, found: (usize, usize)| {
        ensure!(
            found == expected && found.0 > 0 && found.1 > 0,
            "report of {}: the {what} has shape {found:?}, the cube {expected:?}",
            cube.name
        );
        Ok(())
    };
    check("mean image", cube.mean_image.dim())?;
    check("label map", cube.labels.dim())?;
    for property in cube.properties.iter().chain(&cube.latent) {
        check(&property.name, property.values.dim())?;
    }
    if let Some(truth) = &cube.truth {
        check("truth", truth.dim())?;
    }
    for component in &cube.components {
        check("loading", component.loading.dim())?;
    }
    for map in &cube.maps {
        check(&format!("{} {} map", map.method, map.score), map.values.dim())?;
    }
    Ok(())
}

/// The stem of a cube's file names: without folders, short enough for a file system, none of those `taken`.
fn file_stem(name: &str, taken: &mut HashSet<String>) -> String {
    // File systems allow 255 bytes; method, score and `.partial` come after the stem.
    const MOST_BYTES: usize = 180;
    let mut stem = name.replace(['/', '\0'], "__");
    // `a/b` and `a__b` would share a file.
    if stem.len() > MOST_BYTES || !taken.insert(stem.clone()) {
        let mut end = MOST_BYTES.min(stem.len());
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        stem.truncate(end);
        stem.push_str(&format!("-{:.12x}", Sha256::digest(name)));
    }
    stem
}

/// Writes `bytes` to `directory/name`, whole or not at all.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = directory.join(name);
    durable::write(&path, bytes)
}

#[cfg(test)]
mod tests;
