//! Order statistics of values that are spread over ranks.

use rayon::prelude::*;

use crate::comm::Comm;
use crate::spectrum::quantile_index;

/// Bits of a value that are counted in each round, the highest first: 32 in all, few enough for a small table.
const DIGITS: [u32; 3] = [11, 11, 10];

/// The quantiles `shares` (0 to 1) of all ranks' `local` values, NaN left out; NaN where there is none.
///
/// One of the values, never between two, as [`crate::spectrum::quantile`] chooses it; the same for any number of ranks.
///
/// # Collective
/// Every rank of `comm`; `local` may be empty.
pub fn quantiles(comm: &Comm, local: &[f32], shares: &[f64]) -> Vec<f64> {
    let each: Vec<(&[f32], f64)> = shares.iter().map(|&share| (local, share)).collect();
    of_each(comm, &each)
}

/// The median of each of several lists of values that are spread over ranks, in as many rounds as one takes.
///
/// # Collective
/// As [`quantiles`], with as many lists on every rank.
pub fn medians(comm: &Comm, local: &[Vec<f32>]) -> Vec<f64> {
    let each: Vec<(&[f32], f64)> = local.iter().map(|values| (&values[..], 0.5)).collect();
    of_each(comm, &each)
}

/// # Collective
fn of_each(comm: &Comm, each: &[(&[f32], f64)]) -> Vec<f64> {
    let count = |(values, _): &(&[f32], f64)| values.iter().filter(|value| !value.is_nan()).count() as i64;
    let mut counts: Vec<i64> = each.par_iter().map(count).collect();
    comm.sum_i64(&mut counts);
    let mut places: Vec<(&[f32], Option<u64>)> = Vec::new();
    for (&(values, share), &count) in each.iter().zip(&counts) {
        places.push((values, (count > 0).then(|| quantile_index(share, count as u64 - 1))));
    }
    let found = at_places(&places, |counts| comm.sum_i64(counts));
    found.into_iter().map(|found| found.map_or(f64::NAN, f64::from)).collect()
}

/// Of several lists the value at an index of all in ascending order, NaN left out; none where no index is given. `sum` adds the
/// counts of all ranks.
///
/// # Source
/// Radix selection, from the highest digit down.
fn at_places(places: &[(&[f32], Option<u64>)], mut sum: impl FnMut(&mut [i64])) -> Vec<Option<f32>> {
    let mut left: Vec<Option<u64>> = places.iter().map(|(_, index)| *index).collect();
    let mut prefixes = vec![0u64; places.len()];
    let mut known = 0;
    for bits in DIGITS {
        let rest = 32 - known - bits;
        let mut counts = vec![0i64; places.len() << bits];
        counts.par_chunks_mut(1 << bits).zip(places).zip(&prefixes).for_each(|((counts, (values, _)), &prefix)| {
            for &value in values.iter().filter(|value| !value.is_nan()) {
                let digits = u64::from(sortable_bits(value)) >> rest;
                if digits >> bits == prefix {
                    counts[digits as usize & ((1 << bits) - 1)] += 1;
                }
            }
        });
        sum(&mut counts);
        for ((left, prefix), counts) in left.iter_mut().zip(&mut prefixes).zip(counts.chunks(1 << bits)) {
            let Some(index) = left else { continue };
            let mut digit = 0;
            while *index >= counts[digit] as u64 {
                *index -= counts[digit] as u64;
                digit += 1;
            }
            *prefix = *prefix << bits | digit as u64;
        }
        known += bits;
    }
    left.iter().zip(prefixes).map(|(left, prefix)| left.map(|_| from_sortable_bits(prefix as u32))).collect()
}

/// The bits of `value`, turned so that they sort as the values do.
fn sortable_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn from_sortable_bits(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}

/// The quantile `share` of `values` that are all here, NaN left out; NaN of none.
#[cfg(test)]
pub fn quantile_here(values: &[f32], share: f64) -> f64 {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f32::total_cmp);
    crate::spectrum::quantile(&sorted, share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_nth_value_is_that_of_the_sorted_ones(
            mut values in prop::collection::vec(prop_oneof![8 => -3f32..3.0, 1 => Just(0.0), 1 => Just(-0.0),
                1 => Just(f32::INFINITY), 1 => any::<f32>()], 1..60),
            share in 0f64..=1.0,
        ) {
            values.push(f32::NAN);
            let count = values.iter().filter(|v| !v.is_nan()).count();
            prop_assume!(count > 0);
            let index = quantile_index(share, count as u64 - 1);
            let others = [f32::NAN, 1.0];
            let found = at_places(&[(&others[..1], None), (&values, Some(index)), (&others, Some(0))], |_| ());
            prop_assert_eq!((found[0], found[2]), (None, Some(1.0)));
            prop_assert_eq!(f64::from(found[1].unwrap()).to_bits(), quantile_here(&values, share).to_bits());
        }
    }
}
