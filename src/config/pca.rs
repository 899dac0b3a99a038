//! `pca`: the linear baselines.

use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::values::{Auto, OneOrMany};

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
