//! Medians and quantiles of values that are all here. `score/quantile.rs` has those of values spread over ranks.

/// The median absolute deviation of a normal distribution, in standard deviations.
pub const MAD_OF_SD: f64 = 0.6745;

/// What an even number of values has for its median.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Middle {
    /// The lower of the middle two.
    Lower,
    /// The upper of the middle two.
    Upper,
    /// The mean of the middle two.
    Mean,
}

/// The median of `values`, NaN of none.
pub fn median(values: impl IntoIterator<Item = impl Into<f64>>, middle: Middle) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().map(Into::into).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let (lower, upper) = (sorted[last / 2], sorted[last.div_ceil(2)]);
    match middle {
        Middle::Lower => lower,
        Middle::Upper => upper,
        Middle::Mean => 0.5 * (lower + upper),
    }
}

/// The value of `(value, weight)` pairs at which half of the weight is reached, in ascending order; NaN of none.
pub fn weighted_median(mut pairs: Vec<(f64, f64)>) -> f64 {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = 0.5 * pairs.iter().map(|pair| pair.1).sum::<f64>();
    let mut reached = 0.0;
    for (value, weight) in &pairs {
        reached += weight;
        if reached >= half {
            return *value;
        }
    }
    pairs.last().map_or(f64::NAN, |pair| pair.0)
}

/// The quantile `share` (0 to 1) of ascending values: the one of the nearest index, never between two; NaN of none.
pub fn quantile<T: Copy + Into<f64>>(sorted: &[T], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    sorted[quantile_index(share, last as u64) as usize].into()
}

/// The index of the quantile `share` among ascending values, the last of which has the index `last`.
pub fn quantile_index(share: f64, last: u64) -> u64 {
    (share * last as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_number_of_values_has_the_median_that_is_asked_for() {
        let of = |values: &[f32], middle| median(values.iter().copied(), middle);
        let even = [4.0, 1.0, 2.0, 7.0];
        assert_eq!([Middle::Lower, Middle::Upper, Middle::Mean].map(|middle| of(&even, middle)), [2.0, 4.0, 3.0]);
        assert_eq!([Middle::Lower, Middle::Upper, Middle::Mean].map(|middle| of(&even[..3], middle)), [2.0; 3]);
        assert!(of(&[], Middle::Lower).is_nan() && weighted_median(Vec::new()).is_nan());
    }

    #[test]
    fn weights_and_shares_choose_a_value() {
        assert_eq!(weighted_median(vec![(3.0, 1.0), (1.0, 1.0), (2.0, 1.0), (9.0, 4.0)]), 9.0);
        assert_eq!(weighted_median(vec![(3.0, 1.0), (1.0, 1.0)]), 1.0);
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|share| quantile(&[1.0f32, 2.0, 3.0, 4.0], share)), [1.0, 3.0, 4.0, 4.0]);
        assert!(quantile::<f64>(&[], 0.5).is_nan());
    }
}
