//! How surprising a region is: in units that compare cubes of any size and kind.
//!
//! The default score is a logarithm of odds that each cube's own noise calibrates, so that no cube needs another to be
//! held against.

use std::f64::consts::LN_10;

/// What neighbours lend to the log odds of a pixel of an area, on average: .6 for each of eight inside, half of them at a
/// border. Evidence that is counted at one pixel must not be counted at the next.
const LENT: f64 = 3.0;

/// Decades of the odds that a region is anomalous, its pixels taken as independent, less those of the number of places
/// in a map of `pixels` where it might have been: above 0 where chance hardly makes one like it in such a map.
///
/// `mean` is the mean score of its `area` pixels, `ln(1 + odds)`.
pub fn of_region(mean: f64, area: usize, pixels: usize) -> f64 {
    let own = (log_odds(mean) - LENT).max(0.0);
    (area as f64 * own - (pixels.max(1) as f64).ln()) / LN_10
}

/// The same of a map in which nothing is flagged, from its highest score; never above 0.
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
