//! Where residuals are more than chance leaves, looked for in discs of two sizes.

use ndarray::{s, Array1, Array2, ArrayView2, Zip};

use super::quantile::quantile;

/// Radii in pixels: 9 and 21 pixels.
const RADII: [f64; 2] = [1.5, 2.3];
/// Lags up to which residuals of neighbours may be related, pixels.
const REACH: usize = 2;
/// Values beyond are taken for these when relations are measured: anomalies must not pass for noise.
const CLIP: f32 = 3.0;

/// The tests of one group on a map: feed every coordinate and template, then [`Scan::finish`].
///
/// Rank-local, on root; one map is taken in at a time.
pub struct Scan {
    /// What the best of the tests says of each pixel, `-ln p`; NaN where a pixel does not count.
    surprise: Array2<f32>,
    /// Sums of the squares of a group's coordinates over each disc, one map for each radius.
    squares: Vec<Array2<f32>>,
    dimensions: usize,
    /// Sum of the correlations between coordinates of a pixel and of those around it; its mean is formed at the end.
    relation: f64,
}

impl Scan {
    pub fn new((height, width): (usize, usize)) -> Scan {
        let zeros = || Array2::zeros((height, width));
        Scan {
            surprise: zeros(),
            squares: RADII.iter().map(|_| zeros()).collect(),
            dimensions: 0,
            relation: 0.0,
        }
    }

    /// Takes in one whitened coordinate `[y, x]`.
    pub fn coordinate(&mut self, map: ArrayView2<f32>) {
        for (squares, radius) in self.squares.iter_mut().zip(RADII) {
            let mut smooth = smoothed(map, radius);
            let scale = 1.0 / spread(&smooth);
            smooth.mapv_inplace(|v| (v * scale).powi(2));
            *squares += &smooth;
        }
        self.relation += relation(map);
        self.dimensions += 1;
    }

    /// Takes in the projection `[y, x]` on one of `count` templates, which an anomaly makes positive.
    pub fn template(&mut self, map: ArrayView2<f32>, count: usize) {
        for radius in RADII {
            let smooth = smoothed(map, radius);
            let scale = f64::from(spread(&smooth));
            self.offer(&smooth, |v| {
                surprise(f64::from(v) / scale) - (count as f64).ln()
            });
        }
    }

    /// Tests that were made of each pixel, templates of one group and radius counted as one.
    pub fn num_tests() -> usize {
        2 * RADII.len()
    }

    /// The surprise of each pixel, and how many pixels' worth of noise one pixel's neighbourhood shares (1: white).
    ///
    /// # Source
    /// Wilson & Hilferty, PNAS 17 (1931) 684: the cube root of a chi-square is nearly normal.
    pub fn finish(mut self) -> (Array2<f32>, f64) {
        let dimensions = self.dimensions.max(1) as f32;
        for squares in std::mem::take(&mut self.squares) {
            let roots = squares.mapv(|v| (v / dimensions).cbrt());
            let (median, sigma) = center(&roots);
            self.offer(&roots, |v| surprise((f64::from(v) - median) / sigma));
        }
        let relation = (self.relation / f64::from(dimensions)).max(1.0);
        (self.surprise, relation)
    }

    fn offer(&mut self, map: &Array2<f32>, surprise: impl Fn(f32) -> f64) {
        for (best, &value) in self.surprise.iter_mut().zip(map) {
            *best = if value.is_nan() {
                f32::NAN
            } else {
                best.max(surprise(value) as f32)
            };
        }
    }
}

/// Sums over discs, divided by the root of their number of pixels: white noise keeps its spread.
fn smoothed(map: ArrayView2<f32>, radius: f64) -> Array2<f32> {
    let (height, width) = map.dim();
    let reach = radius as isize;
    let offsets: Vec<(isize, isize)> = (-reach..=reach)
        .flat_map(|dy| (-reach..=reach).map(move |dx| (dy, dx)))
        .filter(|&(dy, dx)| ((dy * dy + dx * dx) as f64) <= radius * radius)
        .collect();
    let (values, there) = known(map);
    let mut smooth = Array2::zeros((height, width));
    Zip::indexed(smooth.rows_mut()).par_for_each(|y, mut line| {
        let mut count = Array1::<f32>::zeros(width);
        for &(dy, dx) in &offsets {
            let Some(row) = y.checked_add_signed(dy).filter(|&row| row < height) else {
                continue;
            };
            let lag = dx.unsigned_abs().min(width);
            let (near, far) = (s![..width - lag], s![lag..]);
            let (to, from) = if dx < 0 { (far, near) } else { (near, far) };
            line.slice_mut(to)
                .scaled_add(1.0, &values.slice(s![row, ..]).slice(from));
            count
                .slice_mut(to)
                .scaled_add(1.0, &there.slice(s![row, ..]).slice(from));
        }
        Zip::from(&mut line)
            .and(&count)
            .and(map.row(y))
            .for_each(|sum, count, value| {
                *sum = if value.is_nan() {
                    f32::NAN
                } else {
                    *sum / count.sqrt()
                };
            });
    });
    smooth
}

