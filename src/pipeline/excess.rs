//! How much worse a model explains normal spectra than their noise allows: the excess of its loss over the noise floor.

use anyhow::Result;
use ndarray::ArrayView2;

use super::linear_fit::LinearFit;
use super::score_reconstruction::Scoring;
use super::sum_cube::SpectrumSum;

/// Of a field of a pixel or two nothing may be left to tell the noise by.
const LEAST_NOISE: f64 = 1e-3;

/// What a prediction was fitted to: with the very pixels that judge it, it looks better than it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fitted {
    /// To other pixels, or without the pixel that it predicts.
    Elsewhere,
    /// The mean spectrum of these pixels.
    Mean,
    /// So many principal components of these pixels, the mean among them.
    Components(usize),
    /// So many components of a pixel's surroundings.
    Surroundings(usize),
}

/// The noise floor of a cube.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// The variance of the noise in units of what is counted on.
    noise: f64,
    channels: f64,
    pixels: f64,
}

impl Floor {
    /// From what the components of the cube that stand out of the noise leave of its spectra, which add up to `sum`.
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data.
    pub fn new(scoring: &Scoring, fit: &LinearFit, sum: &SpectrumSum) -> Result<Floor> {
        let k = fit.significant;
        let left = scoring.squares_rebuilt(|_, line: ArrayView2<f32>| fit.significant_part.reconstruct(line, k))?;
        let (channels, pixels) = (sum.electrons.len() as f64, sum.pixels.max(1.0));
        // The first component is the mean spectrum, which the total of a pixel takes with it.
        let others = k as f64 - 1.0;
        let freedom = ((channels - 1.0 - others) * (pixels - 1.0 - others) / pixels).max(1.0);
        Ok(Floor { noise: (left / freedom).max(LEAST_NOISE), channels, pixels })
    }

    /// The excess, nats a pixel, of a prediction whose residuals have the mean sum of squares `squares` in units of its own
    /// Poisson noise.
    ///
    /// # Source
    /// Half of Pearson's chi-square, whose expectation is the number of free channels; parameters that are fitted to the same
    /// pixels take away from it, and add as much to what is missed elsewhere: Mallows, Technometrics 15 (1973) 661.
    pub fn excess(&self, squares: f64, fitted: Fitted) -> f64 {
        let free = self.channels - 1.0;
        let components = |k: usize| (k as f64 - 1.0).max(0.0) * (self.channels - k as f64 + self.pixels);
        let parameters = match fitted {
            Fitted::Elsewhere => 0.0,
            Fitted::Mean => free,
            Fitted::Components(k) => free + components(k),
            Fitted::Surroundings(k) => free * (1 + k) as f64,
        };
        0.5 * (squares / self.noise - free) + parameters / self.pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_itself_has_no_excess_whatever_the_gain() {
        let floor = Floor { noise: 1.03, channels: 481.0, pixels: 9216.0 };
        assert!(floor.excess(1.03 * 480.0, Fitted::Elsewhere).abs() < 1e-9);
        let in_sample = 1.03 * (480.0 - 480.0 / 9216.0 * 2.0);
        assert!(floor.excess(in_sample, Fitted::Mean).abs() < 1e-9);
        assert!(floor.excess(1.03 * 490.0, Fitted::Elsewhere) > 4.9);
    }
}
