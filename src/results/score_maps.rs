//! The scores of a method by name: what each means, what it flags, and how well it finds the truth.

use ndarray::Array2;

use super::scored_cube::Method;
use super::summary::ScoreSummary;
use crate::config::{Config, Rule};
use crate::evaluate::{detection, ranking, separation};
use crate::score::{Flags, Meaning, flag};

/// What the values of the maps of `score` mean.
pub fn meaning_of(score: &str) -> Meaning {
    match score {
        "combined" | "shift" | "composition" => Meaning::Odds,
        _ => Meaning::Distance,
    }
}

/// The scores of a method by name, and what they mean.
pub fn score_maps(method: &Method) -> Vec<(&'static str, Meaning, &[f32])> {
    let scores = &method.scores;
    let mut maps: Vec<(&'static str, &[f32])> =
        vec![("combined", &scores.combined), ("shift", &scores.shift), ("composition", &scores.composition)];
    if let Some(pcc) = &scores.pcc {
        maps.push(("pcc", pcc));
    }
    if let Some(rx) = &method.rx {
        maps.push(("rx", &rx.global));
        maps.push(("rx_local", &rx.local));
    }
    maps.into_iter().map(|(score, map)| (score, meaning_of(score), map)).collect()
}

/// Flags the pixels of a whole map `[y, x]` of `score`, by the rule that the configuration has for it. Rank-local.
pub fn flag_map(config: &Config, score: &str, meaning: Meaning, map: &Array2<f32>) -> Flags {
    let rule: Rule = match config.score.pcc_threshold {
        Some(rule) if score == "pcc" => rule,
        _ => config.score.threshold,
    };
    flag(rule, meaning, map.view(), config.preprocess.spatial_mean)
}

/// The figures of a whole map `[y, x]`, against the truth in C order where there is one. Rank-local.
pub fn summarise_score(map: &Array2<f32>, flags: &Flags, truth: Option<&[i32]>) -> ScoreSummary {
    let values: Vec<f32> = map.iter().copied().collect();
    let flagged: Vec<bool> = flags.flagged.iter().copied().collect();
    let ranked = truth.and_then(|truth| ranking(&values, truth));
    let parted = truth.and_then(|truth| separation(&values, truth));
    let detected = truth.and_then(|truth| detection(&values, truth, &flagged));
    ScoreSummary {
        threshold: flags.threshold.is_finite().then_some(flags.threshold),
        flagged: flagged.iter().filter(|&&flag| flag).count(),
        auroc: ranked.as_ref().map(|found| found.auroc),
        average_precision: ranked.as_ref().map(|found| found.average_precision),
        best_f1: ranked.as_ref().map(|found| found.best_f1),
        f1: detected.map(|found| found.f1),
        precision: detected.map(|found| found.precision),
        recall: detected.map(|found| found.recall),
        // JSON has no infinity.
        ashman_d: parted.map(|found| found.ashman_d).filter(|d| d.is_finite()),
        overlap: parted.map(|found| found.overlap),
    }
}
