//! The energy drift of scan lines against the mean spectrum, where no model has been trained.

use ndarray::{Array2, ArrayView2};

use super::features::Projection;
use super::line_shift::line_shift;
use crate::config::Window;
use crate::cube::Axis;

/// Measures the drift of lines on one edge of a cube.
pub struct Drift {
    edge: Projection,
    scale_ev: f64,
    mean: Vec<f64>,
}

impl Drift {
    /// On the edge in `window` of spectra on `energy`, against their `mean` (`[E]` counts).
    pub fn new(energy: &Axis, window: &Window, mean: &[f64]) -> Drift {
        let range = energy.indices(window.range_ev[0], window.range_ev[1]);
        Drift { edge: Projection::new(&energy.values(), range), scale_ev: energy.scale, mean: mean.to_vec() }
    }

    /// How much higher in energy (eV) the spectra of one line, `u` `[x, E]` counts, lie than the mean spectrum; `None`
    /// where the edge is too weak to tell. Rank-local and pure.
    pub fn of_line(&self, u: ArrayView2<f32>, valid: &[bool]) -> Option<f64> {
        let whole: f64 = self.mean.iter().sum();
        let totals: Vec<f64> = u.outer_iter().map(|spectrum| spectrum.iter().map(|&n| f64::from(n)).sum()).collect();
        let model =
            Array2::from_shape_fn(u.dim(), |(x, i)| (self.mean[i] * totals[x] / whole.max(f64::MIN_POSITIVE)) as f32);
        let shift_ev = line_shift(&self.edge, u, model.view(), valid, self.scale_ev);
        // `line_shift` answers exactly 0 where it cannot tell.
        (shift_ev != 0.0).then_some(shift_ev)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn a_line_that_moved_is_measured_and_a_flat_one_is_not() {
        let energy = Axis::energy_loss(450.0, 0.5, 400);
        let spectrum = |e: f64| 2e9 * e.powf(-2.7) + 30.0 / (1.0 + (-(e - 532.0) / 0.8).exp());
        let mean: Vec<f64> = energy.values().iter().map(|&e| spectrum(e)).collect();
        let window = Window { name: "O K".into(), range_ev: [522.0, 570.0], background_ev: [490.0, 520.0] };
        let drift = Drift::new(&energy, &window, &mean);
        let moved =
            Array2::from_shape_fn((9, 400), |(x, i)| ((1.0 + 0.1 * x as f64) * spectrum(energy.value(i) - 0.3)) as f32);
        let found = drift.of_line(moved.view(), &[true; 9]).unwrap();
        assert!((found - 0.3).abs() < 0.05, "{found}");
        assert_eq!(drift.of_line(moved.view(), &[false; 9]), None);
        let flat = Array2::from_elem((9, 400), 0f32);
        assert_eq!(drift.of_line(flat.view(), &[true; 9]), None);
    }
}
