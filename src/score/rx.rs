//! The RX detector: the Mahalanobis distance of a pixel's principal components from the cube's mean, or from its
//! surroundings.

use anyhow::Result;
use ndarray::{Array2, ArrayView2};

use super::covariance::{Columns, Whitening};
use crate::comm::Comm;

/// Inner and outer radius of the square ring that a pixel is compared with: beyond the blur of an anomaly of a few
/// pixels, near enough to share its thickness and phase.
const RING_PX: [usize; 2] = [5, 9];

/// Squared Mahalanobis distances of this rank's pixels; NaN where ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct Rx {
    /// From the mean of the cube.
    pub global: Vec<f32>,
    /// From the mean of the ring around the pixel; from the cube's where the ring is empty.
    pub local: Vec<f32>,
}

/// RX of `features` `[pixels, k]` of this rank's whole lines of `width` pixels, NaN where ignored, from line `start`
/// on.
///
/// Covariances are trimmed, as those of the residuals are: anomalies must not hide themselves.
///
/// # Collective
/// Every rank of `comm`; a rank may have no line.
///
/// # Source
/// Reed & Yu, IEEE Trans. ASSP 38 (1990) 1760.
pub fn rx(comm: &Comm, features: ArrayView2<f64>, width: usize, start: usize) -> Result<Rx> {
    let mut differences = features.to_owned();
    for (component, mut column) in differences.columns_mut().into_iter().enumerate() {
        // Only one map at a time is gathered.
        let local: Vec<f64> = features.column(component).to_vec();
        let total = comm.sum_u64(local.len() as u64) as usize;
        let gathered = comm.gather_bands(&local);
        let mut means = gathered.map_or_else(|| vec![0.0; total], |map| ring_means(&map, width));
        comm.broadcast_into(&mut means);
        let own = &means[start * width..start * width + local.len()];
        for (value, mean) in column.iter_mut().zip(own) {
            *value -= mean;
        }
    }
    Ok(Rx { global: distances(comm, features, width)?, local: distances(comm, differences.view(), width)? })
}

/// # Collective
fn distances(comm: &Comm, features: ArrayView2<f64>, width: usize) -> Result<Vec<f32>> {
    let k = features.ncols();
    // Scaled to at most 1, where the exact sums of the covariance keep their precision.
    let largest =
        features.iter().filter(|value| value.is_finite()).fold(0f64, |largest, value| largest.max(value.abs()));
    let largest = comm.max_f64(largest);
    let scale = if largest > 0.0 { 1.0 / largest } else { 1.0 };
    let values: Vec<f32> = features.iter().map(|v| (v * scale) as f32).collect();
    let valid = features.rows().into_iter().filter(|row| row[0].is_finite());
    let num_valid = comm.sum_u64(valid.count() as u64);
    let lines = values.chunks((width * k).max(1)).collect();
    let columns = Columns::new(lines, k, 0, k).at_most_for(num_valid);
    let whitening = Whitening::trimmed(comm, &columns)?;
    Ok(columns.map(|pixel| whitening.distance(pixel)))
}

/// The mean of the ring around each pixel of a whole map, NaN left out.
///
/// # Source
/// Summed-area table: Crow, SIGGRAPH Comput. Graph. 18 (1984) 207.
fn ring_means(map: &[f64], width: usize) -> Vec<f64> {
    let height = map.len() / width.max(1);
    // Sums and counts of all pixels above and to the left.
    let mut sums = Array2::from_elem((height + 1, width + 1), (0f64, 0f64));
    for y in 0..height {
        let mut line = (0.0, 0.0);
        for x in 0..width {
            let value = map[y * width + x];
            if value.is_finite() {
                line = (line.0 + value, line.1 + 1.0);
            }
            let above = sums[[y, x + 1]];
            sums[[y + 1, x + 1]] = (above.0 + line.0, above.1 + line.1);
        }
    }
    let whole = sums[[height, width]];
    let square = |y: usize, x: usize, reach: usize| {
        let (top, bottom) = (y.saturating_sub(reach), (y + reach + 1).min(height));
        let (left, right) = (x.saturating_sub(reach), (x + reach + 1).min(width));
        let [a, b, c, d] = [[bottom, right], [top, right], [bottom, left], [top, left]].map(|i| sums[i]);
        (a.0 - b.0 - c.0 + d.0, a.1 - b.1 - c.1 + d.1)
    };
    let [inner, outer] = RING_PX;
    (0..map.len())
        .map(|i| {
            let (large, small) = (square(i / width, i % width, outer), square(i / width, i % width, inner - 1));
            let (sum, count) = (large.0 - small.0, large.1 - small.1);
            if count > 0.5 { sum / count } else { whole.0 / whole.1.max(1.0) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_leaves_out_the_middle_and_what_is_ignored() {
        let width = 30;
        let mut map: Vec<f64> = (0..900).map(|i| (i / width) as f64).collect();
        map[15 * width + 15] = 1e6;
        map[15 * width + 22] = f64::NAN;
        let means = ring_means(&map, width);
        // The slope is symmetric about the pixel: the mean of the ring is the pixel's own line number.
        assert!((means[15 * width + 15] - 15.0).abs() < 1e-9);
        let small = ring_means(&[1.0, f64::NAN, 3.0, 4.0], 2);
        assert!((small[0] - 8.0 / 3.0).abs() < 1e-12);
    }
}
