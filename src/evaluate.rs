//! Metrics of how well scores separate anomalous from normal pixels, where the truth is known.
//!
//! Knows nothing of where scores come from. The order of equal scores does not matter: ties are one step.

use serde::{Deserialize, Serialize};

/// Metrics that need no threshold, and the best F1 of any threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    pub auroc: f64,
    pub average_precision: f64,
    pub best_f1: f64,
    /// Scores above this give `best_f1`.
    pub best_threshold: f32,
}

/// How far apart the scores of normal and of anomalous pixels lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Separation {
    /// Ashman's D: distance of the means in units of the rms spread; above 2 the two are clearly separated.
    pub ashman_d: f64,
    /// Sum of the shares of both classes on the wrong side of the best threshold: 0 if separated, 1 if alike.
    pub overlap: f64,
}

/// Metrics of one threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    pub f1: f64,
    pub precision: f64,
    pub recall: f64,
}

/// Ranks pixels by score against the truth (above 0: anomalous).
///
/// NaN scores are not counted. `None` without both a positive and a negative among the rest.
///
/// # Source
/// AUROC: Mann-Whitney U with ties at a half; average precision: sum of (R_n - R_{n-1}) P_n over distinct
/// scores, as scikit-learn's `average_precision_score`.
///
/// # Panics
/// If the lengths differ.
pub fn ranking(scores: &[f32], truth: &[i32]) -> Option<Ranking> {
    let mut pixels = counted(scores, truth);
    pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = pixels.iter().filter(|p| p.1).count() as f64;
    let negatives = pixels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut true_positives, mut false_positives) = (0.0, 0.0);
    let (mut area, mut average_precision) = (0.0, 0.0);
    let (mut best_f1, mut best_threshold) = (0.0, f32::INFINITY);
    let mut start = 0;
    while start < pixels.len() {
        let score = pixels[start].0;
        let ties = pixels[start..].iter().take_while(|p| p.0 == score).count();
        let hits = pixels[start..start + ties].iter().filter(|p| p.1).count() as f64;
        let misses = ties as f64 - hits;
        area += misses * (true_positives + 0.5 * hits);
        true_positives += hits;
        false_positives += misses;
        average_precision += hits / positives * (true_positives / (true_positives + false_positives));
        let f1 = 2.0 * true_positives / (true_positives + false_positives + positives);
        start += ties;
        if f1 > best_f1 {
            best_f1 = f1;
            // Half way to the next lower score, so that rounding moves neither across it.
            best_threshold = pixels.get(start).map_or(score.next_down(), |next| {
                let middle = next.0 + 0.5 * (score - next.0);
                if middle < score { middle } else { next.0 }
            });
        }
    }
    Some(Ranking { auroc: area / (positives * negatives), average_precision, best_f1, best_threshold })
}

/// How far the scores of anomalous pixels (truth above 0) lie from those of normal ones.
///
/// NaN scores are not counted. `None` without both a positive and a negative among the rest. D is infinite where
/// neither class has any spread.
///
/// # Source
/// Ashman, Bird & Zepf, Astron. J. 108 (1994) 2348; the overlap is 1 minus the Kolmogorov-Smirnov distance.
///
/// # Panics
/// If the lengths differ.
pub fn separation(scores: &[f32], truth: &[i32]) -> Option<Separation> {
    let mut pixels = counted(scores, truth);
    pixels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let moments = |class: bool| {
        let values = pixels.iter().filter(|p| p.1 == class);
        let values: Vec<f64> = values.map(|p| f64::from(p.0)).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        (count, mean, square)
    };
    let [(normal, below, spread), (anomalous, above, other)] = [false, true].map(moments);
    if normal == 0.0 || anomalous == 0.0 {
        return None;
    }
    let (mut shares, mut distance) = ([0.0; 2], 0f64);
    for ties in pixels.chunk_by(|a, b| a.0 == b.0) {
        for pixel in ties {
            shares[usize::from(pixel.1)] += 1.0 / if pixel.1 { anomalous } else { normal };
        }
        distance = distance.max(shares[0] - shares[1]);
    }
    Some(Separation {
        ashman_d: 2f64.sqrt() * (above - below).abs() / (spread + other).sqrt(),
        overlap: 1.0 - distance,
    })
}

