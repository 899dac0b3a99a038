//! The mean spectrum where it is divided by.

/// The mean spectrum `[energy]`, sum 1, with no channel below a thousandth of the average one.
pub fn floored(mean: &[f64]) -> impl Iterator<Item = f64> {
    let floor = 1e-3 / mean.len() as f64;
    mean.iter().map(move |&m| m.max(floor))
}
