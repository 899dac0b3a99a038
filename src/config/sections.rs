//! The sections of a configuration and their defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::region::RegionOfInterest;

/// A number, or `auto`: found from the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number or `auto`")]
pub enum Auto<T> {
    Given(T),
    #[default]
    #[serde(with = "auto_word")]
    Auto,
}

mod auto_word {
    use serde::Serializer;
    use serde::de::{Deserialize, Deserializer, Error};

    pub fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("auto")
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(()),
            other => Err(D::Error::custom(format!("`{other}` is neither a number nor `auto`"))),
        }
    }
}

/// One value where a list is meant is a list of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a value or a list of values")]
pub enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::Many(values) => values,
            OneOrMany::One(value) => std::slice::from_ref(value),
        }
    }
}

/// Which cubes, and which part of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// Paths and globs of the cubes to score; trained on too unless `train_inputs` is given.
    pub inputs: OneOrMany<String>,
    /// Paths and globs of the cubes to train on.
    pub train_inputs: Option<OneOrMany<String>>,
    /// The output folder of an earlier run on the cubes that are trained on: what it flagged there, and the pixels beside,
    /// are left out of the training. A second run so finds more of what the first one learned for normal, if patches are small:
    /// of large ones few hold nothing flagged.
    pub train_without: Option<PathBuf>,
    /// Path of the dataset inside the HDF5 files; found when there is one candidate.
    pub dataset: Option<String>,
    /// Which image of a Gatan file (`coreloss inspect` lists them from 0, thumbnails left out); the core-loss
    /// spectrum image by default.
    pub image: Option<usize>,
    /// `[low, high]` in eV; by default all, but for the zero-loss peak where core losses follow it (then from 50 eV).
    pub energy_range_ev: Option<[f64; 2]>,
    /// Parts of the cubes to ignore or to train on only.
    pub regions: Vec<RegionOfInterest>,
    /// Where the low-loss cube of each cube is, relative to the cube: `{}` stands for its name without extension. By
    /// default `X.lowloss.hspy` (or `.dm4`, ...) beside `X`, else the low-loss image of the same Gatan file, else the cube
    /// itself where it holds the zero-loss peak.
    pub low_loss: Option<String>,
}

impl Default for Archive {
    fn default() -> Self {
        Archive {
            inputs: OneOrMany::Many(Vec::new()),
            train_inputs: None,
            train_without: None,
            dataset: None,
            image: None,
            energy_range_ev: None,
            regions: Vec::new(),
            low_loss: None,
        }
    }
}

/// How the energies of a cube's pixels are brought in line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// As they were recorded; scoring follows the drift from line to line by itself.
    #[default]
    None,
    /// The zero-loss peak of each pixel goes to 0 eV (see `archive.low_loss`).
    LowLoss,
    /// The strongest edge of each pixel goes where that of the cube's mean spectrum is: a chemical shift of that edge is
    /// taken out with the drift.
    Edge,
}

/// From stored values to electrons per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    /// Stored units per electron; `auto`: fitted.
    pub gain: Auto<f64>,
    /// Read noise in electrons rms; `auto`: fitted.
    pub read_noise: Auto<f64>,
    /// Replaces cosmic-ray spikes by the median of their neighbours.
    pub despike: bool,
    /// Side in pixels of the spatial mean before all else: 1 (none) or 3, as the paper's.
    pub spatial_mean: usize,
    /// Ignores vacuum, found by total counts.
    pub vacuum: bool,
    /// Brings the energies of the pixels in line. Channels that are then not measured in every pixel are left out.
    pub align: Align,
    /// The largest shift that is believed, eV.
    pub max_shift_ev: f64,
    /// Shifts by whole channels only. Else a shift by a fraction `f` of a channel smooths: it takes `2 f (1 - f)` of the
    /// variance of counting noise away and ties neighbouring channels together.
    pub whole_channels: bool,
    /// Adjacent channels that are summed to one.
    pub rebin: usize,
    /// Writes a map of t/lambda, the thickness in inelastic mean free paths, where there is a zero-loss peak.
    pub thickness: bool,
}

