//! Kinds across cubes: regions that differ in the same way, wherever they lie.

use crate::config::ResidualSpectrum;
use crate::results::{Along, likeness};

/// Residual spectra are of one kind from this likeness on.
const ALIKE: f64 = 0.9;
/// A kind in this share of at least so many cubes is told as the instrument's.
const NEARLY_ALL: f64 = 0.8;
const LEAST_CUBES: usize = 10;

/// A region of the survey.
pub struct Member<'a> {
    /// Place of its cube in the ranking.
    pub cube: usize,
    /// Place of the region in the lists of its cube.
    pub region: usize,
    pub surprise: f64,
    pub residual: &'a ResidualSpectrum,
    /// When its cube was recorded, as 2026-03-31.
    pub date: Option<&'a str>,
}

/// Regions whose residual spectra are alike, the most surprising first.
pub struct AcrossKind<'a> {
    pub members: Vec<Member<'a>>,
}

impl AcrossKind<'_> {
    /// How many cubes it is found in.
    pub fn cubes(&self) -> usize {
        let mut cubes: Vec<usize> = self.members.iter().map(|member| member.cube).collect();
        cubes.sort_unstable();
        cubes.dedup();
        cubes.len()
    }

    /// Whether it is found in nearly all of the survey's cubes: then it is the instrument's rather than the specimen's.
    pub fn is_everywhere(&self, cubes: usize) -> bool {
        cubes >= LEAST_CUBES && self.cubes() as f64 >= NEARLY_ALL * cubes as f64
    }

    /// The day on which it was first recorded, where that is known.
    pub fn first_seen(&self) -> Option<&str> {
        self.members.iter().filter_map(|member| member.date).min()
    }

    /// The mean of its residual spectra on the bins of the first; those on others are left out.
    pub fn mean(&self) -> ResidualSpectrum {
        let first = self.members[0].residual;
        let same = |residual: &&ResidualSpectrum| {
            residual.values.len() == first.values.len() && residual.first_ev == first.first_ev
        };
        let alike: Vec<&ResidualSpectrum> = self.members.iter().map(|member| member.residual).filter(same).collect();
        let mean = |i: usize| alike.iter().map(|residual| residual.values[i]).sum::<f64>() / alike.len() as f64;
        ResidualSpectrum { values: (0..first.values.len()).map(mean).collect(), ..first.clone() }
    }
}

/// Groups regions: from the most surprising down, each joins the first kind whose most surprising region it is like, or begins
/// a new one. The kinds of most cubes come first.
pub fn kinds(mut regions: Vec<Member>) -> Vec<AcrossKind> {
    regions.sort_by(|a, b| b.surprise.total_cmp(&a.surprise));
    let mut kinds: Vec<AcrossKind> = Vec::new();
    for region in regions {
        let is_like = |kind: &&mut AcrossKind| {
            likeness(kind.members[0].residual, region.residual, Along::Energy).is_some_and(|found| found >= ALIKE)
        };
        match kinds.iter_mut().find(is_like) {
            Some(kind) => kind.members.push(region),
            None => kinds.push(AcrossKind { members: vec![region] }),
        }
    }
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.cubes()));
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(at: usize) -> ResidualSpectrum {
        let values = (0..64).map(|i| if i == at { 40.0 } else { (i as f64 * 7.3).sin() }).collect();
        ResidualSpectrum { first_ev: 400.0, step_ev: 2.0, first_channel: 0.0, step_channels: 1.0, values }
    }

    #[test]
    fn regions_that_differ_alike_are_one_kind() {
        let residuals: Vec<ResidualSpectrum> = (0..12).map(|i| peak(if i == 4 { 30 } else { 10 })).collect();
        let dates = ["2026-03-09", "2026-03-03"];
        let members = residuals.iter().enumerate().map(|(i, residual)| Member {
            cube: i / 2 * 2,
            region: 0,
            surprise: i as f64,
            residual,
            date: Some(dates[i % 2]),
        });
        let found = kinds(members.collect());
        assert_eq!(found.iter().map(|kind| kind.members.len()).collect::<Vec<_>>(), [11, 1]);
        assert_eq!((found[0].cubes(), found[0].members[0].surprise), (6, 11.0));
        assert_eq!(found[0].first_seen(), Some("2026-03-03"));
        assert!(found[0].mean().values[10] > 39.0);
        // In few cubes, or in few of many, it may be anyone's.
        assert!(!found[0].is_everywhere(6) && !found[0].is_everywhere(12));
    }
}
