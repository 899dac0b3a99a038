//! `score`: where spectra are scored, and what is flagged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::{Problems, increasing};
use super::values::auto_word;

/// Where and how spectra are scored, and what is flagged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Score {
    /// `auto`: around the edges that are found in the mean spectrum; else a list of `{name, range_ev, background_ev}`, eV.
    pub windows: Windows,
    pub threshold: Rule,
    /// The rule for `pcc`, if it is to be a different one.
    pub pcc_threshold: Option<Rule>,
}

impl Score {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let Windows::List(windows) = &self.windows else { return };
        for Window { name, range_ev, background_ev } in windows {
            problems.require(
                increasing(*range_ev) && increasing(*background_ev),
                format!("score.windows: {name}: ranges are [low, high] in eV with low < high"),
            );
            problems.require(
                background_ev[1] <= range_ev[1] && background_ev[0] < range_ev[0],
                format!("score.windows: {name}: background_ev lies before the edge"),
            );
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`auto` or a list of {name, range_ev, background_ev}")]
pub enum Windows {
    List(Vec<Window>),
    #[default]
    #[serde(with = "auto_word")]
    #[schemars(with = "String")]
    Auto,
}

/// A range of energies that scores look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its name in results.
    pub name: String,
    /// The edge, eV.
    pub range_ev: [f64; 2],
    /// Where the power law before the edge is fitted, eV.
    pub background_ev: [f64; 2],
}

/// How a threshold is found from the scores alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// `otsu` where the scores fall into two groups, else `pot`.
    #[default]
    Auto,
    /// Otsu's threshold on the square root of the score: for 1 to 5 % of anomalies.
    Otsu,
    /// Peaks over threshold: an exponential tail above the 95th percentile, false-positive rate 1e-3: for .3 to 2 %.
    Pot,
    /// 3.5 robust standard deviations (median absolute deviation) above the median of the square roots.
    Mad,
    /// Benjamini and Hochberg's, for 5 % false ones among the flagged pixels, by the tail of the normal ones: for below
    /// .3 %.
    Bh,
    /// The paper's: Otsu's threshold with a preference for high values.
    Biased,
}
