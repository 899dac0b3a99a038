//! How many groups of ranks share a survey's work: arithmetic only.

use crate::config::{Auto, Config, Models};

/// What a training step costs for each voxel of its patches, in voxels scored by all methods.
const STEP: f64 = 1.5;
/// Steps and patch of the usual training.
const USUAL_STEPS: usize = 800;
const USUAL_PATCH: usize = 12 * 12;

/// About what scoring a cube costs, in voxels, with its training where it has its own.
pub fn cost(config: &Config, shape: [usize; 3]) -> f64 {
    let voxels = shape.iter().product::<usize>() as f64;
    match config.survey.models {
        Models::PerCube => voxels + training_cost(config, shape[2]),
        Models::PerGroup | Models::Pretrained => voxels,
    }
}

/// About what training a model of so many channels costs, in voxels scored.
pub fn training_cost(config: &Config, channels: usize) -> f64 {
    let steps = match config.train.steps {
        Auto::Given(steps) => steps,
        Auto::Auto => USUAL_STEPS,
    };
    let patch = config.model.patch.map_or(USUAL_PATCH, |[y, x]| y * x);
    STEP * (steps * config.train.global_batch * patch * channels) as f64
}

/// What was measured of a cube that was scored.
pub struct Measured<'a> {
    pub group: &'a str,
    /// As [`cost`] has it.
    pub cost: f64,
    /// Seconds of one rank.
    pub took_s: f64,
}

/// `cost` of a cube of `group` in seconds of one rank, by what cubes of this group took, or where none was measured, of
/// any; as it is where there is none.
pub fn measured_cost(measured: &[Measured], group: &str, cost: f64) -> f64 {
    let rate = |group: Option<&str>| {
        let alike = |one: &&Measured| group.is_none_or(|group| one.group == group);
        let (took, of) = measured
            .iter()
            .filter(alike)
            .fold((0.0, 0.0), |(took, of), one| {
                (took + one.took_s, of + one.cost)
            });
        (took > 0.0).then_some(took / of)
    };
    cost * rate(Some(group)).or(rate(None)).unwrap_or(1.0)
}

/// The number of groups, of equally many ranks, that is done first with things of these `costs`.
pub fn groups(costs: &[f64], ranks: usize) -> usize {
    let mut sorted = costs.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let time = |groups: usize| {
        // Each thing goes to the group that is free first.
        let mut busy = vec![0f64; groups];
        for cost in &sorted {
            let free = busy.iter_mut().min_by(|a, b| a.total_cmp(b));
            if let Some(free) = free {
                *free += cost;
            }
        }
        let width = (ranks / groups) as f64;
        busy.into_iter().fold(0.0, f64::max) / speed(width)
    };
    let most = ranks.min(costs.len()).max(1);
    (1..=most)
        .min_by(|&a, &b| time(a).total_cmp(&time(b)))
        .unwrap_or(1)
}

/// How much faster than one so many ranks are: they lose some of their time to each other.
pub fn speed(ranks: f64) -> f64 {
    ranks / (1.0 + 0.05 * (ranks - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_cubes_get_a_rank_each_and_a_giant_gets_all() {
        assert_eq!(groups(&[1.0; 200], 8), 8);
        assert_eq!(groups(&[1000.0], 8), 1);
        assert_eq!(groups(&[], 8), 1);
        // The giant would keep one of eight ranks busy long after the others are done.
        let mut mixed = vec![1.0; 20];
        mixed.push(400.0);
        assert_eq!(groups(&mixed, 8), 1);
        // Two of a kind take half the ranks each.
        assert_eq!(groups(&[50.0, 50.0], 8), 2);
    }

    #[test]
    fn what_cubes_took_tells_what_others_will() {
        let one = |group, cost, took_s| Measured {
            group,
            cost,
            took_s,
        };
        let measured = [
            one("a", 10.0, 1.0),
            one("a", 30.0, 3.0),
            one("b", 10.0, 5.0),
        ];
        let cost = |group| measured_cost(&measured, group, 50.0);
        assert_eq!([cost("a"), cost("b"), cost("new")], [5.0, 25.0, 9.0]);
        assert_eq!(measured_cost(&[], "a", 20.0), 20.0);
    }

    #[test]
    fn a_model_of_its_own_costs_more_than_scoring() {
        let mut config = Config::default();
        let shape = [64, 64, 240];
        let scored = cost(&config, shape);
        config.survey.models = Models::PerCube;
        assert!(cost(&config, shape) > 10.0 * scored);
    }
}
