//! Which dimension of a plain dataset is the energy, where nothing in the file tells.

use hdf5::Dataset;

use super::hdf5_file::{check_filters, read_f32};

/// An energy axis has at least so many channels, and so many times more than the field has places.
const LEAST_CHANNELS: usize = 64;
const LEAST_RATIO: usize = 4;
/// Spectra fall from their first eighth to the last by more than this (in logarithms), and by so many times more than fields do.
const LEAST_FALL: f64 = 0.1;
const LEAST_CONTRAST: f64 = 2.0;
/// Places in the middle of each other dimension that are looked at.
const PLACES: usize = 4;

/// The dimension before the last that is clearly the energy of `dataset`: by far the longest, and the one along which the counts
/// fall. None where that is not clear, or the last is. Rank-local; reads some pixels.
pub(crate) fn likely_energy(dataset: &Dataset) -> Option<usize> {
    let shape = dataset.shape();
    let last = shape.len().checked_sub(1)?;
    let longest = (0..shape.len()).max_by_key(|&dim| shape[dim])?;
    let is_longest = |(dim, &size): (usize, &usize)| dim == longest || size * LEAST_RATIO <= shape[longest];
    if longest == last || shape[longest] < LEAST_CHANNELS || !shape.iter().enumerate().all(is_longest) {
        return None;
    }
    check_filters(dataset).ok()?;
    let fall = fall_along(dataset, &shape, longest)?;
    (fall > LEAST_FALL && fall > LEAST_CONTRAST * fall_along(dataset, &shape, last)?.abs()).then_some(longest)
}

/// The logarithm of the counts in the first eighth of `dim` over those in its last, in the middle of the other dimensions.
fn fall_along(dataset: &Dataset, shape: &[usize], dim: usize) -> Option<f64> {
    let eighth = (shape[dim] / 8).max(1);
    let counts = |along: std::ops::Range<usize>| {
        let middle =
            |size: usize| (size.saturating_sub(PLACES) / 2)..(size.saturating_sub(PLACES) / 2 + PLACES).min(size);
        let part = (0..shape.len()).map(|other| if other == dim { along.clone() } else { middle(shape[other]) });
        let values = read_f32(dataset, part.collect()).ok()?;
        Some(values.iter().map(|&value| f64::from(value)).sum::<f64>())
    };
    let fall = (counts(0..eighth)? / counts(shape[dim] - eighth..shape[dim])?).ln();
    fall.is_finite().then_some(fall)
}
