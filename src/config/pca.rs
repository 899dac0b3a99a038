//! `pca`: the linear baselines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::values::{Auto, OneOrMany};

/// The linear baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pca {
    /// Numbers of components; each gives a method `pca3`, `pca4`, ... `auto`: as many as stand out of the noise, the
    /// method `pca_auto`.
    pub components: OneOrMany<Auto<usize>>,
    /// Weights by the Poisson noise, as HyperSpy's `normalize_poissonian_noise`.
    pub poisson: bool,
    /// Which cubes components and mean spectrum are fitted to.
    pub fit: PcaFit,
    /// How components are found.
    pub solver: PcaSolver,
    /// Adds methods such as `pca3_robust`, whose components are fitted without the pixels that they explain worst, so
    /// that anomalies do not shape them.
    pub robust: bool,
    /// Adds the method `mean`: every spectrum is the mean spectrum, scaled to its counts.
    pub mean: bool,
}

impl Default for Pca {
    fn default() -> Self {
        Pca {
            components: OneOrMany::Many([3, 4, 5].map(Auto::Given).to_vec()),
            poisson: true,
            fit: PcaFit::Cube,
            solver: PcaSolver::Exact,
            robust: false,
            mean: true,
        }
    }
}

impl Pca {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let components = self.components.as_slice();
        problems.require(!components.contains(&Auto::Given(0)), "pca.components: each at least 1, or auto");
        problems.require(!components.is_empty(), "pca.components: at least one number, or auto");
        problems.require(
            (1..components.len()).all(|i| !components[..i].contains(&components[i])),
            "pca.components: each number once",
        );
    }
}

/// What the linear baselines are fitted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PcaFit {
    /// The cube that is scored.
    #[default]
    Cube,
    /// All cubes that the network is trained on: bulk, where `archive.train_inputs` names some.
    Training,
    /// Both, as separate methods: those of the training cubes are named `pca3_bulk`.
    Both,
}

/// How principal components are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PcaSolver {
    /// From the scatter matrix of all channels, in one pass.
    #[default]
    Exact,
    /// In a few passes over the cube, each at about twice the cost of reading it. Variances of at least twice the
    /// largest of noise are good to 1e-4; the others are estimates. For many thousands of channels.
    Randomized,
}
