//! Order statistics of values that are spread over ranks.

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
    let count = local.iter().filter(|value| !value.is_nan()).count();
    let Some(last) = comm.sum_u64(count as u64).checked_sub(1) else {
        return vec![f64::NAN; shares.len()];
    };
    let at = |share: &f64| nth(local, quantile_index(*share, last), |counts| comm.sum_i64(counts));
    shares.iter().map(at).map(f64::from).collect()
}

/// The value at `index` of all in ascending order, NaN left out; `sum` adds the counts of all ranks.
///
/// # Source
/// Radix selection, from the highest digit down.
fn nth(values: &[f32], mut index: u64, mut sum: impl FnMut(&mut [i64])) -> f32 {
    let (mut known, mut prefix) = (0, 0u64);
    for bits in DIGITS {
        let rest = 32 - known - bits;
        let mut counts = vec![0i64; 1 << bits];
        for &value in values.iter().filter(|value| !value.is_nan()) {
            let digits = u64::from(sortable_bits(value)) >> rest;
            if digits >> bits == prefix {
                counts[digits as usize & ((1 << bits) - 1)] += 1;
            }
        }
        sum(&mut counts);
        let mut digit = 0;
        while index >= counts[digit] as u64 {
            index -= counts[digit] as u64;
            digit += 1;
        }
        prefix = prefix << bits | digit as u64;
        known += bits;
    }
    from_sortable_bits(prefix as u32)
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
            let found = nth(&values, quantile_index(share, count as u64 - 1), |_| ());
            prop_assert_eq!(f64::from(found).to_bits(), quantile_here(&values, share).to_bits());
        }
    }
}
