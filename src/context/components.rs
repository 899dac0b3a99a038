//! Spectra as a few components in units of their noise, and back.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};

use crate::pca::Decomposition;

/// Components of a pixel at most: beyond these a cube's surroundings tell little.
const MOST: usize = 4;
/// The least share of a pixel's electrons that a channel is expected to have.
const LEAST: f64 = 1e-7;

/// The principal components of `z = (u - U m) / sqrt(U m)`, with U the electrons of a pixel and m the mean spectrum: the
/// whitening is the same for every pixel, so that all that follows is linear.
///
/// # Source
/// They are the components of Keenan & Kotula 2004 but the first, which is the mean spectrum itself (Greenacre, Theory and
/// Applications of Correspondence Analysis, 1984).
pub struct Components {
    /// Shares of the mean spectrum `[E]`.
    mean: Array1<f64>,
    /// `[components, E]`: the change of the shares by a component of 1 in a pixel of one electron.
    shapes: Array2<f64>,
    /// By component: how many times larger than the loading of a pixel of one electron it is.
    scale: Vec<f64>,
    /// By component, in units of the noise.
    deviations: Vec<f64>,
}

impl Components {
    /// Components that a [`Decomposition`] should have.
    pub const DECOMPOSED: usize = 1 + MOST;

    /// The first `count` of them, of spectra whose sum is `electrons` `[E]` and whose `decomposition` has Poisson scaling; at
    /// least 1, at most 4. Rank-local.
    pub fn new(decomposition: &Decomposition, electrons: &[f64], count: usize) -> Components {
        assert!(decomposition.poisson, "components in units of noise");
        let total = electrons.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let end = 1 + count.clamp(1, MOST).min(decomposition.num_components() - 1);
        // What varies less than the noise keeps its size.
        let deviation = |variance: &f64| (variance * total).max(1.0).sqrt();
        let variances = decomposition.explained_variance.iter().skip(1).take(end - 1);
        let deviations: Vec<f64> = variances.map(deviation).collect();
        let mut shapes = decomposition.factors.slice(s![.., 1..end]).t().to_owned();
        for (mut shape, deviation) in shapes.outer_iter_mut().zip(&deviations) {
            shape.mapv_inplace(|value| value * deviation / total.sqrt());
        }
        Components {
            mean: electrons.iter().map(|sum| sum / total).collect(),
            shapes,
            scale: deviations.iter().map(|deviation| total.sqrt() / deviation).collect(),
            deviations,
        }
    }

    /// Components `[pixels, components]` of pixels with `loadings` `[pixels, k]` on the decomposition and so many electrons;
    /// NaN where a pixel has none. Rank-local.
    pub fn of(&self, loadings: ArrayView2<f64>, electrons: &[f32]) -> Array2<f64> {
        let mut found = loadings.slice(s![.., 1..1 + self.scale.len()]).to_owned();
        for (mut pixel, &electrons) in found.outer_iter_mut().zip(electrons) {
            let root = f64::from(electrons).sqrt();
            pixel.iter_mut().zip(&self.scale).for_each(|(value, scale)| *value *= scale / root);
        }
        found
    }

    /// By component, how many deviations of the noise 1 is.
    pub fn deviations(&self) -> &[f64] {
        &self.deviations
    }

    /// The electrons `[x, E]` that spectra with so many electrons as those of `counts` `[x, E]` have where their components
    /// are `predicted` `[x, components]`. Rank-local.
    pub fn electrons(&self, predicted: ArrayView2<f64>, counts: ArrayView2<f32>) -> Array2<f32> {
        let mut spectra = Array2::zeros(counts.dim());
        for ((mut spectrum, predicted), counts) in
            spectra.outer_iter_mut().zip(predicted.outer_iter()).zip(counts.outer_iter())
        {
            let electrons: f64 = counts.iter().map(|&count| f64::from(count)).sum();
            let shares = self.shares(predicted, electrons);
            spectrum.assign(&shares.mapv(|share| (share * electrons) as f32));
        }
        spectra
    }

    fn shares(&self, predicted: ArrayView1<f64>, electrons: f64) -> Array1<f64> {
        let mut shares = self.mean.clone();
        for (shape, value) in self.shapes.outer_iter().zip(predicted) {
            shares.scaled_add(value / electrons.max(1.0).sqrt(), &shape);
        }
        shares.mapv_inplace(|share| share.max(LEAST));
        let total = shares.sum();
        shares / total
    }
}
