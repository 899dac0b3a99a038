//! A sweep file and its expansion into points, without a look at any other file.
//!
//! A point is known by a hash of what its results depend on. Values at their default do not count, so that a key added
//! to the grid, or to the program, keeps the earlier points.

use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};

use super::point::{Point, configured, label, text, values_of};
use crate::config::OneOrMany;
use crate::config::parse::in_words;
use crate::config::tree::{lay, set};
use crate::invalid::Invalid;

/// A sweep as it is written down.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    /// Folder of all points, what they share and what is collected.
    output: PathBuf,
    /// Folder of the simulated cubes and trainings, which sweeps may share; `output` by default.
    #[serde(default)]
    store: Option<PathBuf>,
    /// What the points have in common: a configuration, or the path of one.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    base: Value,
    /// Keys with a value for all points, laid over the base.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    set: Mapping,
    /// Keys with lists of values: every combination is a point.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    grid: Mapping,
    /// Keys with lists of equal length: the first values together, the second together, and so on.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    zip: Mapping,
    /// Points, or parts of them, one by one: keys with a value each, and `name` for the table.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    list: Vec<Mapping>,
    /// Varied keys that only repeat the measurement (seeds): `collect` takes the medians over them.
    #[serde(default)]
    repeats: Vec<String>,
    /// Whether a network is trained; without one, only the methods that need none are scored.
    #[serde(default = "yes")]
    train: bool,
    /// What `collect` draws; by default F1 by the first key that has numbers.
    #[serde(default)]
    plots: Vec<Plot>,
}

fn yes() -> bool {
    true
}

/// A figure of a metric by a varied key, one line for each method and score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plot {
    /// A varied key, or the end of it that names its column.
    pub x: String,
    /// A metric, such as `f1`, `average_precision` or `auroc`.
    pub y: String,
    /// Another varied key: a line for each of its values too.
    #[serde(default)]
    pub by: Option<String>,
    /// Methods to show; all by default.
    #[serde(default)]
    pub methods: Option<OneOrMany<String>>,
    /// Scores to show; the default score of each point if not given.
    #[serde(default)]
    pub scores: Option<OneOrMany<String>>,
}

/// What a plot can show of a score.
pub const METRICS: [&str; 11] = [
    "threshold",
    "flagged",
    "auroc",
    "average_precision",
    "best_f1",
    "f1",
    "precision",
    "recall",
    "ashman_d",
    "overlap",
    "estimated_shift_ev",
];

/// More points are taken for a mistake in the grid, and refused before they fill the memory.
const MOST_POINTS: usize = 20_000;

/// Columns of the collected table that are not keys.
const TAKEN: [&str; 7] = ["point", "state", "cube", "method", "score", "default_score", "hash"];

/// All points of a sweep.
#[derive(Debug)]
pub struct Sweep {
    pub output: PathBuf,
    /// Where the simulated cubes and trainings are.
    pub store: PathBuf,
    /// Names of what varies, one for each value of a point: the shortest endings of the keys that differ.
    pub columns: Vec<String>,
    pub points: Vec<Point>,
    /// Places in `columns` of those that only repeat the measurement.
    pub repeats: Vec<usize>,
    pub train: bool,
    pub plots: Vec<Plot>,
}

impl SweepFile {
    /// # Errors
    /// [`Invalid`], with the line.
    pub fn parse(name: &str, text: &str) -> Result<SweepFile> {
        let file: SweepFile =
            serde_yaml::from_str(text).map_err(|error| Invalid(format!("{name}: {}", in_words(&error))))?;
        Ok(file)
    }

    /// The file that `base` names, relative to the working directory.
    pub fn base_path(&self) -> Option<&Path> {
        self.base.as_str().map(Path::new)
    }

    /// The points in order: entries of `list` change slowest, the last key of `grid` fastest.
    ///
    /// `base` is the text of [`SweepFile::base_path`]; `overrides` are laid over the base, but `output=DIR` and
    /// `output.dir=DIR` name the folder of the sweep.
    /// # Errors
    /// [`Invalid`]: lists of unequal length, a point that is no valid configuration, two that are the same.
    pub fn expand(mut self, name: &str, base: Option<&str>, overrides: &[String]) -> Result<Sweep> {
        let mut tree = match base {
            Some(text) => {
                serde_yaml::from_str(text).map_err(|error| Invalid(format!("{name}: base: {}", in_words(&error))))?
            }
            None => self.base.clone(),
        };
        for (key, value) in &self.set {
            let key = text(key);
            let path: Vec<&str> = key.split('.').collect();
            lay(&mut tree, &path, 0, value).map_err(|problem| Invalid(format!("{name}: set.{key}: {problem}")))?;
        }
        for assignment in overrides {
            match assignment.split_once('=') {
                Some((key, folder)) if ["output", "output.dir"].contains(&key.trim()) => {
                    self.output = folder.trim().into();
                }
                _ => set(&mut tree, assignment)?,
            }
        }
        let combinations = self.combinations(name)?;
        let keys = self.keys();
        let mut sweep = Sweep {
            columns: columns(&keys),
            points: Vec::with_capacity(combinations.len()),
            repeats: Vec::new(),
            store: self.store.unwrap_or_else(|| self.output.clone()),
            output: self.output,
            train: self.train,
            plots: self.plots,
        };
        for combination in combinations {
            let index = sweep.points.len();
            let values = values_of(&keys, &combination);
            let label = label(&sweep.columns, &values);
            let config = configured(&format!("{name}: point {index} ({label})"), tree.clone(), &combination)?;
            let point = Point::new(label, values, config, &sweep.store.join("archive"), sweep.train)?;
            if let Some(twin) = sweep.points.iter().position(|other| other.hash == point.hash) {
                return Err(Invalid(format!(
                    "{name}: points {twin} and {index} ({}) are the same: leave one out",
                    point.label
                ))
                .into());
            }
            sweep.points.push(point);
        }
        for key in &self.repeats {
            sweep.repeats.push(sweep.column(key)?);
        }
        for plot in &sweep.plots {
            if !METRICS.contains(&&plot.y[..]) {
                return Err(Invalid(format!("{name}: plots: y: {} is none of {}", plot.y, METRICS.join(", "))).into());
            }
            for column in [Some(&plot.x), plot.by.as_ref()].into_iter().flatten() {
                sweep.column(column)?;
            }
        }
        Ok(sweep)
    }

