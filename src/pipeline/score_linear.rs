//! The linear baselines of one cube: reconstructions by a few principal components, and by the mean spectrum.

use anyhow::Result;
use ndarray::{Array2, ArrayView2, s};

use super::excess::{Fitted, Floor};
use super::linear_fit::{LinearFit, LinearFits, loadings};
use super::score_reconstruction::Scoring;
use super::sum_cube::SpectrumSum;
use crate::config::{Auto, Config};
use crate::pca::Decomposition;
use crate::results::{Method, electrons};
use crate::score::rx;

/// The linear methods of one cube, and the decomposition that its file keeps.
pub struct LinearMethods {
    pub methods: Vec<Method>,
    pub decomposition: Decomposition,
    /// Of that decomposition, `[lines * x, components]`, NaN where ignored.
    pub loadings: Array2<f64>,
}

/// Scores a cube, whose spectra add up to `sum`, by all linear methods of `fits`.
///
/// # Collective
/// # Errors
/// Unreadable data.
pub fn score_linear(
    config: &Config,
    scoring: &Scoring,
    sum: &SpectrumSum,
    fits: &LinearFits,
    floor: &Floor,
) -> Result<LinearMethods> {
    let Scoring { comm, band, .. } = *scoring;
    let fits = fits.named();
    let decomposition = fits[0].0.decomposition.clone();
    let kept_loadings = loadings(comm, band, &decomposition)?;
    let mut methods = Vec::new();
    for (fit, suffix) in fits {
        let of_others;
        let own_loadings = if fit.decomposition == decomposition {
            &kept_loadings
        } else {
            of_others = loadings(comm, band, &fit.decomposition)?;
            &of_others
        };
        let scored = score_fit(config, scoring, fit, own_loadings, &sum.totals, floor)?;
        methods.extend(scored.into_iter().map(|method| Method { name: method.name + suffix, ..method }));
    }
    Ok(LinearMethods { methods, decomposition, loadings: kept_loadings })
}

/// Scores by as many principal components as each of `pca.components` says, and by the mean spectrum.
///
/// # Collective
fn score_fit(
    config: &Config,
    scoring: &Scoring,
    fit: &LinearFit,
    loadings: &Array2<f64>,
    totals: &[f32],
    floor: &Floor,
) -> Result<Vec<Method>> {
    let (comm, band) = (scoring.comm, scoring.band);
    let fitted = |own: Fitted| if fit.is_own { own } else { Fitted::Elsewhere };
    let mut methods = Vec::new();
    for count in config.pca.components.as_slice() {
        let (name, k) = match count {
            Auto::Given(k) => (format!("pca{k}"), *k),
            Auto::Auto => ("pca_auto".into(), fit.significant),
        };
        if comm.is_root() && *count == Auto::Auto {
            log::info!("{}: pca_auto has {k} components", band.cube.info().id);
        }
        let found = scoring.score_rebuilt(|_, line: ArrayView2<f32>| fit.decomposition.reconstruct(line, k))?;
        let shares = loadings_per_electron(loadings, totals, k);
        let rx = rx(comm, shares.view(), band.cube.size()[1], band.lines.start)?;
        let excess_nats = Some(floor.excess(found.squares, fitted(Fitted::Components(k))));
        methods.push(Method { name, excess_nats, scores: found.scores, rx: Some(rx) });
    }
    if config.pca.mean {
        let found = scoring.score_rebuilt(|_, line: ArrayView2<f32>| scaled_mean(&fit.mean, line))?;
        let excess_nats = Some(floor.excess(found.squares, fitted(Fitted::Mean)));
        methods.push(Method { name: "mean".into(), excess_nats, scores: found.scores, rx: None });
    }
    Ok(methods)
}

/// The first `k` loadings of pixels, divided by their electrons `totals`, so that thickness does not count.
fn loadings_per_electron(loadings: &Array2<f64>, totals: &[f32], k: usize) -> Array2<f64> {
    let mut shares = loadings.slice(s![.., ..k.min(loadings.ncols())]).to_owned();
    for (mut pixel, &total) in shares.outer_iter_mut().zip(totals) {
        let total = f64::from(total).max(1e-3);
        pixel.mapv_inplace(|value| value / total);
    }
    shares
}

/// The mean spectrum `[energy]` for every pixel of a line, scaled to its electrons.
fn scaled_mean(mean: &[f64], counts: ArrayView2<f32>) -> Array2<f32> {
    let total = mean.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let shares: Vec<f32> = mean.iter().map(|value| (value / total) as f32).collect();
    let shares = Array2::from_shape_fn(counts.dim(), |(_, e)| shares[e]);
    electrons(shares, counts)
}
