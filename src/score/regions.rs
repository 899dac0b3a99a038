//! Connected areas of flagged pixels.

use ndarray::{Array2, ArrayView2};

use crate::cube::neighbourhood;

/// One connected area of pixels above the threshold; pixel indices count from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Value in the label map: 1 for the region with the highest score.
    pub label: i32,
    /// Number of pixels.
    pub area_px: usize,
    /// Mean of the pixels' indices.
    pub centroid_yx: [f64; 2],
    /// First and last row, both inside.
    pub rows: [usize; 2],
    /// First and last column, both inside.
    pub columns: [usize; 2],
    pub max_score: f32,
    pub mean_score: f64,
    /// The pixel of `max_score`, the first in reading order.
    pub peak_yx: [usize; 2],
}

/// The 8-connected areas of `flagged` pixels (`[y, x]`), the highest score first, and their label map.
///
/// Rank-local.
pub fn regions(scores: ArrayView2<f32>, flagged: ArrayView2<bool>) -> (Vec<Region>, Array2<i32>) {
    let (height, width) = scores.dim();
    let mut seen = Array2::from_elem((height, width), false);
    let mut areas: Vec<(Region, Vec<[usize; 2]>)> = Vec::new();
    for y in 0..height {
        for x in 0..width {
            if flagged[[y, x]] && !seen[[y, x]] {
                let pixels = flood(flagged, &mut seen, [y, x]);
                areas.push((describe(scores, &pixels), pixels));
            }
        }
    }
    // The sort is stable: equal scores stay in reading order.
    areas.sort_by(|a, b| b.0.max_score.total_cmp(&a.0.max_score));
    let mut labels = Array2::zeros((height, width));
    for (label, (region, pixels)) in (1..).zip(&mut areas) {
        region.label = label;
        for &pixel in pixels.iter() {
            labels[pixel] = label;
        }
    }
    (areas.into_iter().map(|a| a.0).collect(), labels)
}

/// The pixels of the area around `start`, in reading order.
fn flood(flagged: ArrayView2<bool>, seen: &mut Array2<bool>, start: [usize; 2]) -> Vec<[usize; 2]> {
    let (height, width) = flagged.dim();
    let mut pixels = Vec::new();
    let mut open = vec![start];
    seen[start] = true;
    while let Some([y, x]) = open.pop() {
        pixels.push([y, x]);
        for ny in neighbourhood(y, 1, height) {
            for nx in neighbourhood(x, 1, width) {
                if flagged[[ny, nx]] && !seen[[ny, nx]] {
                    seen[[ny, nx]] = true;
                    open.push([ny, nx]);
                }
            }
        }
    }
    pixels.sort_unstable();
    pixels
}

/// The figures of one area; its label is set later.
fn describe(scores: ArrayView2<f32>, pixels: &[[usize; 2]]) -> Region {
    let area = pixels.len() as f64;
    let mut peak = pixels[0];
    for &pixel in pixels {
        if scores[pixel] > scores[peak] {
            peak = pixel;
        }
    }
    let extent = |axis: usize| {
        let indices = || pixels.iter().map(|p| p[axis]);
        [indices().min().unwrap_or(0), indices().max().unwrap_or(0)]
    };
    let center = |axis: usize| pixels.iter().map(|p| p[axis] as f64).sum::<f64>() / area;
    Region {
        label: 0,
        area_px: pixels.len(),
        centroid_yx: [center(0), center(1)],
        rows: extent(0),
        columns: extent(1),
        max_score: scores[peak],
        mean_score: pixels.iter().map(|&p| f64::from(scores[p])).sum::<f64>() / area,
        peak_yx: peak,
    }
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;

    use super::*;

    #[test]
    fn diagonal_neighbours_join_and_the_strongest_comes_first() {
        let scores = arr2(&[
            [2.0, 0.0, 0.0, 0.0, 7.0],
            [0.0, 4.0, 0.0, f32::NAN, 5.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [3.0, 0.0, 0.0, 0.0, 1.0],
        ]);
        let (regions, labels) = regions(scores.view(), scores.mapv(|s| s > 1.0).view());
        assert_eq!(regions.len(), 3);
        let first = &regions[0];
        assert_eq!((first.label, first.area_px, first.max_score), (1, 2, 7.0));
        assert_eq!((first.peak_yx, first.rows, first.columns), ([0, 4], [0, 1], [4, 4]));
        assert_eq!((first.centroid_yx, first.mean_score), ([0.5, 4.0], 6.0));
        assert_eq!(regions[1].peak_yx, [1, 1]);
        let expected = arr2(&[[2, 0, 0, 0, 1], [0, 2, 0, 0, 1], [0, 0, 0, 0, 0], [3, 0, 0, 0, 0]]);
        assert_eq!(labels, expected);
    }

    #[test]
    fn nothing_flagged_is_no_region() {
        let none = arr2(&[[false, false]]);
        let (found, labels) = regions(arr2(&[[f32::NAN, 1.0]]).view(), none.view());
        assert!(found.is_empty());
        assert_eq!(labels.sum(), 0);
    }
}
