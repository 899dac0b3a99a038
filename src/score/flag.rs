//! Flags the pixels of a score map that are anomalous: above the threshold, in an area with a certain pixel, and not
//! the blur of a neighbour.

use ndarray::{Array2, ArrayView2, s};

use super::regions::regions;
use super::threshold::{certain, threshold};
use crate::config::Rule;
use crate::cube::neighbourhood;

/// The root of a distance is proportional to the share of anomalous pixels in a spatial mean: a third or less just
/// outside an anomaly, more than half just inside. A smaller share of the strongest neighbour is blur.
const BLUR_SHARE: f32 = 0.35;

/// `ln(1 + odds)` of a probability of 95 %, which at least one pixel of a flagged area must exceed.
const SURE: f32 = 2.995_732_3;

/// What the values of a score mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Larger is less like the model; what is too large depends on the map.
    Distance,
    /// `ln(1 + odds)` that a pixel is anomalous, given its neighbours.
    Odds,
}

/// The flags of one map.
pub struct Flags {
    /// Pixels at or below it are never flagged.
    pub threshold: f32,
    /// `[y, x]`.
    pub flagged: Array2<bool>,
}

/// Flags `scores` `[y, x]` (NaN: ignored) by `rule`; `spatial_mean` is the side of the spatial mean taken before
/// scoring.
///
/// Most rules flag all pixels above their threshold. `auto` keeps only areas with at least one certain pixel. Of odds
/// it flags what is more likely anomalous than not, and a certain pixel has a probability above 95 %. Of distances a
/// certain pixel is one that chance does not explain anywhere in the map, and the blur around stronger pixels is left
/// out. Rank-local, on the whole map.
pub fn flag(rule: Rule, meaning: Meaning, scores: ArrayView2<f32>, spatial_mean: usize) -> Flags {
    if rule == Rule::Auto && meaning == Meaning::Odds {
        let threshold = std::f32::consts::LN_2;
        let mut flagged = scores.mapv(|score| score > threshold);
        keep_areas(scores, &mut flagged, SURE);
        return Flags { threshold, flagged };
    }
    let all: Vec<f32> = scores.iter().copied().collect();
    let limit = threshold(rule, &all);
    let mut flagged = scores.mapv(|score| score > limit);
    if rule == Rule::Auto {
        keep_areas(scores, &mut flagged, certain(all.into_iter()));
        let above = flagged.clone();
        for ((y, x), flag) in flagged.indexed_iter_mut() {
            let near = strongest_near(scores, above.view(), [y, x], spatial_mean - 1);
            *flag = *flag && scores[[y, x]].sqrt() >= BLUR_SHARE * near.sqrt();
        }
    }
    Flags { threshold: limit, flagged }
}

/// Keeps the connected areas that hold a score above `seed`.
fn keep_areas(scores: ArrayView2<f32>, flagged: &mut Array2<bool>, seed: f32) {
    let (areas, labels) = regions(scores, flagged.view());
    for (flag, &label) in flagged.iter_mut().zip(&labels) {
        *flag = *flag && areas[label as usize - 1].max_score > seed;
    }
}

/// The highest flagged score within `reach` pixels.
fn strongest_near(scores: ArrayView2<f32>, flagged: ArrayView2<bool>, [y, x]: [usize; 2], reach: usize) -> f32 {
    let (height, width) = scores.dim();
    let part = s![neighbourhood(y, reach, height), neighbourhood(x, reach, width)];
    let near = scores.slice(part);
    let flags = flagged.slice(part);
    let pairs = near.iter().zip(flags).filter(|&(_, &flag)| flag);
    pairs.map(|(&score, _)| score).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square anomaly of amplitude `height`, blurred by the 3 x 3 mean, over a ripple of normal pixels.
    fn map(height: f32) -> (Array2<f32>, Array2<bool>) {
        let truth = Array2::from_shape_fn((40, 40), |(y, x)| (10..15).contains(&y) && (20..25).contains(&x));
        let scores = Array2::from_shape_fn((40, 40), |(y, x)| {
            let near = truth.slice(s![y.max(1) - 1..(y + 2).min(40), x.max(1) - 1..(x + 2).min(40)]);
            let share = near.iter().filter(|&&t| t).count() as f32 / 9.0;
            let ripple = ((y * 40 + x) as f32 * 0.7).sin().abs() + 0.5;
            (height * share).powi(2) + ripple.powi(2)
        });
        (scores, truth)
    }

    #[test]
    fn the_blur_around_a_strong_anomaly_is_not_flagged() {
        let (scores, truth) = map(30.0);
        let flags = flag(Rule::Auto, Meaning::Distance, scores.view(), 3);
        // The corners of a square keep 4/9 of it, above the share.
        assert_eq!(flags.flagged, truth);
        let plain = scores.mapv(|score| score > flags.threshold);
        assert!(plain != truth);
    }

    #[test]
    fn without_a_mean_nothing_is_blur() {
        let (scores, _) = map(30.0);
        let flags = flag(Rule::Auto, Meaning::Distance, scores.view(), 1);
        assert_eq!(flags.flagged, scores.mapv(|score| score > flags.threshold));
    }

    #[test]
    fn an_ignored_pixel_is_never_flagged() {
        let (mut scores, _) = map(30.0);
        scores[[12, 22]] = f32::NAN;
        assert!(!flag(Rule::Auto, Meaning::Distance, scores.view(), 3).flagged[[12, 22]]);
        let none = Array2::from_elem((3, 3), f32::NAN);
        assert!(!flag(Rule::Otsu, Meaning::Distance, none.view(), 3).flagged.iter().any(|&f| f));
    }
}
