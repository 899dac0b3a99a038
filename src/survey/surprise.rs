//! How surprising a region is: in units that compare cubes of any size and kind.

use serde::{Deserialize, Serialize};

/// The tail of normal pixels is read off between these quantiles of all pixels of a group of cubes: low enough that
/// anomalies do not reach it.
const TAIL: [f64; 2] = [0.9, 0.98];
/// Values by which a cube's scores are remembered.
const KEPT: usize = 512;

/// The scores of a cube in short: order statistics at even steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    values: Vec<f32>,
    /// Pixels that they stand for.
    pub pixels: usize,
}

impl Sketch {
    /// Of the scores of all pixels, NaN left out.
    pub fn of(scores: impl Iterator<Item = f32>) -> Sketch {
        let mut sorted: Vec<f32> = scores.filter(|score| !score.is_nan()).collect();
        sorted.sort_by(f32::total_cmp);
        let pixels = sorted.len();
        let kept = KEPT.min(pixels);
        // The middle of each step.
        let at = |i: usize| sorted[(2 * i + 1) * pixels / (2 * kept)];
        Sketch {
            values: (0..kept).map(at).collect(),
            pixels,
        }
    }
}

/// The normal pixels of a group of cubes. An exponential tail: combined scores are squares of sigmas.
pub struct Normal {
    start: f64,
    /// Natural logarithm of the share of pixels that exceed `start`.
    log_share: f64,
    scale: f64,
}

impl Normal {
    /// From the cubes of a group; one cube is a group too.
    pub fn of<'a>(sketches: impl Iterator<Item = &'a Sketch>) -> Normal {
        let mut weighted: Vec<(f32, f64)> = sketches
            .flat_map(|sketch| {
                let weight = sketch.pixels as f64 / sketch.values.len().max(1) as f64;
                sketch.values.iter().map(move |&value| (value, weight))
            })
            .collect();
        weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        // Each value stands in the middle of its weight; between two, a straight line.
        let quantile = |level: f64| {
            let mut before: Option<(f64, f64)> = None;
            let mut sum = 0.0;
            for &(value, weight) in &weighted {
                let here = (sum + 0.5 * weight, f64::from(value));
                if here.0 >= level * total {
                    let (place, value) = before.unwrap_or(here);
                    let share = (level * total - place) / (here.0 - place).max(f64::MIN_POSITIVE);
                    return value + share.clamp(0.0, 1.0) * (here.1 - value);
                }
                before = Some(here);
                sum += weight;
            }
            before.map_or(0.0, |(_, value)| value)
        };
        let [lower, upper] = TAIL.map(quantile);
        let scale = (upper - lower) / ((1.0 - TAIL[0]) / (1.0 - TAIL[1])).ln();
        Normal {
            start: upper,
            log_share: (1.0 - TAIL[1]).ln(),
            // Constant scores surprise nobody.
            scale: if scale > 0.0 { scale } else { f64::INFINITY },
        }
    }

    /// Minus the decimal logarithm of how many regions like this normal pixels form in a map of `pixels`: 0 where there
    /// is one, 3 where it takes a thousand such maps.
    ///
    /// `area` pixels of mean score `mean`, of which the spatial mean over `window` x `window` leaves fewer independent.
    pub fn surprise(&self, mean: f64, area: usize, window: usize, pixels: usize) -> f64 {
        let excess = (mean - self.start) / self.scale;
        let log_p = self.log_share - excess.max(0.0);
        let independent = (area as f64 / (window * window) as f64).max(1.0);
        let decades =
            -(independent * log_p + (pixels.max(1) as f64).ln()) / std::f64::consts::LN_10;
        // Where the tail has not begun, nothing is known of it.
        if excess > 0.0 {
            decades
        } else {
            decades.min(0.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An even sample of an exponential distribution of mean `scale`.
    fn exponential(count: usize, scale: f64) -> Vec<f32> {
        let level = |i: usize| (i as f64 + 0.5) / count as f64;
        (0..count)
            .map(|i| (-scale * (1.0 - level(i)).ln()) as f32)
            .collect()
    }

    #[test]
    fn one_clean_map_surprises_by_nothing_and_a_thousand_by_three_decades() {
        for (count, scale) in [(1000, 1.0), (50_000, 7.5)] {
            let sketch = Sketch::of(exponential(count, scale).into_iter());
            let normal = Normal::of([&sketch].into_iter());
            // Exceeded by one pixel, and by one in a thousand maps.
            let usual = scale * (count as f64).ln();
            let rare = scale * (count as f64 * 1e3).ln();
            assert!(normal.surprise(usual, 1, 3, count).abs() < 0.1);
            assert!((normal.surprise(rare, 1, 3, count) - 3.0).abs() < 0.15);
            // As strong, but twice as many independent pixels.
            assert!(normal.surprise(rare, 18, 3, count) > 6.0);
        }
    }

    #[test]
    fn a_group_lends_its_normal_pixels_to_a_cube_that_is_mostly_odd() {
        let clean = Sketch::of(exponential(500, 1.0).into_iter());
        let odd = Sketch::of(exponential(500, 1.0).into_iter().map(|score| score * 8.0));
        let own = Normal::of([&odd].into_iter());
        let group = Normal::of([&clean; 39].into_iter().chain([&odd]));
        assert!(group.surprise(40.0, 9, 3, 500) > own.surprise(40.0, 9, 3, 500) + 5.0);
    }

    #[test]
    fn degenerate_maps_surprise_nobody() {
        for values in [vec![], vec![f32::NAN; 4], vec![0.0; 50]] {
            let sketch = Sketch::of(values.into_iter());
            let normal = Normal::of([&sketch].into_iter());
            assert!(normal.surprise(0.0, 1, 3, sketch.pixels) <= 0.0);
        }
    }
}
