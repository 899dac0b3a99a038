//! The score above which a pixel is flagged, from a map of scores.

use crate::config::Rule;
use crate::spectrum::{MAD_OF_SD, Middle, median, quantile};

/// False-positive rate of the rule `pot`, and the quantile at which its exponential tail begins.
const POT_RATE: f64 = 1e-3;
const POT_START: f64 = 0.95;
/// Robust standard deviations of the rule `mad`.
const MAD_SIGMAS: f64 = 3.5;
/// False discovery rate of `auto` and `bh`.
const FALSE_DISCOVERY_RATE: f64 = 0.05;
/// The tail of normal pixels is fitted between these quantiles, below any anomalies.
const NULL_TAIL: [f64; 2] = [0.70, 0.90];
/// Normal pixels of a map that pass for certainly anomalous, on average.
const FALSE_SEEDS: f64 = 0.1;
/// A larger share of flagged pixels is another phase, not anomalies.
const MAX_FLAGGED: f64 = 0.25;
/// Exponent of the biased rule's preference for high thresholds.
const BIAS: f64 = 0.95;
/// Two groups are distinct if Ashman's D is at least the first, and the share of pixels half way between at most the
/// second.
const MIN_SEPARATION: f64 = 3.0;
const MAX_BETWEEN: f64 = 0.15;

/// The threshold that `rule` gives for `scores` (at least 0, NaN left out): pixels above it are flagged.
///
/// Infinite without scores. Rank-local; the order of the scores does not matter.
pub fn threshold(rule: Rule, scores: &[f32]) -> f32 {
    let sorted = ascending(scores.iter().copied());
    if sorted.is_empty() {
        return f32::INFINITY;
    }
    match rule {
        Rule::Otsu => otsu(&sorted).threshold,
        Rule::Biased => biased_otsu(&sorted),
        Rule::Pot => peaks_over_threshold(&sorted),
        Rule::Mad => median_deviations(&sorted),
        Rule::Bh => NullTail::fit(&sorted).false_discovery_threshold(&sorted),
        Rule::Auto => {
            let split = otsu(&sorted);
            let tail = NullTail::fit(&sorted);
            let normal = tail.probability(split.threshold) < POT_RATE;
            if split.has_two_groups() && normal { split.threshold } else { tail.false_discovery_threshold(&sorted) }
        }
    }
}

/// The score that a normal map exceeds in 0.1 pixels on average: pixels above it are certainly anomalous.
///
/// Infinite without scores. Rank-local.
pub fn certain(scores: impl Iterator<Item = f32>) -> f32 {
    let sorted = ascending(scores);
    if sorted.is_empty() {
        return f32::INFINITY;
    }
    NullTail::fit(&sorted).exceeded_with(FALSE_SEEDS / sorted.len() as f64)
}

/// The scores without NaN, ascending.
fn ascending(scores: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut sorted: Vec<f32> = scores.filter(|s| !s.is_nan()).collect();
    sorted.sort_by(f32::total_cmp);
    sorted
}

/// The best split of the roots of the scores into two groups.
struct Split {
    threshold: f32,
    /// Share of the pixels above the threshold.
    flagged: f64,
    /// Ashman's D of the groups.
    separation: f64,
    /// Pixels in the middle third between the groups' means, as a share of the smaller group.
    between: f64,
}

impl Split {
    fn has_two_groups(&self) -> bool {
        self.flagged > 0.0
            && self.flagged <= MAX_FLAGGED
            && self.separation >= MIN_SEPARATION
            && self.between <= MAX_BETWEEN
    }
}

/// The split of ascending scores that maximises the variance between groups of their roots.
///
/// # Source
/// Otsu, IEEE Trans. SMC 9 (1979) 62, on the values themselves rather than a histogram; Ashman et al., AJ 108
/// (1994) 2348, for D.
fn otsu(sorted: &[f32]) -> Split {
    let roots: Vec<f64> = sorted.iter().map(|&s| f64::from(s).max(0.0).sqrt()).collect();
    let total: f64 = roots.iter().sum();
    let num = roots.len();
    let mut sum = 0.0;
    let mut best = (0.0, num);
    for i in 1..num {
        sum += roots[i - 1];
        if roots[i] == roots[i - 1] {
            continue;
        }
        let (low, high) = (i as f64, (num - i) as f64);
        let variance = low * high * (sum / low - (total - sum) / high).powi(2);
        if variance > best.0 {
            best = (variance, i);
        }
    }
    let (low, high) = roots.split_at(best.1);
    if high.is_empty() {
        return Split { threshold: sorted[num - 1], flagged: 0.0, separation: 0.0, between: 1.0 };
    }
    let ((mean_low, sd_low), (mean_high, sd_high)) = (mean_sd(low), mean_sd(high));
    let distance = mean_high - mean_low;
    let middle = mean_low + distance / 3.0..mean_high - distance / 3.0;
    let between = roots.iter().filter(|r| middle.contains(r)).count() as f64;
    let root = 0.5 * (low[low.len() - 1] + high[0]);
    Split {
        // Between the groups, and still below the upper one after rounding.
        threshold: ((root * root) as f32).clamp(sorted[best.1 - 1], sorted[best.1].next_down()),
        flagged: high.len() as f64 / num as f64,
        separation: distance / (0.5 * (sd_low.powi(2) + sd_high.powi(2))).sqrt(),
        between: between / low.len().min(high.len()) as f64,
    }
}

