//! How many groups of ranks share the work of a survey: arithmetic only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The number of groups of equally many ranks that finishes tasks of these `costs` first; the smallest of equals.
pub fn num_groups(costs: &[f64], ranks: usize) -> usize {
    let mut sorted = costs.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let dearest = sorted.first().copied().unwrap_or(0.0);
    let total: f64 = sorted.iter().sum();
    let fast = |groups: usize| speed((ranks / groups) as f64);
    // No schedule ends before its dearest task does, or before all groups were busy all the time.
    let least = |groups: usize| dearest.max(total / groups as f64) / fast(groups);
    let most = ranks.min(costs.len()).max(1);
    let mut promising: Vec<(f64, usize)> = (1..=most).map(|n| (least(n), n)).collect();
    promising.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut best = (f64::INFINITY, 1);
    for (least, groups) in promising {
        // Sums have rounding errors.
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

/// The cost of the busiest of `groups` if each of the `sorted` costs goes to the group that is free first.
fn longest(sorted: &[f64], groups: usize) -> f64 {
    // The bits of numbers that are not negative are in the order of their values.
    let mut busy: BinaryHeap<Reverse<u64>> = vec![Reverse(0); groups].into();
    for cost in sorted {
        if let Some(mut first) = busy.peek_mut() {
            first.0 = (f64::from_bits(first.0) + cost).to_bits();
        }
    }
    let longest = busy.into_iter().map(|Reverse(bits)| bits).max();
    f64::from_bits(longest.unwrap_or(0))
}

/// How much faster than one rank so many are: they lose some time to communication.
pub fn speed(ranks: f64) -> f64 {
    ranks / (1.0 + 0.05 * (ranks - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_cubes_get_a_rank_each_and_a_giant_gets_all() {
        assert_eq!(num_groups(&[1.0; 200], 8), 8);
        assert_eq!(num_groups(&[1000.0], 8), 1);
        assert_eq!(num_groups(&[], 8), 1);
        // The giant would keep one of eight ranks busy long after the others are done.
        let mut mixed = vec![1.0; 20];
        mixed.push(400.0);
        assert_eq!(num_groups(&mixed, 8), 1);
        // Two of a kind take half the ranks each.
        assert_eq!(num_groups(&[50.0, 50.0], 8), 2);
    }

    #[test]
    fn ten_thousand_cubes_are_soon_scheduled_on_a_thousand_ranks() {
        let even = vec![1.0; 10_000];
        let uneven: Vec<f64> = (1..=10_000).map(|i| 1e5 / f64::from(i)).collect();
        let mut giant = even.clone();
        giant[77] = 1000.0;
        let begun = std::time::Instant::now();
        // 10,000 tasks in ten rounds; all ranks but those of the giant's group are soon done with the rest.
        assert_eq!(num_groups(&even, 1024), 1000);
        assert!((1..100).contains(&num_groups(&giant, 1024)));
        assert!((1..100).contains(&num_groups(&uneven, 1024)));
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
            assert_eq!(Some(num_groups(&costs, ranks)), best, "{costs:?} on {ranks}");
        }
    }
}