    /// All keys, each once, as they are written down.
    fn keys(&self) -> Vec<String> {
        let sections = self.list.iter().chain([&self.zip, &self.grid]);
        let mut keys = Vec::new();
        for key in sections.flat_map(|section| section.keys()).map(text) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// The assignments of every point, in order.
    fn combinations(&self, name: &str) -> Result<Vec<Vec<(String, Value)>>> {
        let values = |section: &str, key: &Value, values: &Value| match (key, values) {
            (Value::String(key), Value::Sequence(values)) if !values.is_empty() => Ok((key.clone(), values.clone())),
            _ => Err(Invalid(format!("{name}: {section}.{}: write a key with a list of values", text(key)))),
        };
        let mut list = Vec::new();
        for entry in &self.list {
            let entry = entry.iter().map(|(key, value)| (text(key), value.clone()));
            list.push(entry.collect());
        }
        let mut zipped: Vec<Vec<(String, Value)>> = Vec::new();
        for (key, given) in &self.zip {
            let (key, given) = values("zip", key, given)?;
            if zipped.is_empty() {
                zipped = vec![Vec::new(); given.len()];
            }
            if zipped.len() != given.len() {
                return Err(Invalid(format!(
                    "{name}: zip.{key} has {} values and the keys before it {}: they go together one by one",
                    given.len(),
                    zipped.len()
                ))
                .into());
            }
            for (point, value) in zipped.iter_mut().zip(given) {
                point.push((key.clone(), value));
            }
        }
        let mut axes = vec![list, zipped];
        for (key, given) in &self.grid {
            let (key, given) = values("grid", key, given)?;
            let axis = given.into_iter().map(|value| vec![(key.clone(), value)]);
            axes.push(axis.collect());
        }
        let points = axes.iter().map(|axis| axis.len().max(1));
        let points = points.fold(1usize, |product, values| product.saturating_mul(values));
        if points > MOST_POINTS {
            return Err(
                Invalid(format!("{name}: this makes {points} points; a sweep has at most {MOST_POINTS}")).into()
            );
        }
        let mut all = vec![Vec::new()];
        for axis in axes {
            all = product(all, axis);
        }
        Ok(all)
    }
}

/// Each of `first` with each of `second`; an empty `second` changes nothing.
fn product<T: Clone>(first: Vec<Vec<T>>, second: Vec<Vec<T>>) -> Vec<Vec<T>> {
    if second.is_empty() {
        return first;
    }
    let pairs = first.iter().flat_map(|a| second.iter().map(move |b| [a.clone(), b.clone()].concat()));
    pairs.collect()
}

/// The shortest ending of each key that begins with a word and that nothing else has.
fn columns(keys: &[String]) -> Vec<String> {
    let ending = |key: &str, length: usize| -> String {
        let parts: Vec<&str> = key.split('.').collect();
        parts[parts.len().saturating_sub(length)..].join(".")
    };
    let column = |key: &String| {
        let parts = key.split('.').count();
        let good = |length: &usize| {
            let short = ending(key, *length);
            let word = short.starts_with(|c: char| c.is_alphabetic());
            let taken = TAKEN.contains(&&short[..]) || METRICS.contains(&&short[..]);
            word && !taken && keys.iter().filter(|k| ending(k, *length) == short).count() == 1
        };
        ending(key, (1..=parts).find(good).unwrap_or(parts))
    };
    keys.iter().map(column).collect()
}

impl Sweep {
    /// The place of the column that `key` names, by its column's name or as it is written in the sweep.
    ///
    /// # Errors
    /// [`Invalid`], with the columns that there are.
    pub fn column(&self, key: &str) -> Result<usize> {
        let ends = |column: &String| key == column || key.ends_with(&format!(".{column}"));
        let found = self.columns.iter().position(ends);
        Ok(found.ok_or_else(|| Invalid(format!("{key} does not vary; what varies is {}", self.columns.join(", "))))?)
    }
}
