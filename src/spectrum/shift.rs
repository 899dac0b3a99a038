//! A smooth spectrum moved by a fraction of a channel.

use std::ops::Range;

use ndarray::ArrayView1;

/// `spectrum` moved up in energy by `shift` channels, at the channels `range`.
///
/// # Source
/// Catmull-Rom cubic interpolation (Keys 1981, a = -1/2); the spectrum goes on with its end values.
pub fn shifted(spectrum: ArrayView1<f32>, shift: f64, range: Range<usize>) -> Vec<f64> {
    let count = range.len();
    let below = (-shift).floor();
    let t = -shift - below;
    let (first, last) = (range.start as isize + below as isize - 1, spectrum.len() as isize - 1);
    let at = |i: isize| f64::from(spectrum[i.clamp(0, last) as usize]);
    let near: Vec<f64> = (first..first + count as isize + 3).map(at).collect();
    let moved = near.windows(4).map(|near| {
        let (a, b, c, d) = (near[0], near[1], near[2], near[3]);
        let cubic = 3.0 * (b - c) + d - a;
        let square = 2.0 * a - 5.0 * b + 4.0 * c - d;
        b + 0.5 * t * ((c - a) + t * (square + t * cubic))
    });
    moved.collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;

    use super::*;

    #[test]
    fn moves_a_parabola_exactly_and_keeps_ends() {
        let spectrum: Array1<f32> = (0..20).map(|i| (i * i) as f32).collect();
        let moved = shifted(spectrum.view(), 0.25, 4..8);
        for (i, value) in (4..8).zip(moved) {
            assert!((value - (i as f64 - 0.25).powi(2)).abs() < 1e-9);
        }
        assert!(shifted(spectrum.view(), -100.0, 0..20).iter().all(|v| *v == 361.0));
    }
}
