//! Verdicts applied: which regions are recognised by what people said of them, or of others like them.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::residual::{Along, likeness};
use super::summary::RegionSummary;
use crate::comm::Comm;
use crate::config::{Judgement, Place, ResidualSpectrum, Verdict, VerdictFile};
use crate::invalid::Invalid;

/// Residual spectra are of one kind from this likeness on: the rest of one is then below a fifth of it.
const ALIKE: f64 = 0.9;
/// Two boxes in a scan are the same place from this share of their union on.
const SAME_PLACE: f64 = 0.5;

/// A region to be judged.
pub struct Judged<'a> {
    pub cube: &'a str,
    pub fingerprint: &'a str,
    pub region: &'a RegionSummary,
    pub residual: Option<&'a ResidualSpectrum>,
}

/// What is said of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognised {
    pub verdict: Judgement,
    /// Why, in words.
    pub reason: String,
}

impl Recognised {
    /// Whether the region is set apart from what is new.
    pub fn is_set_apart(&self) -> bool {
        matches!(self.verdict, Judgement::Artefact | Judgement::Known)
    }
}

/// All verdicts that count.
#[derive(Clone, Debug, Default)]
pub struct Verdicts(Vec<Verdict>);

impl Verdicts {
    /// Reads the files that the key `key` of the configuration lists. Rank-local.
    ///
    /// # Errors
    /// [`Invalid`]: a file that cannot be read or is no list of verdicts.
    pub fn read(key: &str, paths: &[PathBuf]) -> Result<Verdicts> {
        let mut all = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|error| Invalid(format!("{key}: {name}: {error}")))?;
            all.extend(VerdictFile::parse(&format!("{key}: {name}"), &text)?.verdicts);
        }
        Ok(Verdicts(all))
    }

    /// As [`Verdicts::read`], by root for all.
    ///
    /// # Collective
    /// # Errors
    /// Those of [`Verdicts::read`].
    pub fn on_all(comm: &Comm, key: &str, paths: &[PathBuf]) -> Result<Verdicts> {
        let text: String = comm.from_root(|| Ok(VerdictFile { verdicts: Verdicts::read(key, paths)?.0 }.to_yaml()))?;
        Ok(Verdicts(VerdictFile::parse(key, &text)?.verdicts))
    }

    /// These and `others`.
    pub fn and(mut self, others: Verdicts) -> Verdicts {
        self.0.extend(others.0);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The verdicts that call a region of the cube `id` with this `fingerprint` real.
    pub fn real_in<'a>(&'a self, id: &'a str, fingerprint: &'a str) -> impl Iterator<Item = &'a Verdict> {
        self.0.iter().filter(move |verdict| verdict.verdict == Judgement::Real && is_of(verdict, id, fingerprint))
    }

    /// What is said of a region: by the newest verdict on itself, else by that on one like it.
    pub fn on(&self, judged: &Judged) -> Option<Recognised> {
        let own = self
            .0
            .iter()
            .filter(|verdict| is_of(verdict, judged.cube, judged.fingerprint) && is_on(verdict, judged.region));
        // Dates are written so that their order is that of letters; of one day the last counts.
        if let Some(own) = own.max_by(|a, b| a.date.cmp(&b.date)) {
            return Some(Recognised { verdict: own.verdict, reason: with_note("said of this region", own) });
        }
        let like = |verdict| Some((likeness_to(verdict, judged)?, verdict));
        let (found, verdict) = self.0.iter().filter_map(like).max_by(|a, b| a.0.total_cmp(&b.0))?;
        // What is like a real one too is left where it is.
        let sets_apart = matches!(verdict.verdict, Judgement::Artefact | Judgement::Known);
        let number = verdict.region.map_or(String::new(), |region| format!("region {region} of "));
        let how = match verdict.at {
            Place::Scan if verdict.verdict == Judgement::Artefact => "the place in the scan".into(),
            _ => format!("the residual spectrum ({found:.2})"),
        };
        let reason = format!("like {number}{} by {how}", verdict.cube);
        sets_apart.then(|| Recognised { verdict: verdict.verdict, reason: with_note(&reason, verdict) })
    }
}

fn with_note(reason: &str, verdict: &Verdict) -> String {
    if verdict.note.is_empty() { reason.into() } else { format!("{reason}: {}", verdict.note) }
}

/// Whether a verdict is of this cube. A fingerprint of the file counts, not those of what was read with it.
fn is_of(verdict: &Verdict, id: &str, fingerprint: &str) -> bool {
    let file = |fingerprint: &str| fingerprint.split('-').next().map(str::to_owned);
    match &verdict.fingerprint {
        Some(own) => file(own) == file(fingerprint),
        None => verdict.cube == id,
    }
}

