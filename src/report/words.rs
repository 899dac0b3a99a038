//! What was found, in plain words: how a region differs, how sure it is, how likely a score is.

use super::text::{digits, number};
use crate::results::{Difference, RegionSummary};

/// An amount is told from this many of its own errors on.
const CLEAR: f64 = 2.0;

/// How a region differs from what is expected there: `O K edge 31 ± 2 % lower`.
pub fn difference(region: &RegionSummary) -> String {
    let Some(kind) = &region.kind else {
        return "differs in no single edge".into();
    };
    let edge = edge(&kind.window);
    let shift = region.estimated_shift_ev.zip(region.shift_error_ev);
    let change = region.change.filter(|change| change.percent.abs() > CLEAR * change.error_percent);
    match (kind.differs, shift, change) {
        (Difference::Energy, Some((shift, error)), _) => {
            let sign = if shift < 0.0 { "−" } else { "+" };
            format!("{edge} shifted by {sign}{} eV", with_error(shift.abs(), error))
        }
        (Difference::Energy, ..) => format!("{edge} shifted"),
        (Difference::Height, _, Some(change)) => {
            let amount = with_error(change.percent.abs(), change.error_percent);
            format!("{edge} {amount} % {}", if change.percent < 0.0 { "lower" } else { "higher" })
        }
        (Difference::Height, ..) => format!("{edge} of another height"),
        (Difference::Shape, ..) => format!("{edge} of another shape"),
    }
}

/// How regions of a kind differ, without amounts: `O K edge lower`.
pub fn kind_words(region: &RegionSummary) -> String {
    let Some(kind) = &region.kind else {
        return "differs in no single edge".into();
    };
    let how = match (kind.differs, region.change, region.estimated_shift_ev) {
        (Difference::Energy, _, Some(shift)) => {
            if shift < 0.0 {
                "shifted down"
            } else {
                "shifted up"
            }
        }
        (Difference::Energy, ..) => "shifted",
        (Difference::Height, Some(change), _) => {
            if change.percent < 0.0 {
                "lower"
            } else {
                "higher"
            }
        }
        (Difference::Height, ..) => "of another height",
        (Difference::Shape, ..) => "of another shape",
    };
    format!("{} {how}", edge(&kind.window))
}

/// The edge that a window is named after.
pub fn edge(window: &str) -> String {
    let found = window.strip_prefix("edge_").and_then(|rest| rest.strip_suffix("eV"));
    match (found, window) {
        (Some(onset), _) => format!("edge at {onset} eV"),
        (None, "all") => "spectrum".into(),
        _ => format!("{window} edge"),
    }
}

/// `value ± error`, both to the last place that the error leaves.
pub fn with_error(value: f64, error: f64) -> String {
    if !value.is_finite() || !error.is_finite() || error <= 0.0 {
        return number(value);
    }
    // One digit of the error, two where it begins with 1.
    let power = error.log10().floor();
    let places = if error / 10f64.powf(power) < 1.95 { 1.0 - power } else { -power };
    let places = places.clamp(0.0, 6.0) as usize;
    format!("{value:.places$} ± {error:.places$}")
}

/// How often chance makes such a region, from its surprise (decades).
pub fn by_chance(surprise: Option<f64>) -> String {
    match surprise {
        None => "unknown: scored by an older version".into(),
        Some(s) if s >= 6.0 => "less than once in a million maps".into(),
        Some(s) if s >= 1.0 => format!("once in about {} maps", figure(10f64.powf(s))),
        Some(s) if s >= 0.3 => "once in a few maps".into(),
        Some(_) => "may well be chance".into(),
    }
}

/// `value`, at least 1, to one digit; a large one as a power of ten.
fn figure(value: f64) -> String {
    let power = 10f64.powf(value.log10().floor());
    let text = digits((value / power).round() * power, 1);
    text.strip_prefix("1×").map_or(text.clone(), str::to_owned)
}

/// The probability that a score `ln(1 + odds)` stands for, as `50 %`.
pub fn probability(score: f64) -> String {
    let normal = (-score).exp();
    if normal.is_nan() || normal == 0.0 {
        return if normal == 0.0 { "100 %".into() } else { number(score) };
    }
    if normal >= 0.1 {
        return format!("{} %", digits(100.0 * (1.0 - normal), 2));
    }
    // Nines alone tell sure pixels apart.
    let places = (-normal.log10() - 1.5).clamp(0.0, 6.0) as usize;
    format!("{:.places$} %", (100.0 * (1.0 - normal)).min(100.0 - 0.1f64.powi(places as i32)))
}

/// The odds that a score `ln(1 + odds)` stands for: `1 : 20`, `even`, `1000 : 1`; none from 0 on down.
pub fn odds(score: f64) -> String {
    let odds = score.exp_m1();
    match odds {
        odds if odds.is_nan() => "n/a".into(),
        odds if odds < 1e-4 => "no sign".into(),
        odds if odds < 0.75 => format!("1 : {}", figure(1.0 / odds)),
        odds if odds < 1.35 => "even".into(),
        odds => format!("{} : 1", figure(odds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{EdgeChange, KindSummary};

    fn region(differs: Difference) -> RegionSummary {
        RegionSummary {
            kind: Some(KindSummary { window: "O K".into(), differs, sigma: 5.0 }),
            change: Some(EdgeChange { percent: -31.2, error_percent: 2.4 }),
            estimated_shift_ev: Some(-2.41),
            shift_error_ev: Some(0.013),
            ..RegionSummary::default()
        }
    }

    #[test]
    fn kinds_are_named_with_their_amounts() {
        assert_eq!(difference(&region(Difference::Height)), "O K edge 31 ± 2 % lower");
        assert_eq!(difference(&region(Difference::Energy)), "O K edge shifted by −2.410 ± 0.013 eV");
        assert_eq!(difference(&region(Difference::Shape)), "O K edge of another shape");
        // An amount within its error is none.
        let mut unclear = region(Difference::Height);
        unclear.change = Some(EdgeChange { percent: 3.0, error_percent: 2.4 });
        assert_eq!(difference(&unclear), "O K edge of another height");
        assert_eq!(kind_words(&unclear), "O K edge higher");
        assert_eq!(kind_words(&region(Difference::Energy)), "O K edge shifted down");
        unclear.kind = None;
        assert_eq!(difference(&unclear), "differs in no single edge");
        assert_eq!([edge("edge_532eV"), edge("all")], ["edge at 532 eV", "spectrum"]);
    }

    #[test]
    fn scores_are_told_as_odds_and_probabilities() {
        let even = std::f64::consts::LN_2;
        assert_eq!([probability(even), probability(4.0), probability(19.0)], ["50 %", "98 %", "99.999999 %"]);
        assert_eq!([odds(0.0), odds(0.05), odds(even), odds(7.0)], ["no sign", "1 : 20", "even", "1000 : 1"]);
        assert_eq!([odds(f64::NAN), probability(f64::NAN), with_error(f64::NAN, 1.0)], ["n/a", "n/a", "n/a"]);
        assert_eq!(probability(f64::INFINITY), "100 %");
        assert_eq!([odds(13.65), odds(48.35)], ["800000 : 1", "10²¹ : 1"]);
        assert_eq!(by_chance(Some(40.0)), "less than once in a million maps");
        assert_eq!([by_chance(Some(3.6)), by_chance(Some(-2.0))], ["once in about 4000 maps", "may well be chance"]);
        assert_eq!([with_error(31.2, 2.4), with_error(0.5, 0.0)], ["31 ± 2", "0.5"]);
    }
}
