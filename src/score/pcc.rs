//! The paper's score: how little a spectrum correlates with its reconstruction.

use ndarray::ArrayView1;

/// 1 minus Pearson's correlation of `u` and `reconstruction` (counts), from 0 to 2.
///
/// 1, no correlation, where either is constant. Rank-local.
///
/// # Source
/// Sultanov et al., Small 2025, 21(33), 2503019: PCC between input and reconstruction in 690-730 eV.
pub fn pcc_score(u: ArrayView1<f32>, reconstruction: ArrayView1<f32>) -> f32 {
    let mean = |v: &ArrayView1<f32>| v.iter().map(|&v| f64::from(v)).sum::<f64>() / v.len().max(1) as f64;
    let (mean_u, mean_r) = (mean(&u), mean(&reconstruction));
    let (mut uu, mut rr, mut ur) = (0.0, 0.0, 0.0);
    for (&a, &b) in u.iter().zip(&reconstruction) {
        let (a, b) = (f64::from(a) - mean_u, f64::from(b) - mean_r);
        uu += a * a;
        rr += b * b;
        ur += a * b;
    }
    let correlation = ur / (uu * rr).sqrt();
    if correlation.is_finite() { (1.0 - correlation.clamp(-1.0, 1.0)) as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use ndarray::arr1;

    use super::*;

    #[test]
    fn scale_does_not_count_and_constants_are_guarded() {
        let a = arr1(&[1f32, 2.0, 5.0, 3.0]);
        let b = a.mapv(|v| 3.0 * v + 7.0);
        assert!(pcc_score(a.view(), b.view()) < 1e-6);
        assert!(pcc_score(a.view(), a.mapv(|v| -v).view()) > 1.999);
        let flat = arr1(&[4f32; 4]);
        assert_eq!(pcc_score(a.view(), flat.view()), 1.0);
        assert_eq!(pcc_score(flat.view(), flat.view()), 1.0);
    }
}