/// The split of ascending scores that maximises the variance between groups, times a power of its height within the
/// range of the scores.
///
/// # Source
/// Sultanov et al., Small 2025, 21(33), 2503019: the exponent .95 and the range are those of their published code.
fn biased_otsu(sorted: &[f32]) -> f32 {
    let scores = || sorted.iter().map(|&score| f64::from(score));
    let (first, last) = (f64::from(sorted[0]), f64::from(sorted[sorted.len() - 1]));
    let (total, num): (f64, f64) = (scores().sum(), sorted.len() as f64);
    let (mut sum, mut best) = (0.0, (0.0, sorted[sorted.len() - 1]));
    for (i, score) in scores().enumerate().take(sorted.len() - 1) {
        sum += score;
        let low = (i + 1) as f64;
        let between = sum / low - (total - sum) / (num - low);
        let height = ((score - first) / (last - first)).max(0.0);
        let value = low * (num - low) * between * between * height.powf(BIAS);
        if value > best.0 {
            best = (value, sorted[i]);
        }
    }
    best.1
}

fn mean_sd(values: &[f64]) -> (f64, f64) {
    let num = values.len() as f64;
    let mean = values.iter().sum::<f64>() / num;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / num;
    (mean, variance.sqrt())
}

/// The score that 1 in 1000 exceed if the tail above the 95th percentile is exponential.
///
/// # Source
/// Coles, An Introduction to Statistical Modeling of Extreme Values, sec. 4.3, shape 0.
fn peaks_over_threshold(sorted: &[f32]) -> f32 {
    let start = quantile(sorted, POT_START);
    let excesses: Vec<f64> = sorted.iter().map(|&s| f64::from(s) - start).filter(|&e| e > 0.0).collect();
    // The median, unlike the mean, withstands anomalies in up to half of the tail.
    let scale = if excesses.is_empty() { 0.0 } else { median(excesses, Middle::Upper) / 2f64.ln() };
    (start + scale * ((1.0 - POT_START) / POT_RATE).ln()) as f32
}

/// The score whose root lies [`MAD_SIGMAS`] robust standard deviations above the median root.
///
/// # Source
/// Iglewicz & Hoaglin, How to Detect and Handle Outliers (1993): the modified z-score and its limit.
fn median_deviations(sorted: &[f32]) -> f32 {
    let root = |score: f32| f64::from(score).max(0.0).sqrt();
    let middle = sorted[sorted.len() / 2];
    let center = root(middle);
    let deviations = sorted.iter().map(|&s| (root(s) - center).abs());
    let sigma = median(deviations, Middle::Upper) / MAD_OF_SD;
    if sigma > 0.0 { (center + MAD_SIGMAS * sigma).powi(2) as f32 } else { middle }
}

/// The exponential tail of the normal pixels, fitted below any anomalies.
struct NullTail {
    start: f64,
    probability_at_start: f64,
    scale: f64,
}

impl NullTail {
    fn fit(sorted: &[f32]) -> NullTail {
        let [lower, upper] = NULL_TAIL;
        let start = quantile(sorted, upper);
        let rise = start - quantile(sorted, lower);
        NullTail {
            start,
            probability_at_start: 1.0 - upper,
            // The true tail falls faster further up, so this errs on the safe side.
            scale: rise / ((1.0 - lower) / (1.0 - upper)).ln(),
        }
    }

    /// The probability that a normal pixel scores above `score`, for scores of at least `start`.
    fn probability(&self, score: f32) -> f64 {
        let excess = f64::from(score) - self.start;
        if excess <= 0.0 {
            return self.probability_at_start;
        }
        self.probability_at_start * (-excess / self.scale).exp()
    }

    /// The score that a normal pixel exceeds with `probability`, smaller than that at `start`.
    fn exceeded_with(&self, probability: f64) -> f32 {
        (self.start + self.scale * (self.probability_at_start / probability).ln().max(0.0)) as f32
    }

