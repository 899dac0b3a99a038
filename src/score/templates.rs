//! The bank of shifted edges that the `shift` score looks for.

use ndarray::{Array1, ArrayView1};

use super::background::PowerLaw;
use super::covariance::Whitening;
use super::features::{dot, Residual};
use super::line::ScoredWindow;
use super::refit::shifted;
use crate::cube::Axis;

/// The shifts looked for, eV, up and down.
const SHIFTS_EV: [f64; 10] = [1.0, 1.5, 2.2, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 12.0];

/// Slopes of a background before an edge; a little beyond what nature has, for noise.
const SLOPES: std::ops::RangeInclusive<f64> = -8.0..=0.0;

/// The changes that shifts of one edge make, as unit vectors in whitened coordinates.
#[derive(Clone, Debug)]
pub struct TemplateBank {
    templates: Vec<Template>,
}

#[derive(Clone, Debug)]
struct Template {
    shift_ev: f64,
    direction: Vec<f64>,
}

impl TemplateBank {
    /// Templates `f(E - d) - f(E)`, with `f` the mean reconstruction (`[E]` counts) above its background.
    ///
    /// They pass through the same steps as the residuals; those that leave nothing are dropped.
    ///
    /// # Source
    /// SCIENCE.md 3.7.
    pub(super) fn new(
        energy: &Axis,
        window: &ScoredWindow,
        mean_reconstruction: &[f64],
        num_coefficients: usize,
        whitening: &Whitening,
    ) -> TemplateBank {
        let edge = edge_shape(energy, window, mean_reconstruction);
        let mu = &mean_reconstruction[window.shift.range.clone()];
        let mut templates = Vec::new();
        for shift_ev in SHIFTS_EV.iter().flat_map(|&d| [-d, d]) {
            let moved = moved(edge.view(), shift_ev / energy.scale, window);
            let change = moved.iter().zip(mu).map(|(m, mu)| m + mu);
            let mut residual = Residual::new(change, mu);
            window
                .shift
                .remove_background(&mut residual.values, &residual.root);
            let coefficients: Vec<f64> = window
                .shift
                .cosine_coefficients(&residual.values)
                .take(num_coefficients)
                .collect();
            let direction = whitening.direction(&coefficients);
            let length = dot(&direction, &direction).sqrt();
            if length > 1e-9 && length.is_finite() {
                let direction = direction.iter().map(|v| v / length).collect();
                templates.push(Template {
                    shift_ev,
                    direction,
                });
            }
        }
        TemplateBank { templates }
    }

    /// The largest generalised likelihood ratio of whitened coordinates, and its shift (eV); 0, 0 if none fits.
    ///
    /// # Source
    /// Kay, Fundamentals of Statistical Signal Processing II, sec. 6.4: with unit noise and an unknown positive
    /// amplitude twice the log ratio is the squared projection.
    pub fn best(&self, whitened: &[f64]) -> (f32, f32) {
        let mut best = (0.0, 0.0);
        for template in &self.templates {
            let projection = dot(&template.direction, whitened);
            if projection > best.0 {
                best = (projection, template.shift_ev);
            }
        }
        ((best.0 * best.0) as f32, best.1 as f32)
    }
}

/// The mean spectrum above the power law before its edge, `[E]`; zero before the background.
fn edge_shape(energy: &Axis, window: &ScoredWindow, mean: &[f64]) -> Array1<f32> {
    let [low, high] = window.window.background_ev;
    let before = energy.indices(low, high);
    let energies = energy.values();
    let law = PowerLaw::fit(&energies[before.clone()], &mean[before.clone()], SLOPES);
    (0..energy.size)
        .map(|i| match &law {
            Some(law) if i >= before.start && energies[i] > 0.0 => {
                (mean[i] - law.at(energies[i])) as f32
            }
            _ => 0.0,
        })
        .collect()
}

/// `edge(E - shift) - edge(E)` at the window's channels.
fn moved(edge: ArrayView1<f32>, shift: f64, window: &ScoredWindow) -> Vec<f64> {
    let range = window.shift.range.clone();
    let here = shifted(edge, 0.0, range.clone());
    shifted(edge, shift, range)
        .iter()
        .zip(&here)
        .map(|(moved, here)| moved - here)
        .collect()
}
