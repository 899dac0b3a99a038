//! The residual of a pixel in one window, in units of noise and freed of background.

use std::ops::Range;

use crate::spectrum::{inverse_cube, sum_products};

/// A window of `[E]` spectra, and the background in it.
#[derive(Clone, Debug)]
pub struct Projection {
    /// Channels of the window.
    pub range: Range<usize>,
    /// The shape of a background at the channels of the window: [`inverse_cube`].
    background: Vec<f64>,
}

/// The residual of a spectrum in units of its Poisson noise.
#[derive(Clone, Debug)]
pub struct Residual {
    /// `(u - mu) / sqrt(mu)`, `[window]`.
    pub values: Vec<f64>,
    /// `sqrt(mu)`, `[window]`.
    pub root: Vec<f64>,
}

impl Residual {
    /// The residual of `u` about the model `mu` (both `[window]`, counts).
    ///
    /// No channel is given less noise than that of 1 % of the model's mean.
    pub fn new(u: impl Iterator<Item = f64>, mu: &[f64]) -> Residual {
        let mean = mu.iter().sum::<f64>() / mu.len().max(1) as f64;
        let floor = (0.01 * mean).max(1e-3);
        let root: Vec<f64> = mu.iter().map(|&m| m.max(floor).sqrt()).collect();
        let values = u.zip(mu).zip(&root).map(|((u, mu), root)| (u - mu) / root).collect();
        Residual { values, root }
    }
}

impl Projection {
    /// The projection of the channels `range` of spectra on `energies` (eV).
    pub fn new(energies: &[f64], range: Range<usize>) -> Projection {
        Projection { background: inverse_cube(&energies[range.clone()]), range }
    }

    /// Removes the model `mu` and `E^-3` from the residual `values` by least squares weighted with `1 / mu`.
    ///
    /// # Source
    /// Weighted least squares: dividing by `root = sqrt(mu)` makes the weighted problem an ordinary one.
    pub fn remove_background(&self, values: &mut [f64], root: &[f64]) {
        remove(values, &self.background_directions(root));
    }

    /// Orthonormal directions of the model `mu` and of `E^-3`, in units of `root = sqrt(mu)`; the second is zero where
    /// the model is `E^-3` itself.
    pub fn background_directions(&self, root: &[f64]) -> [Vec<f64>; 2] {
        let along_model = unit(root.to_vec());
        let mut background: Vec<f64> = self.background.iter().zip(root).map(|(b, root)| b / root).collect();
        let length = dot(&background, &background);
        subtract(&mut background, &along_model);
        // Of a model that is E^-3 itself only rounding is left, which must not be scaled up to a direction.
        if dot(&background, &background) > 1e-10 * length {
            background = unit(background);
        } else {
            background.fill(0.0);
        }
        [along_model, background]
    }
}

/// `sum a_i b_i`.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    sum_products(a, b, |a, b| a * b)
}

/// `vector` scaled to length 1; zero stays zero.
fn unit(mut vector: Vec<f64>) -> Vec<f64> {
    let length = dot(&vector, &vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
    }
    vector
}

/// Removes the parts of `values` along the orthonormal `directions`.
pub fn remove(values: &mut [f64], directions: &[Vec<f64>; 2]) {
    for direction in directions {
        subtract(values, direction);
    }
}

/// Removes the part of `values` along the unit vector `direction`.
fn subtract(values: &mut [f64], direction: &[f64]) {
    let along = dot(values, direction);
    values.iter_mut().zip(direction).for_each(|(v, d)| *v -= along * d);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_scale_and_background_leaves_nothing() {
        let energies: Vec<f64> = (0..60).map(|i| 690.0 + i as f64).collect();
        let projection = Projection::new(&energies, 10..50);
        let mu: Vec<f64> = (10..50).map(|i| 300.0 + 200.0 * f64::from(u8::from(i > 25)) - i as f64).collect();
        let u = mu.iter().zip(&energies[10..50]).map(|(m, e)| 1.1 * m + 4e9 * e.powi(-3));
        let mut residual = Residual::new(u, &mu);
        assert!(dot(&residual.values, &residual.values) > 1.0);
        projection.remove_background(&mut residual.values, &residual.root);
        let left = dot(&residual.values, &residual.values);
        assert!(left < 1e-16 * 1e4, "{left}");
    }

    #[test]
    fn an_empty_model_gives_finite_residuals() {
        let residual = Residual::new([5.0, 0.0].into_iter(), &[0.0, 0.0]);
        assert!(residual.values.iter().all(|v| v.is_finite()));
    }
}
