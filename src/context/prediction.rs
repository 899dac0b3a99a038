//! What its surroundings predict of each pixel, by the model that predicts the cube better: a sum of waves, or a regression on
//! the pixels around.

use anyhow::Result;
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis as Dim, s};
use rayon::prelude::*;

use super::blind_spot::BlindSpot;
use super::field::Field;
use super::waves::Maps;
use crate::bands::Bands;

/// Waves are looked for in fields of so many pixels at most: in larger ones, which need more of them, they take too long.
const MOST_PIXELS: usize = 1 << 16;

/// The components of this rank's pixels as their surroundings predict them.
pub struct Prediction {
    /// `[lines, x, components]`.
    pub components: Array3<f64>,
    /// By component, how many deviations of the noise 1 is.
    deviations: Vec<f64>,
    /// Whether waves are what predicts them.
    pub by_waves: bool,
}

impl Prediction {
    /// For this rank's pixels with `components` `[pixels, components]`, NaN where one is ignored; of each, `deviations` tells how
    /// many deviations of the noise 1 is.
    ///
    /// # Collective
    /// # Errors
    /// Components that are not finite; errors of libtorch.
    pub fn new(bands: &Bands, components: ArrayView2<f64>, deviations: &[f64]) -> Result<Prediction> {
        let field = Field::new(bands, components);
        let blind_spot = BlindSpot::fit(bands.comm, &field)?;
        let lines: Vec<Array2<f64>> = bands.own().into_par_iter().map(|y| blind_spot.predict(&field, y)).collect();
        let (height, width) = bands.shape();
        let mut around = Array3::zeros((height, width, components.ncols()));
        around.outer_iter_mut().zip(&lines).for_each(|(mut line, predicted)| line.assign(predicted));
        let [height, _] = bands.field();
        let deviations = deviations.to_vec();
        if height * width > MOST_PIXELS || components.ncols() == 0 {
            return Ok(Prediction { components: around, deviations, by_waves: false });
        }
        let whole = |values: ArrayView1<f64>, deviation: f64| {
            let own: Vec<f32> = values.iter().map(|&value| (value * deviation) as f32).collect();
            Array1::from_iter(bands.whole(&own).into_iter().map(f64::from))
        };
        let mut maps: Vec<Array1<f64>> = components
            .axis_iter(Dim(1))
            .zip(&deviations)
            .map(|(component, &deviation)| whole(component, deviation))
            .collect();
        let valid: Vec<bool> = (0..height * width).map(|i| maps.iter().all(|map| !map[i].is_nan())).collect();
        for map in &mut maps {
            map.iter_mut().zip(&valid).filter(|(_, valid)| !**valid).for_each(|(value, _)| *value = 0.0);
        }
        let maps = Maps { size: [height, width], maps, valid };
        let waves = maps.predicted_by_waves(bands.comm);
        let of_component = |k: usize| {
            let own: Array1<f64> = around.slice(s![.., .., k]).iter().copied().collect();
            whole(own.view(), deviations[k])
        };
        let regressed: Vec<Array1<f64>> = (0..deviations.len()).map(of_component).collect();
        if maps.error(&regressed) <= maps.error(&waves) {
            return Ok(Prediction { components: around, deviations, by_waves: false });
        }
        for (k, (wave, deviation)) in waves.iter().zip(&deviations).enumerate() {
            let own = bands.own_part(wave.as_slice().expect("in C order"));
            around.slice_mut(s![.., .., k]).assign(&(own / *deviation));
        }
        Ok(Prediction { components: around, deviations, by_waves: true })
    }

    /// By component: `[lines, x]` in units of the noise. Rank-local.
    pub fn in_noise(&self) -> Vec<Array2<f32>> {
        let maps = self.components.axis_iter(Dim(2)).zip(&self.deviations);
        maps.map(|(map, deviation)| map.mapv(|value| (value * deviation) as f32)).collect()
    }
}
