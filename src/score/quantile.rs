//! Order statistics of a map whose pixels are spread over ranks.

use anyhow::Result;

use crate::comm::Comm;

/// The quantiles `shares` (0 to 1) of all ranks' `local` values, NaN left out; NaN where there is none.
///
/// A value of the map itself, never between two: the same on every rank, for any number of ranks.
///
/// # Collective
/// Every rank of `comm`; `local` may be empty.
pub fn quantiles(comm: &Comm, local: &[f32], shares: &[f64]) -> Result<Vec<f64>> {
    let found = comm.gather_bands(local).map(|mut values| {
        values.retain(|v| !v.is_nan());
        shares.iter().map(|&s| quantile(&mut values, s)).collect()
    });
    Ok(comm.broadcast(found))
}

/// The quantile `share` of `values`, which are put in another order; NaN of none. No value may be NaN.
pub fn quantile(values: &mut [f32], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = (share * last as f64).round() as usize;
    let (_, &mut found, _) = values.select_nth_unstable_by(place, f32::total_cmp);
    f64::from(found)
}

/// The quantile `share` of ascending `values`; NaN of none.
pub fn sorted_quantile(values: &[f32], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    f64::from(values[(share * last as f64).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_values_does_not_count() {
        let sorted: Vec<f32> = (0..101).map(|i| i as f32 - 7.5).collect();
        let mut values: Vec<f32> = (0..101).map(|i| sorted[i * 37 % 101]).collect();
        for share in [0.0, 0.013, 0.5, 0.8413, 1.0] {
            assert_eq!(
                quantile(&mut values, share),
                sorted_quantile(&sorted, share)
            );
        }
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
