//! What the pipeline finds in one cube, before it is written: this rank's band of every map.

use std::ops::Range;

use anyhow::Result;
use ndarray::{Array2, Array3, ArrayView2, Axis as Dim};

use crate::config::Window;
use crate::model::Tiles;
use crate::pca::Decomposition;
use crate::score::{Rx, Scores};
use crate::stream::Band;

/// The name of several methods as one.
pub const ENSEMBLE: &str = "ensemble";

/// Everything found in one cube; maps are this rank's band of whole lines.
pub struct ScoredCube<'a> {
    pub band: Band<'a>,
    /// Mean electrons `[energy]` of a pixel that is not ignored.
    pub mean: Vec<f64>,
    /// Electrons of each pixel `[lines, x]`, NaN where ignored.
    pub totals: Vec<f32>,
    /// t/lambda of each pixel `[lines, x]`, NaN where ignored; none without a zero-loss peak.
    pub thickness: Option<Vec<f32>>,
    pub windows: Vec<Window>,
    /// The ensemble of several, the CVAE, what is given, `context` and the linear baselines; the first is the default.
    pub methods: Vec<Method>,
    /// What the surroundings of each pixel predict, by component: `[lines, x]` in units of noise; none without `context`.
    pub surroundings: Vec<Array2<f32>>,
    pub decomposition: Decomposition,
    /// `[lines * x, components]`, NaN where ignored.
    pub loadings: Array2<f64>,
    /// `[latent, lines, x]` of the CVAE, NaN where ignored.
    pub latent: Option<Array3<f32>>,
    pub tiles: Option<Tiles>,
    /// Bound on the electrons of one channel, summed over all pixels.
    pub bound: f64,
}

/// What is found in one cube by the methods that need no network; maps are this rank's band of whole lines.
pub struct WithoutNetwork {
    pub methods: Vec<Method>,
    /// These three as those of a [`ScoredCube`].
    pub surroundings: Vec<Array2<f32>>,
    pub decomposition: Decomposition,
    pub loadings: Array2<f64>,
}

/// One way to reconstruct spectra, and the scores it leads to.
pub struct Method {
    /// `cvae`, `pca3`, `pca_auto`, `mean`, ...
    pub name: String,
    pub scores: Scores,
    /// How much worse it explains spectra than their noise allows, nats a pixel; an ensemble explains none.
    pub excess_nats: Option<f64>,
    /// Reed-Xiaoli scores, of principal components alone.
    pub rx: Option<Rx>,
}

impl ScoredCube<'_> {
    /// This rank's lines of a whole map in C order.
    pub fn band_of<'m, T>(&self, whole: &'m [T]) -> &'m [T] {
        let (lines, [_, width]) = (&self.band.lines, self.band.cube.size());
        &whole[lines.start * width..lines.end * width]
    }

    /// What needs no network of a cube that was scored without one.
    pub fn without_network(self) -> WithoutNetwork {
        WithoutNetwork {
            methods: self.methods.into_iter().filter(|method| method.name != ENSEMBLE).collect(),
            surroundings: self.surroundings,
            decomposition: self.decomposition,
            loadings: self.loadings,
        }
    }

    /// Passes the CVAE's reconstruction of `lines` to `emit`, in order: line and electrons `[x, energy]`. Rank-local.
    pub fn reconstruct(
        &self,
        lines: Range<usize>,
        mut emit: impl FnMut(usize, Array2<f32>) -> Result<()>,
    ) -> Result<()> {
        let Some(tiles) = &self.tiles else {
            return Ok(());
        };
        tiles.reconstruct(
            lines,
            |rows| self.band.counts(rows),
            |line| {
                let counts = self.band.counts(line.y..line.y + 1)?;
                emit(line.y, electrons(line.shares, counts.index_axis(Dim(0), 0)))
            },
        )
    }
}

/// A reconstructed line in electrons `[x, energy]`: the shares of each channel times the counts of the pixel.
pub fn electrons(mut shares: Array2<f32>, counts: ArrayView2<f32>) -> Array2<f32> {
    for (mut share, spectrum) in shares.outer_iter_mut().zip(counts.outer_iter()) {
        let total = spectrum.iter().map(|&u| u as f64).sum::<f64>() as f32;
        share.mapv_inplace(|value| value * total);
    }
    shares
}
