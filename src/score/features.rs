//! The residual of a pixel in one window as a few coefficients: in units of noise, freed of background,
//! cosine-transformed.
//!
//! The spectra of pixels and the templates that they are compared with take the same steps.

use std::f64::consts::PI;
use std::ops::Range;

use crate::spectrum::{inverse_cube, sum_products};

/// A pixel's background directions and the common ones are too different if the determinant of their cosines is
/// smaller.
const LEAST_ALIKE: f64 = 0.7;

/// The steps from a residual to coefficients in one window of `[E]` spectra.
#[derive(Clone, Debug)]
pub struct Projection {
    /// Channels of the window.
    pub range: Range<usize>,
    /// The shape of a background at the channels of the window: [`inverse_cube`].
    background: Vec<f64>,
    /// `[num_coefficients, window]`, orthonormal DCT-II.
    cosines: Vec<Vec<f64>>,
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
    /// The projection of the channels `range` of spectra on `energies` (eV), to at most `num_coefficients`
    /// coefficients.
    pub fn new(energies: &[f64], range: Range<usize>, num_coefficients: usize) -> Projection {
        let width = range.len();
        // Two background directions are removed: no more coefficients than this are independent.
        let count = num_coefficients.min(width.saturating_sub(2));
        let background = inverse_cube(&energies[range.clone()]);
        let cosines = (0..count)
            .map(|k| {
                let norm = if k == 0 { 1.0 } else { 2.0 } / width as f64;
                (0..width).map(|i| norm.sqrt() * (PI * k as f64 * (i as f64 + 0.5) / width as f64).cos()).collect()
            })
            .collect();
        Projection { range, background, cosines }
    }

    /// Number of coefficients.
    pub fn num_coefficients(&self) -> usize {
        self.cosines.len()
    }

    /// Removes the model `mu` and `E^-3` from the residual `values` by least squares weighted with `1 / mu`.
    ///
    /// # Source
    /// Weighted least squares: dividing by `root = sqrt(mu)` makes the weighted problem an ordinary one.
    pub fn remove_background(&self, values: &mut [f64], root: &[f64]) {
        remove(values, &self.background_directions(root));
    }

    /// Removes as much of the model `mu` and `E^-3` from the residual `values` as leaves nothing along the directions
    /// `common`.
    ///
    /// Least squares would remove the noise along each pixel's own model. Pixels with another model than most would
    /// keep noise that the others lack, and look anomalous. With common directions all pixels lack noise along the same
    /// two, and a change of amount or background still leaves no residual. Pixels that differ too much from `common`
    /// fall back to their own directions.
    ///
    /// # Source
    /// Oblique projection along `mu` and `E^-3` onto the complement of `common`: Behrens & Scharf, IEEE Trans. Signal
    /// Process. 42 (1994) 1413.
    pub fn remove_background_alike(&self, values: &mut [f64], root: &[f64], common: &[Vec<f64>; 2]) {
        let own = self.background_directions(root);
        let [[a, b], [c, d]] = common.each_ref().map(|to| own.each_ref().map(|o| dot(to, o)));
        let alike = a * d - b * c;
        if alike.abs() < LEAST_ALIKE {
            return remove(values, &own);
        }
        let [first, second] = common.each_ref().map(|to| dot(to, values));
        let amounts = [d * first - b * second, a * second - c * first];
        for (amount, direction) in amounts.iter().zip(&own) {
            for (value, along) in values.iter_mut().zip(direction) {
                *value -= amount / alike * along;
            }
        }
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

    /// The cosine coefficients of `values` (`[window]`).
    ///
    /// # Source
    /// DCT-II, orthonormal: Ahmed, Natarajan & Rao, IEEE Trans. Comput. 23 (1974) 90.
    pub fn cosine_coefficients<'a>(&'a self, values: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.cosines.iter().map(move |c| dot(c, values))
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
        let projection = Projection::new(&energies, 10..50, 24);
        let mu: Vec<f64> = (10..50).map(|i| 300.0 + 200.0 * f64::from(u8::from(i > 25)) - i as f64).collect();
        let u = mu.iter().zip(&energies[10..50]).map(|(m, e)| 1.1 * m + 4e9 * e.powi(-3));
        let mut residual = Residual::new(u, &mu);
        assert!(dot(&residual.values, &residual.values) > 1.0);
        projection.remove_background(&mut residual.values, &residual.root);
        let left = dot(&residual.values, &residual.values);
        assert!(left < 1e-16 * 1e4, "{left}");
    }

    #[test]
    fn all_pixels_lack_noise_along_the_same_directions() {
        let energies: Vec<f64> = (0..60).map(|i| 690.0 + i as f64).collect();
        let projection = Projection::new(&energies, 10..50, 24);
        let edge_at = |channel: f64| -> Vec<f64> {
            (10..50).map(|i| 300.0 + 200.0 / (1.0 + (-(i as f64 - channel)).exp()) - i as f64).collect()
        };
        let root_of = |mu: &[f64]| Residual::new(mu.iter().copied(), mu).root;
        let common = projection.background_directions(&root_of(&edge_at(25.0)));
        let mu = edge_at(25.7);
        let root = root_of(&mu);
        let mut noise: Vec<f64> = (0..40).map(|i| f64::from((i * 17 % 7) - 3)).collect();
        projection.remove_background_alike(&mut noise, &root, &common);
        assert!(common.iter().all(|to| dot(to, &noise).abs() < 1e-9));
        let more = mu.iter().zip(&energies[10..50]);
        let mut more = Residual::new(more.map(|(m, e)| 1.1 * m + 4e9 * e.powi(-3)), &mu).values;
        projection.remove_background_alike(&mut more, &root, &common);
        assert!(dot(&more, &more) < 1e-12, "{}", dot(&more, &more));
    }

    #[test]
    fn cosines_are_orthonormal_and_fewer_in_a_narrow_window() {
        let energies: Vec<f64> = (0..12).map(|i| 500.0 + i as f64).collect();
        let projection = Projection::new(&energies, 2..9, 24);
        assert_eq!(projection.num_coefficients(), 5);
        for (i, a) in projection.cosines.iter().enumerate() {
            for (j, b) in projection.cosines.iter().enumerate() {
                let expected = f64::from(u8::from(i == j));
                assert!((dot(a, b) - expected).abs() < 1e-12);
            }
        }
        assert_eq!(Projection::new(&energies, 3..4, 24).num_coefficients(), 0);
    }

    #[test]
    fn an_empty_model_gives_finite_residuals() {
        let residual = Residual::new([5.0, 0.0].into_iter(), &[0.0, 0.0]);
        assert!(residual.values.iter().all(|v| v.is_finite()));
    }
}
