//! The regression from surroundings to pixel, fitted and applied.

use anyhow::Result;
use ndarray::{Array2, ArrayView1};

use super::field::Field;
use super::normal::Normal;
use super::window::{FOLDS, fold};
use crate::comm::Comm;
use crate::shard::owned;

/// The weights `[seen, components]` by which the pixels of each fold are predicted.
pub struct BlindSpot {
    weights: Vec<Array2<f64>>,
}

impl BlindSpot {
    /// Fits the weights of each fold to the pixels of the other folds, equal to the bit on any number of ranks and threads.
    ///
    /// # Collective
    /// # Errors
    /// Components that are not finite; errors of libtorch.
    ///
    /// # Source
    /// Matheron, Econ. Geol. 58 (1963) 1246 (kriging), with a ridge in place of a model of the covariance: Hoerl & Kennard,
    /// Technometrics 12 (1970) 55.
    pub fn fit(comm: &Comm, field: &Field) -> Result<BlindSpot> {
        let sums = Normal::sum(comm, field)?;
        let solve = |fold| {
            let weights = Normal::without(&sums, fold).solve(field.num_components())?;
            Ok(weights.into_raw_vec_and_offset().0)
        };
        // One after the other, as each takes room.
        let mine: Result<Vec<Vec<f64>>> = owned(FOLDS, comm.rank(), comm.size()).map(solve).collect();
        let mine = comm.agree(mine)?;
        drop(sums);
        let shape = (field.num_seen(), field.num_components());
        let all = comm.all_gather(&mine).into_iter().flatten();
        let weights = all.map(|weights| Array2::from_shape_vec(shape, weights).expect("all ranks see one window"));
        Ok(BlindSpot { weights: weights.collect() })
    }

    /// The components `[x, components]` that the surroundings of each pixel of line `y`, one of the band, predict.
    /// Rank-local.
    pub fn predict(&self, field: &Field, y: usize) -> Array2<f64> {
        let count = field.num_components();
        let mut predicted = Array2::zeros((field.width(), count));
        for (x, mut predicted) in predicted.outer_iter_mut().enumerate() {
            let weights = &self.weights[fold([y, x])];
            for (place, seen) in field.seen([y, x]).enumerate() {
                for (i, &value) in seen.unwrap_or_default().iter().enumerate() {
                    let weights: ArrayView1<f64> = weights.row(place * count + i);
                    predicted.scaled_add(f64::from(value), &weights);
                }
            }
        }
        predicted
    }
}