impl Default for Preprocess {
    fn default() -> Self {
        Preprocess {
            gain: Auto::Auto,
            read_noise: Auto::Auto,
            despike: true,
            spatial_mean: 1,
            vacuum: true,
            align: Align::None,
            max_shift_ev: 10.0,
            whole_channels: false,
            rebin: 1,
            thickness: true,
        }
    }
}

/// Reading, and how much memory it may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Io {
    /// Memory in MiB that one rank may use for cubes.
    pub memory_mib: u64,
}

impl Default for Io {
    fn default() -> Self {
        Io { memory_mib: 2048 }
    }
}

/// Layers of the 3D-CVAE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// 8-16-32-64 channels, 16 latent: for CPUs and small cubes.
    #[default]
    Compact,
    /// The paper's: 32-64-128-256 channels, 48 latent.
    Paper,
}

/// The shape of the 3D-CVAE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    pub preset: Preset,
    /// Pixels of a patch `[y, x]`; by default 24 x 24, with the compact preset 12 x 12 where a cube to train on has fewer
    /// than 48 lines or columns, or more than 2048 channels. Multiples of 4; y may be 1 for line scans.
    pub patch: Option<[usize; 2]>,
    /// Latent dimensions; the preset's by default.
    pub latent: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Equal to the bit for any number of ranks and threads.
    #[default]
    Exact,
    /// Plain sums: the last bits depend on the number of ranks.
    Fast,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    #[default]
    Auto,
    Cpu,
    Cuda,
}

/// What the network's layers are worked out in while it is trained on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `bf16`.
    #[default]
    Auto,
    /// Convolutions in TF32, as libtorch has them.
    F32,
    /// Twice as fast or more; weights, moments, sums, latent codes and the loss stay in f32.
    Bf16,
}

/// How the 3D-CVAE is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the archive; over `steps` when given.
    pub epochs: Option<usize>,
    /// Optimiser steps; `auto`: as many as two passes, at least 800 of patches of 12 x 12 pixels, 200 of 24 x 24.
    pub steps: Auto<usize>,
    /// Patches per optimiser step over all ranks.
    pub global_batch: usize,
    /// Patches whose gradient is formed at once; fixed, so that results do not depend on ranks.
    pub micro_batch: usize,
    /// How gradients are summed over ranks.
    pub reduction: Reduction,
    /// Where the network runs.
    pub device: Device,
    /// What its layers are worked out in on a GPU; on a CPU always f32.
    pub precision: Precision,
    /// On a GPU, takes cuDNN's reproducible ways even where others are faster; on a CPU all is reproducible.
    pub deterministic: bool,
    /// On a GPU, how many of cuDNN's ways are tried for each layer at the start; `auto`: 10, or 3 in trainings of fewer than
    /// 2000 steps, which do not earn back the minute that a large network takes to try all.
    pub cudnn_tries: Auto<usize>,
    /// On a GPU, records the work of a micro-batch once and starts it as a whole from then on.
    pub cuda_graphs: bool,
    /// Peak of the one-cycle schedule, for a global batch of 16; scale it by sqrt(batch / 16).
    pub learning_rate: f64,
    /// Weight of the Kullback-Leibler term after warm-up.
    pub kl_weight: f64,
    /// Largest norm of a gradient.
    pub clip: f64,
    /// Share of the scan lines kept for validation, in blocks of a patch's height; 0 for none. None are kept of an archive
    /// that would lose more than 12 % of its crops by it.
    pub validation: f64,
    /// Epochs between checkpoints; `auto`: 10, and at least a twentieth of the steps, since epochs of small archives are
    /// short.
    pub checkpoint_epochs: Auto<usize>,
    /// Checkpoints that are kept, at least 1: the last ones, in case one is damaged, and beside them the best.
    pub keep_checkpoints: usize,
    /// Contiguous runs of scan lines into which the archive is cut.
    pub lanes: usize,
}