    /// The threshold at which the share of normal pixels among the flagged ones is [`FALSE_DISCOVERY_RATE`].
    ///
    /// # Source
    /// Benjamini & Hochberg, J. R. Stat. Soc. B 57 (1995) 289.
    fn false_discovery_threshold(&self, sorted: &[f32]) -> f32 {
        let num = sorted.len();
        let flagged = (1..=num).rev().find(|&k| {
            let score = sorted[num - k];
            self.probability(score) <= FALSE_DISCOVERY_RATE * k as f64 / num as f64
        });
        match flagged {
            // Just below the lowest score that is flagged.
            Some(k) => sorted[num - k].next_down(),
            None => sorted[num - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Squares of `0.8 N(0, 1) + 2` at even quantiles: the distribution of a clean cube's shift scores.
    fn clean(num: usize) -> Vec<f32> {
        let normal = |p: f64| {
            // Logistic approximation of the normal quantile; its tail is a little heavier.
            (p / (1.0 - p)).ln() / 1.702
        };
        (0..num).map(|i| (normal((i as f64 + 0.5) / num as f64) * 0.8 + 2.0).max(0.0).powi(2) as f32).collect()
    }

    fn share_above(scores: &[f32], threshold: f32) -> f64 {
        scores.iter().filter(|&&s| s > threshold).count() as f64 / scores.len() as f64
    }

    #[test]
    fn auto_flags_next_to_nothing_on_a_clean_map() {
        let scores = clean(20_000);
        assert!(share_above(&scores, threshold(Rule::Auto, &scores)) <= 1e-3);
        assert!(share_above(&scores, threshold(Rule::Otsu, &scores)) > 0.1);
        assert!(share_above(&scores, threshold(Rule::Pot, &scores)) < 6e-3);
    }

    #[test]
    fn auto_finds_a_few_and_many_anomalies() {
        for anomalous in [10, 100, 600] {
            let mut scores = clean(20_000);
            scores.extend((0..anomalous).map(|i| (9.0 + 3.0 * i as f32 / anomalous as f32).powi(2)));
            let t = threshold(Rule::Auto, &scores);
            let flagged = scores.iter().filter(|&&s| s > t).count();
            assert!(flagged >= anomalous && flagged <= anomalous + 20, "{anomalous}: {flagged}");
        }
    }

    #[test]
    fn mad_and_bh_find_a_few_and_leave_a_clean_map() {
        // The logistic tail of `clean` leaves 3.3e-3 above 3.5 sigma, a normal one 2e-4.
        for (rule, most) in [(Rule::Mad, 4e-3), (Rule::Bh, 1e-3)] {
            let mut scores = clean(20_000);
            assert!(share_above(&scores, threshold(rule, &scores)) <= most, "{rule:?}");
            scores.extend((0..20).map(|i| (9.0 + 0.1 * i as f32).powi(2)));
            let limit = threshold(rule, &scores);
            let flagged = scores.iter().filter(|&&s| s > limit).count();
            assert!((20..100).contains(&flagged), "{rule:?}: {flagged}");
        }
    }

    #[test]
    fn two_halves_are_phases_not_anomalies() {
        let mut scores = clean(1000);
        scores.extend(clean(1000).iter().map(|s| s + 400.0));
        let t = threshold(Rule::Auto, &scores);
        assert!(share_above(&scores, t) < 0.01);
    }

    #[test]
    fn degenerate_maps_flag_nothing() {
        for rule in [Rule::Auto, Rule::Otsu, Rule::Pot, Rule::Mad, Rule::Bh, Rule::Biased] {
            assert_eq!(threshold(rule, &[]), f32::INFINITY);
            assert_eq!(threshold(rule, &[f32::NAN]), f32::INFINITY);
            let flat = [3.0; 50];
            assert_eq!(share_above(&flat, threshold(rule, &flat)), 0.0, "{rule:?}");
            let zero = [0.0; 50];
            assert_eq!(share_above(&zero, threshold(rule, &zero)), 0.0, "{rule:?}");
        }
    }

    #[test]
    fn the_biased_rule_lies_between_the_groups_above_otsus() {
        let low = (0..980).map(|i| 0.05 + 0.05 * (i as f32 * 0.7).sin().abs());
        let high = (0..20).map(|i| 0.4 + 0.01 * i as f32);
        let scores: Vec<f32> = low.chain(high).collect();
        let biased = threshold(Rule::Biased, &scores);
        assert!((0.1..0.4).contains(&biased) || share_above(&scores, biased) > 0.01);
        assert!((0.01..=0.02).contains(&share_above(&scores, biased)));
    }
}