/// Whether a verdict on this cube is on this region: by its place, since another threshold gives other numbers.
fn is_on(verdict: &Verdict, region: &RegionSummary) -> bool {
    match boxes(verdict) {
        Some(place) => overlap(place, [region.rows, region.columns]) >= SAME_PLACE,
        None => verdict.region == Some(region.label),
    }
}

/// How alike a region is to that of a verdict, from [`ALIKE`] on.
fn likeness_to(verdict: &Verdict, judged: &Judged) -> Option<f64> {
    let differs = || {
        let kinds = verdict.kind.as_ref().zip(judged.region.kind.as_ref());
        kinds.is_some_and(|(a, b)| (&a.window, a.differs.clone()) != (&b.window, b.differs.to_string()))
    };
    if verdict.verdict == Judgement::Artefact && verdict.at == Place::Scan {
        let place = overlap(boxes(verdict)?, [judged.region.rows, judged.region.columns]);
        return (place >= SAME_PLACE && !differs()).then_some(1.0);
    }
    let along = match verdict.verdict {
        Judgement::Artefact => Along::Channels,
        // A kind of the specimen shows in the same way at the same edge.
        _ if differs() => return None,
        _ => Along::Energy,
    };
    likeness(verdict.residual.as_ref()?, judged.residual?, along).filter(|found| *found >= ALIKE)
}

fn boxes(verdict: &Verdict) -> Option<[[usize; 2]; 2]> {
    Some([verdict.rows?, verdict.columns?])
}

/// The share of the union of two boxes (`[first, last]` of rows and columns) that both hold.
fn overlap(a: [[usize; 2]; 2], b: [[usize; 2]; 2]) -> f64 {
    let size =
        |of: [[usize; 2]; 2]| of.iter().map(|[first, last]| (last + 1).saturating_sub(*first) as f64).product::<f64>();
    let both = [0, 1].map(|i| [a[i][0].max(b[i][0]), a[i][1].min(b[i][1])]);
    let both = size(both);
    both / (size(a) + size(b) - both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(text: &str) -> Verdicts {
        Verdicts(VerdictFile::parse("v.yaml", text).unwrap().verdicts)
    }

    fn region(label: i32, rows: [usize; 2]) -> RegionSummary {
        RegionSummary { label, rows, columns: [0, 3], ..RegionSummary::default() }
    }

    fn on(verdicts: &Verdicts, cube: &str, region: &RegionSummary) -> Option<Judgement> {
        verdicts.on(&Judged { cube, fingerprint: "ab-cd", region, residual: None }).map(|found| found.verdict)
    }

    #[test]
    fn a_region_is_known_by_its_place_and_its_file() {
        let all = verdicts(
            "verdicts:\n- {cube: old, fingerprint: ab-99, region: 7, rows: [0, 3], columns: [0, 3], verdict: artefact, date: \
             2026-01-02}\n- {cube: a, region: 2, verdict: real}\n- {cube: a, fingerprint: zz, region: 3, verdict: known}\n",
        );
        // Of the same file under another name, and with another number.
        assert_eq!(on(&all, "a", &region(1, [0, 3])), Some(Judgement::Artefact));
        assert_eq!(on(&all, "a", &region(2, [9, 12])), Some(Judgement::Real));
        assert_eq!(on(&all, "a", &region(3, [20, 23])), None);
        assert_eq!(all.real_in("a", "ab-cd").count(), 1);
        let newer = all.and(verdicts(
            "verdicts: [{cube: a, fingerprint: ab, rows: [0, 3], columns: [0, 3], verdict: unsure, date: 2026-02-01}]",
        ));
        assert_eq!(on(&newer, "a", &region(1, [0, 3])), Some(Judgement::Unsure));
    }

    #[test]
    fn an_artefact_of_the_scan_stays_at_its_place() {
        let all = verdicts(
            "verdicts: [{cube: b, rows: [0, 0], columns: [0, 63], verdict: artefact, at: scan, note: flyback}]",
        );
        let line = |row| RegionSummary { rows: [row, row], columns: [1, 63], ..RegionSummary::default() };
        let judged = |region: &RegionSummary| all.on(&Judged { cube: "a", fingerprint: "ab", region, residual: None });
        let found = judged(&line(0)).unwrap();
        assert!(found.is_set_apart() && found.reason.contains("flyback"), "{found:?}");
        assert_eq!(judged(&line(5)), None);
    }
}
