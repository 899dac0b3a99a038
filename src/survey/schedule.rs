//! How many groups of ranks share a survey's work: arithmetic only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::config::{Config, Models};

/// What a training step costs for each voxel of its patches, in voxels scored by all methods.
const STEP: f64 = 1.5;

/// About what scoring a cube costs, in voxels, with its training where it has its own.
pub fn cost(config: &Config, shape: [usize; 3]) -> f64 {
    let voxels = shape.iter().product::<usize>() as f64;
    match config.survey.models {
        Models::PerCube => voxels + training_cost(config, &[shape]),
        Models::PerGroup | Models::Pretrained => voxels,
    }
}

/// About what training one model on cubes of these shapes `[y, x, energy]` costs, in voxels scored.
pub fn training_cost(config: &Config, shapes: &[[usize; 3]]) -> f64 {
    let patch = config.model.patch_for(shapes.iter().copied());
    let pixels = shapes.iter().map(|[y, x, _]| y * x).sum();
    let channels = shapes.first().map_or(0, |[_, _, energy]| *energy);
    let crops = config.train.length(pixels, patch).steps * config.train.global_batch;
    STEP * (crops * patch[0] * patch[1] * channels) as f64
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
        let (took, of) =
            measured.iter().filter(alike).fold((0.0, 0.0), |(took, of), one| (took + one.took_s, of + one.cost));
        (took > 0.0).then_some(took / of)
    };
    cost * rate(Some(group)).or(rate(None)).unwrap_or(1.0)
}

/// The number of groups, of equally many ranks, that is done first with things of these `costs`; the least of several.
pub fn groups(costs: &[f64], ranks: usize) -> usize {
    let mut sorted = costs.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let dearest = sorted.first().copied().unwrap_or(0.0);
    let total: f64 = sorted.iter().sum();
    let fast = |groups: usize| speed((ranks / groups) as f64);
    // No sharing out is done before the dearest thing is, nor before all groups were busy all the time.
    let least = |groups: usize| dearest.max(total / groups as f64) / fast(groups);
    let most = ranks.min(costs.len()).max(1);
    let mut promising: Vec<(f64, usize)> = (1..=most).map(|n| (least(n), n)).collect();
    promising.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut best = (f64::INFINITY, 1);
    for (least, groups) in promising {
        // Sums are rounded.
        if least > best.0 * (1.0 + 1e-9) {
            break;
        }
        let time = longest(&sorted, groups) / fast(groups);
        if (time, groups) < best {
            best = (time, groups);
        }
    }
    best.1
}

/// What the busiest of `groups` has to do when each of the `sorted` costs goes to the group that is free first.
fn longest(sorted: &[f64], groups: usize) -> f64 {
    // Costs are not negative: their bits are in the order of their values.
    let mut busy: BinaryHeap<Reverse<u64>> = vec![Reverse(0); groups].into();
    for cost in sorted {
        if let Some(mut first) = busy.peek_mut() {
            first.0 = (f64::from_bits(first.0) + cost).to_bits();
        }
    }
    let longest = busy.into_iter().map(|Reverse(bits)| bits).max();
    f64::from_bits(longest.unwrap_or(0))
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
    fn ten_thousand_cubes_are_soon_shared_out_over_a_thousand_ranks() {
        let even = vec![1.0; 10_000];
        let uneven: Vec<f64> = (1..=10_000).map(|i| 1e5 / f64::from(i)).collect();
        let mut giant = even.clone();
        giant[77] = 1000.0;
        let begun = std::time::Instant::now();
        // 10,000 things in ten rounds; all ranks but those of the giant's group are soon done with the rest.
        assert_eq!(groups(&even, 1024), 1000);
        assert!((1..100).contains(&groups(&giant, 1024)));
        assert!((1..100).contains(&groups(&uneven, 1024)));
        assert!(begun.elapsed().as_secs_f64() < 2.0);
    }

    #[test]
    fn no_other_number_of_groups_is_done_sooner() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 16) / 65_536.0
        };
        for case in 0..200 {
            let (count, ranks) = (1 + case % 23, 1 + case % 17);
            let costs: Vec<f64> = (0..count).map(|_| (8.0 * random()).exp()).collect();
            let mut sorted = costs.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let time = |groups: usize| longest(&sorted, groups) / speed((ranks / groups) as f64);
            let all = 1..=ranks.min(count);
            let best = all.min_by(|&a, &b| time(a).total_cmp(&time(b)));
            assert_eq!(Some(groups(&costs, ranks)), best, "{costs:?} on {ranks}");
        }
    }

    #[test]
    fn what_cubes_took_tells_what_others_will() {
        let one = |group, cost, took_s| Measured { group, cost, took_s };
        let measured = [one("a", 10.0, 1.0), one("a", 30.0, 3.0), one("b", 10.0, 5.0)];
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

    #[test]
    fn a_training_costs_its_own_steps_on_its_own_patches() {
        let cost = |set: &[&str], shapes: &[[usize; 3]]| {
            let set: Vec<String> = set.iter().map(|set| set.to_string()).collect();
            training_cost(&Config::parse("test", "", &set).unwrap(), shapes)
        };
        // Patches of 24 x 24 pixels in the one, of 12 x 12 in the other.
        let (large, small) = ([96, 96, 240], [40, 40, 240]);
        let voxels = |steps: usize, pixels: usize| STEP * (steps * 16 * pixels * 240) as f64;
        assert_eq!(cost(&["train.steps=100"], &[large]), voxels(100, 576));
        assert_eq!(cost(&["train.steps=100"], &[small]), voxels(100, 144));
        assert_eq!(cost(&["train.steps=100"], &[large, small]), voxels(100, 144));
        assert_eq!(cost(&["model.patch=[8, 16]", "train.steps=100"], &[large]), voxels(100, 128));
        // One step for each 16 patches: an epoch of ten cubes is ten steps.
        assert_eq!(cost(&["train.epochs=5"], &[large; 10]), voxels(50, 576));
        assert_eq!([cost(&[], &[large]), cost(&[], &[small])], [voxels(200, 576), voxels(800, 144)]);
    }
}
