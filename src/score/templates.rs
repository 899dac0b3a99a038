//! Templates: the residuals that an edge would leave if it moved, or had another height.

use ndarray::Array1;

use super::features::Residual;
use super::line::ScoredWindow;
use crate::cube::Axis;
use crate::spectrum::{NOISY_SLOPES, PowerLaw, shifted};

/// The shifts that templates are made for, eV, up and down.
pub const SHIFTS_EV: [f64; 10] = [1.0, 1.5, 2.2, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 12.0];

/// The edge of one window in the mean reconstruction, above the power law fitted before it.
pub struct EdgeProfile<'a> {
    window: &'a ScoredWindow,
    /// eV per channel.
    pub(super) scale_ev: f64,
    /// `[E]` counts; zero below the channels of the background fit.
    shape: Array1<f32>,
    /// The mean reconstruction at the window's channels.
    mean: &'a [f64],
}

impl<'a> EdgeProfile<'a> {
    /// `mean` is the mean reconstruction, `[E]` counts.
    pub(super) fn new(energy: &Axis, window: &'a ScoredWindow, mean: &'a [f64]) -> EdgeProfile<'a> {
        EdgeProfile {
            window,
            scale_ev: energy.scale,
            shape: edge_shape(energy, window, mean),
            mean: &mean[window.shift.range.clone()],
        }
    }

    /// The shift family's coefficients of `f(E - at - shift) - f(E - at)`, where `f` is the edge: an edge at `at` that
    /// moves by `shift`.
    pub fn moved(&self, at_ev: f64, shift_ev: f64) -> Vec<f64> {
        let range = self.window.shift.range.clone();
        let [here, moved] =
            [at_ev, at_ev + shift_ev].map(|shift| shifted(self.shape.view(), shift / self.scale_ev, range.clone()));
        let changed = moved.iter().zip(&here).map(|(moved, here)| moved - here);
        let mut residual = self.residual(changed);
        let shift = &self.window.shift;
        shift.remove_background(&mut residual.values, &residual.root);
        shift.cosine_coefficients(&residual.values).collect()
    }

    /// The composition family's coefficients of the edge itself: more of its element.
    pub fn higher(&self) -> Vec<f64> {
        let range = self.window.shift.range.clone();
        let edge = shifted(self.shape.view(), 0.0, range);
        let residual = self.residual(edge.into_iter());
        let composition = &self.window.composition;
        composition.cosine_coefficients(&residual.values).collect()
    }

    fn residual(&self, change: impl Iterator<Item = f64>) -> Residual {
        Residual::new(change.zip(self.mean).map(|(c, mu)| c + mu), self.mean)
    }
}

/// The mean spectrum above the power law fitted before its edge, `[E]`; zero below the channels of the fit.
fn edge_shape(energy: &Axis, window: &ScoredWindow, mean: &[f64]) -> Array1<f32> {
    let [low, high] = window.window.background_ev;
    let before = energy.indices(low, high);
    let energies = energy.values();
    let law = PowerLaw::fit(&energies[before.clone()], &mean[before.clone()], NOISY_SLOPES);
    (0..energy.size)
        .map(|i| match &law {
            Some(law) if i >= before.start && energies[i] > 0.0 => (mean[i] - law.at(energies[i])) as f32,
            _ => 0.0,
        })
        .collect()
}