/// F1, precision and recall of the flagged pixels against the truth (above 0: anomalous).
///
/// Pixels with NaN scores are not counted. `None` without both a positive and a negative among the rest. Precision is 0
/// when nothing is flagged.
///
/// # Panics
/// If the lengths differ.
pub fn detection(scores: &[f32], truth: &[i32], flagged: &[bool]) -> Option<Detection> {
    assert_eq!(scores.len(), flagged.len(), "one flag for each score");
    let marked: Vec<f32> = scores
        .iter()
        .zip(flagged)
        .map(|(score, &flag)| if score.is_nan() { f32::NAN } else { f32::from(u8::from(flag)) })
        .collect();
    let pixels = counted(&marked, truth);
    let positives = pixels.iter().filter(|p| p.1).count() as f64;
    if positives == 0.0 || positives == pixels.len() as f64 {
        return None;
    }
    let flagged = pixels.iter().filter(|p| p.0 > 0.0).count() as f64;
    let hits = pixels.iter().filter(|p| p.0 > 0.0 && p.1).count() as f64;
    Some(Detection {
        f1: 2.0 * hits / (flagged + positives),
        precision: if flagged > 0.0 { hits / flagged } else { 0.0 },
        recall: hits / positives,
    })
}

/// The pixels with a score, and whether they are anomalous.
fn counted(scores: &[f32], truth: &[i32]) -> Vec<(f32, bool)> {
    assert_eq!(scores.len(), truth.len(), "scores and truth cover the same pixels");
    scores.iter().zip(truth).filter(|(s, _)| !s.is_nan()).map(|(&s, &t)| (s, t > 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_order_is_perfect() {
        let r = ranking(&[0.1, 0.2, 3.0, 4.0], &[0, 0, 2, 1]).unwrap();
        assert_eq!((r.auroc, r.average_precision, r.best_f1), (1.0, 1.0, 1.0));
        assert!(r.best_threshold >= 0.2 && r.best_threshold < 3.0);
        let d = detection(&[0.1, 0.2, 3.0, 4.0], &[0, 0, 2, 1], &[false, false, true, true]).unwrap();
        assert_eq!((d.f1, d.precision, d.recall), (1.0, 1.0, 1.0));
    }

    /// Worked by hand; scikit-learn gives the same figures.
    #[test]
    fn ties_match_scikit_learn() {
        let scores = [0.9, 0.8, 0.8, 0.5, 0.5, 0.5, 0.1];
        let truth = [1, 0, 1, 0, 1, 0, 0];
        let r = ranking(&scores, &truth).unwrap();
        assert!((r.auroc - 9.5 / 12.0).abs() < 1e-12, "{}", r.auroc);
        let expected = (1.0 + 2.0 / 3.0 + 0.5) / 3.0;
        assert!((r.average_precision - expected).abs() < 1e-12);
        assert!((r.best_f1 - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn separation_by_hand() {
        let apart = separation(&[0.0, 2.0, 9.0, 11.0, f32::NAN], &[0, 0, 1, 2, 1]).unwrap();
        assert!((apart.ashman_d - 9.0).abs() < 1e-12 && apart.overlap.abs() < 1e-12);
        let mixed = separation(&[1.0, 2.0, 3.0, 4.0], &[0, 1, 0, 1]).unwrap();
        assert_eq!(mixed.overlap, 0.5);
        assert_eq!(separation(&[1.0; 4], &[0, 1, 0, 1]).unwrap().overlap, 1.0);
        assert!(separation(&[1.0], &[1]).is_none());
    }

    #[test]
    fn all_tied_is_chance() {
        let r = ranking(&[1.0; 4], &[0, 1, 0, 0]).unwrap();
        assert_eq!((r.auroc, r.average_precision), (0.5, 0.25));
    }

    #[test]
    fn nan_pixels_and_single_classes_do_not_count() {
        assert!(ranking(&[f32::NAN, 1.0], &[1, 0]).is_none());
        assert!(ranking(&[], &[]).is_none());
        assert!(detection(&[1.0, 2.0], &[1, 1], &[true, true]).is_none());
        let d = detection(&[f32::NAN, 1.0, 0.0], &[1, 1, 0], &[false; 3]).unwrap();
        assert_eq!((d.f1, d.precision, d.recall), (0.0, 0.0, 0.0));
    }
}
