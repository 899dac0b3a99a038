//! Surprise: how unlikely a region is to be chance, in a unit that compares cubes of any size and kind.
//!
//! The default score is a logarithm of odds that the noise of each cube calibrates, so that no cube has to be compared with
//! another.

use std::f64::consts::LN_10;

/// What the neighbours of a pixel add to its log odds, on average over an area: .6 for each of eight inside, for half of
/// them at a border. It must not be counted again at each pixel.
const LENT: f64 = 3.0;

/// The decimal logarithm of the odds that a region is anomalous, less that of the number of places in a map of `pixels`
/// where it could lie. Above 0 chance hardly makes one such region in such a map. Pixels are taken as independent.
///
/// `mean` is the mean score of its `area` pixels, `ln(1 + odds)`.
pub fn of_region(mean: f64, area: usize, pixels: usize) -> f64 {
    let own = (log_odds(mean) - LENT).max(0.0);
    (area as f64 * own - (pixels.max(1) as f64).ln()) / LN_10
}

/// The surprise of a map in which nothing is flagged, from its highest score; never above 0.
pub fn of_nothing(highest: f64, pixels: usize) -> f64 {
    ((log_odds(highest) - (pixels.max(1) as f64).ln()) / LN_10).min(0.0)
}

/// The logarithm of the odds in a score `ln(1 + odds)`.
fn log_odds(score: f64) -> f64 {
    score.exp_m1().max(f64::MIN_POSITIVE).ln().min(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_odds_surprise_nobody_and_many_sure_pixels_do() {
        let even = std::f64::consts::LN_2;
        assert!((of_region(even, 1, 1)).abs() < 1e-12);
        assert!((of_region(even, 9, 1000) + 3.0).abs() < 1e-12);
        // Odds of a thousand to one beyond what is lent, in four pixels of a thousand.
        let sure = (1.0 + 1000.0 * LENT.exp()).ln();
        assert!((of_region(sure, 4, 1000) - 9.0).abs() < 1e-9);
        assert_eq!(of_nothing(50.0, 10), 0.0);
        assert!(of_nothing(0.0, 10) < -100.0);
        assert!(log_odds(800.0) == 800.0);
    }
}