/// A map with 0 where nothing is known, and 1 where something is.
fn known(map: ArrayView2<f32>) -> (Array2<f32>, Array2<f32>) {
    let values = map.mapv(|v| if v.is_nan() { 0.0 } else { v });
    (values, map.mapv(|v| f32::from(u8::from(!v.is_nan()))))
}

/// The standard deviation of values about 0, from the 68 % that are smallest; at least a half.
fn spread(map: &Array2<f32>) -> f32 {
    let mut sizes: Vec<f32> = map
        .iter()
        .filter(|v| !v.is_nan())
        .map(|v| v.abs())
        .collect();
    let place = (0.6827 * sizes.len() as f64) as usize;
    if place >= sizes.len() {
        return 1.0;
    }
    let (_, &mut found, _) = sizes.select_nth_unstable_by(place, f32::total_cmp);
    found.max(0.5)
}

/// Median, and the distance from there to the 84th percentile.
fn center(map: &Array2<f32>) -> (f64, f64) {
    let mut values: Vec<f32> = map.iter().copied().filter(|v| !v.is_nan()).collect();
    let median = quantile(&mut values, 0.5);
    let sigma = quantile(&mut values, 0.8413) - median;
    if sigma > 0.0 {
        (median, sigma)
    } else {
        (0.0, f64::INFINITY)
    }
}

/// Sum over all lags within reach, 0 included, of the correlation of a map with itself.
fn relation(map: ArrayView2<f32>) -> f64 {
    let (height, width) = map.dim();
    let (values, there) = known(map.mapv(|v| v.clamp(-CLIP, CLIP)).view());
    let correlation = |dy: usize, dx: isize| {
        let lag = dx.unsigned_abs().min(width);
        let (near, far) = (s![..width - lag], s![lag..]);
        let (upper, lower) = if dx < 0 { (far, near) } else { (near, far) };
        let (mut sum, mut count) = (0f64, 0f64);
        for y in 0..height.saturating_sub(dy) {
            let product = |of: &Array2<f32>| {
                let (upper, lower) = (
                    of.row(y).slice_move(upper),
                    of.row(y + dy).slice_move(lower),
                );
                f64::from(upper.dot(&lower))
            };
            sum += product(&values);
            count += product(&there);
        }
        if count > 0.0 {
            sum / count
        } else {
            0.0
        }
    };
    let variance = correlation(0, 0);
    if variance <= 0.0 {
        return 1.0;
    }
    let mut total = variance;
    for dy in 0..=REACH {
        for dx in -(REACH as isize)..=REACH as isize {
            if dy > 0 || dx > 0 {
                // A lag and its opposite have one correlation.
                total += 2.0 * correlation(dy, dx);
            }
        }
    }
    total / variance
}

/// `-ln` of the chance that a normal deviate exceeds `sigmas`.
fn surprise(sigmas: f64) -> f64 {
    if sigmas > 30.0 {
        // Where the function itself would underflow: its first term.
        return 0.5 * sigmas * sigmas + (sigmas * (2.0 * std::f64::consts::PI).sqrt()).ln();
    }
    -(0.5 * libm::erfc(sigmas / std::f64::consts::SQRT_2)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn surprise_is_the_normal_tail() {
        assert!((surprise(0.0) - 2f64.ln()).abs() < 1e-12);
        // Q(3) = 1.349898e-3.
        assert!((surprise(3.0) + 1.349898e-3f64.ln()).abs() < 1e-6);
        assert!((surprise(30.0) - surprise(30.0 + 1e-9)).abs() < 2e-3);
    }

    #[test]
    fn a_disc_keeps_the_spread_of_white_noise_up_to_the_border() {
        let map = Array2::from_elem((9, 9), 1f32);
        let smooth = smoothed(map.view(), 1.5);
        assert_eq!((smooth[[4, 4]], smooth[[0, 0]]), (3.0, 2.0));
        assert!((smoothed(map.view(), 2.3)[[4, 4]] - 21f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn what_neighbours_share_is_counted() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let white = Array2::from_shape_fn((60, 60), |_| StandardNormal.sample(&mut random));
        assert!((relation(white.view()) - 1.0).abs() < 0.3);
        let lumps = Array2::from_shape_fn((60, 60), |(y, x)| white[[y / 3 * 3, x / 3 * 3]]);
        assert!(relation(lumps.view()) > 4.0);
    }
}
