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
    if config.survey.models != Models::PerCube {
        return voxels;
    }
    let steps = match config.train.steps {
        Auto::Given(steps) => steps,
        Auto::Auto => USUAL_STEPS,
    };
    let patch = config.model.patch.map_or(USUAL_PATCH, |[y, x]| y * x);
    voxels + STEP * (steps * config.train.global_batch * patch * shape[2]) as f64
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

/// Ranks that work on one thing lose some of their time to each other.
fn speed(ranks: f64) -> f64 {
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
    fn a_model_of_its_own_costs_more_than_scoring() {
        let mut config = Config::default();
        let shape = [64, 64, 240];
        let scored = cost(&config, shape);
        config.survey.models = Models::PerCube;
        assert!(cost(&config, shape) > 10.0 * scored);
    }
}