impl Default for Train {
    fn default() -> Self {
        Train {
            epochs: None,
            steps: Auto::Auto,
            global_batch: 16,
            micro_batch: 4,
            reduction: Reduction::Exact,
            device: Device::Auto,
            precision: Precision::Auto,
            deterministic: false,
            cudnn_tries: Auto::Auto,
            cuda_graphs: true,
            learning_rate: 2e-3,
            kl_weight: 1.0,
            clip: 3.5,
            validation: 0.05,
            checkpoint_epochs: Auto::Auto,
            keep_checkpoints: 2,
            lanes: 64,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    #[default]
    Auto,
    Mpi,
    Nccl,
}

/// How ranks talk to one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommOptions {
    /// How gradients travel between GPUs: `mpi` over the hosts, which works everywhere; `nccl` where each rank has a GPU of
    /// its own; `auto` takes NCCL where that is so and its library is there. Between CPUs it is always MPI.
    pub backend: Backend,
    /// Seconds after which a rank says in the log what it waits in; 0 for never.
    pub watchdog_s: u64,
}

impl Default for CommOptions {
    fn default() -> Self {
        CommOptions { backend: Backend::Auto, watchdog_s: 120 }
    }
}

/// The linear baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pca {
    /// Numbers of components; each gives a method `pca3`, `pca4`, ... `auto`: as many as stand out of the noise, the
    /// method `pca_auto`.
    pub components: OneOrMany<Auto<usize>>,
    /// Weights by the Poisson noise, as HyperSpy's `normalize_poissonian_noise`.
    pub poisson: bool,
    /// What components and mean spectrum are of.
    pub fit: PcaFit,
    /// How components are found.
    pub solver: PcaSolver,
    /// Adds methods of their own, `pca3_robust`, of components fitted to the cube without the pixels that they explain
    /// worst, so that anomalies have no say in them.
    pub robust: bool,
    /// Adds the method `mean`: every spectrum is the mean spectrum, scaled to its counts.
    pub mean: bool,
}

/// What the linear baselines are fitted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PcaFit {
    /// The cube that is scored.
    #[default]
    Cube,
    /// All cubes that the network is trained on: bulk, where `archive.train_inputs` names some.
    Training,
    /// Either, as methods of their own: those of the training cubes are named `pca3_bulk`.
    Both,
}

/// How principal components are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PcaSolver {
    /// From the scatter matrix of all channels, in one pass.
    #[default]
    Exact,
    /// By a few passes over the cube, each of which costs about twice what reading it does: variances of components at twice
    /// the largest that noise makes are good to 1e-4, the others' are estimates. For many thousands of channels.
    Randomized,
}

impl Default for Pca {
    fn default() -> Self {
        Pca {
            components: OneOrMany::Many([3, 4, 5].map(Auto::Given).to_vec()),
            poisson: true,
            fit: PcaFit::Cube,
            solver: PcaSolver::Exact,
            robust: false,
            mean: false,
        }
    }
}

/// Energies in which a score looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub name: String,
    /// The edge, eV.
    pub range_ev: [f64; 2],
    /// Where the power law before the edge is fitted, eV.
    pub background_ev: [f64; 2],
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`auto` or a list of {name, range_ev, background_ev}")]
pub enum Windows {
    List(Vec<Window>),
    #[default]
    #[serde(with = "auto_word")]
    Auto,
}

/// How a threshold is found from the scores alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Otsu where the scores fall into two groups, else the tail.
    #[default]
    Auto,
    /// Otsu's on the square root of the score: for 1 to 5 % of anomalies.
    Otsu,
    /// Exponential tail above the 95th percentile, false-positive rate 1e-3: for .3 to 2 %.
    Pot,
    /// 3.5 robust standard deviations (median absolute deviation) above the median of the square roots.
    Mad,
    /// Benjamini and Hochberg's at 5 % false ones among the flagged, by the tail of the normal pixels: below .3 %.
    Bh,
    /// The paper's: Otsu's with a preference for high thresholds.
    Biased,
}

/// Where and how spectra are scored, and what is flagged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Score {
    /// `auto`: around the edges that are found in the mean spectrum; else a list of `{name, range_ev, background_ev}`, eV.
    pub windows: Windows,
    pub threshold: Rule,
    /// The rule for `pcc`, where it is to be another.
    pub pcc_threshold: Option<Rule>,
}

/// Which reconstructed spectra are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reconstruction {
    /// The mean spectrum of each region.
    #[default]
    Regions,
    /// Every pixel, in the score windows' energies.
    Window,
    None,
}
