//! Verdicts: what people say of regions that were found. The report saves them, and they can be written by hand.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::parse::in_words;
use crate::invalid::Invalid;

/// What was said of one region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The id of its cube.
    pub cube: String,
    /// The fingerprint of the cube, as the report's provenance tells it. Without one the verdict is of any file of that id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Its number in the cube's table of regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<i32>,
    /// The first and last of its lines, and of its columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<[usize; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<[usize; 2]>,
    /// How it differs: the window that shows it, and `energy`, `shape` or `height`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<VerdictKind>,
    /// Its residual spectrum, by which others are recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual: Option<ResidualSpectrum>,
    pub verdict: Judgement,
    /// What an artefact clings to.
    #[serde(default, skip_serializing_if = "is_detector")]
    pub at: Place,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The day, as 2026-03-31.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub date: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictKind {
    pub window: String,
    pub differs: String,
}

/// Measured less expected electrons of a region, summed over bins of channels, in units of the counting noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualSpectrum {
    /// The middle of the first bin and the width of a bin, eV.
    pub first_ev: f64,
    pub step_ev: f64,
    /// The same in channels of the detector.
    pub first_channel: f64,
    pub step_channels: f64,
    pub values: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// Left out of the next training.
    Real,
    /// Set apart wherever it is recognised.
    Artefact,
    /// As an artefact: nothing new.
    Known,
    Unsure,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Judgement::Real => "real",
            Judgement::Artefact => "artefact",
            Judgement::Known => "known",
            Judgement::Unsure => "unsure",
        })
    }
}

/// What an artefact clings to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Channels of the detector, anywhere in the scan.
    #[default]
    Detector,
    /// Pixels of the scan.
    Scan,
}

fn is_detector(place: &Place) -> bool {
    *place == Place::Detector
}

/// A file of verdicts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictFile {
    pub verdicts: Vec<Verdict>,
}

impl VerdictFile {
    /// Reads `text`, of the file `name`.
    ///
    /// # Errors
    /// [`Invalid`]: a key that is unknown or missing, a value that is none; it names the file and the line.
    pub fn parse(name: &str, text: &str) -> Result<VerdictFile> {
        let read: serde_yaml::Result<VerdictFile> = serde_yaml::from_str(text.trim_start_matches('\u{feff}'));
        let file = read.map_err(|error| Invalid(format!("{name}: {}", in_words(&error))))?;
        for (i, verdict) in file.verdicts.iter().enumerate() {
            verdict.validate().map_err(|problem| Invalid(format!("{name}: verdict {}: {problem}", i + 1)))?;
        }
        Ok(file)
    }

    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("verdicts have plain types")
    }
}

impl Verdict {
    fn validate(&self) -> Result<(), String> {
        let ordered = |range: &Option<[usize; 2]>| range.is_none_or(|[first, last]| first <= last);
        if self.cube.is_empty() {
            return Err("cube: the id of a cube".into());
        }
        if !ordered(&self.rows) || !ordered(&self.columns) || self.rows.is_some() != self.columns.is_some() {
            return Err("rows and columns: [first, last] of both".into());
        }
        if self.region.is_none() && self.rows.is_none() && self.residual.is_none() {
            return Err("region, rows and columns, or residual: one tells what it is of".into());
        }
        let is_valid = |residual: &ResidualSpectrum| {
            let numbers =
                [residual.first_ev, residual.first_channel].into_iter().chain(residual.values.iter().copied());
            residual.step_ev > 0.0 && residual.step_channels > 0.0 && numbers.into_iter().all(f64::is_finite)
        };
        if !self.residual.as_ref().is_none_or(is_valid) {
            return Err("residual: finite numbers, and bins with a width".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_one_by_hand_is_enough_and_a_page_writes_json() {
        let file = "verdicts:\n- {cube: a/b, region: 2, verdict: real}\n- {cube: c, rows: [0, 0], columns: [0, 63], verdict: \
                    artefact, at: scan, note: 'flyback: first line'}\n";
        let read = VerdictFile::parse("v.yaml", file).unwrap();
        assert_eq!((read.verdicts[0].region, read.verdicts[0].verdict), (Some(2), Judgement::Real));
        assert_eq!(read.verdicts[1].at, Place::Scan);
        assert_eq!(VerdictFile::parse("again", &read.to_yaml()).unwrap(), read);
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(VerdictFile::parse("json", &json).unwrap(), read);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("verdicts: [{cube: a, region: 1, verdict: fake}]", "fake"),
            ("verdicts: [{cube: a, verdict: real}]", "verdict 1: region"),
            ("verdicts: [{cube: a, region: 1, verdict: real, colour: red}]", "colour"),
            ("verdicts: [{cube: a, rows: [3, 1], columns: [0, 1], verdict: real}]", "rows and columns"),
        ] {
            let message = format!("{:#}", VerdictFile::parse("v.yaml", text).unwrap_err());
            assert!(message.contains("v.yaml") && message.contains(expected), "{message}");
        }
    }
}
