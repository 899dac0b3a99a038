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
        values.sort_by(f32::total_cmp);
        shares
            .iter()
            .map(|&s| sorted_quantile(&values, s))
            .collect()
    });
    Ok(comm.broadcast(found))
}

/// The quantile `share` of ascending `values`; NaN of none.
pub fn sorted_quantile(values: &[f32], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    f64::from(values[(share * last as f64).round() as usize])
}
