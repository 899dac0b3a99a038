//! The linear blind spot of one cube.

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Axis as Dim};

use super::excess::Fitted;
use super::linear_fit::{LinearFit, LinearFits, loadings};
use super::score_linear::LinearMethods;
use super::score_reconstruction::{Fit, Scoring};
use super::sum_cube::SpectrumSum;
use crate::bands::Bands;
use crate::config::{Auto, Config, OneOrMany};
use crate::context::{Components, Prediction};

/// Scores a cube, whose spectra add up to `sum`, by what the surroundings of each pixel predict. Gives this too, by component:
/// this rank's `[lines, x]` in units of noise.
///
/// # Collective
/// # Errors
/// Unreadable data; errors of libtorch.
pub fn score_context(
    config: &Config,
    scoring: &Scoring,
    sum: &SpectrumSum,
    fits: &LinearFits,
    linear: &LinearMethods,
) -> Result<(Fit, Fitted, Vec<Array2<f32>>)> {
    let (components, own) = components(config, scoring, sum, fits, linear)?;
    let width = scoring.band.cube.size()[1];
    let valid = own.outer_iter().filter(|pixel| pixel.iter().all(|value| value.is_finite())).count();
    let bands = Bands::new(scoring.comm, width, scoring.band.lines.len(), valid);
    let prediction = Prediction::new(&bands, own.view(), components.deviations())?;
    if scoring.comm.is_root() {
        let by = if prediction.by_waves { "the waves of the field" } else { "the pixels around" };
        log::info!("{}: context predicts each pixel by {by}", scoring.band.cube.info().id);
    }
    let first = scoring.band.lines.start;
    let rebuild =
        |y, line: ArrayView2<f32>| components.electrons(prediction.components.index_axis(Dim(0), y - first), line);
    let fit = scoring.score_rebuilt(rebuild)?;
    Ok((fit, Fitted::Surroundings(own.ncols()), prediction.in_noise()))
}

/// The components of the cube, and those of this rank's pixels, NaN where a pixel is ignored.
///
/// # Collective
fn components(
    config: &Config,
    scoring: &Scoring,
    sum: &SpectrumSum,
    fits: &LinearFits,
    linear: &LinearMethods,
) -> Result<(Components, Array2<f64>)> {
    let of = |fit: &LinearFit, loadings: &Array2<f64>| {
        // The first is the mean spectrum. What does not stand out of the noise would only add noise.
        let components = Components::new(&fit.decomposition, &sum.electrons, fit.significant - 1);
        let own = components.of(loadings.view(), &sum.totals);
        (components, own)
    };
    let usable =
        |fit: &&LinearFit| fit.decomposition.poisson && fit.decomposition.num_components() >= Components::DECOMPOSED;
    if let Some(fit) = fits.own.as_ref().filter(usable) {
        return Ok(of(fit, &linear.loadings));
    }
    let mut config = config.clone();
    config.pca.poisson = true;
    config.pca.components = OneOrMany::Many(vec![Auto::Given(Components::DECOMPOSED)]);
    let (comm, band) = (scoring.comm, scoring.band);
    let fit = LinearFit::to_cube(comm, &config, band, sum)?;
    Ok(of(&fit, &loadings(comm, band, &fit.decomposition)?))
}
