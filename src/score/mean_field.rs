//! The posterior odds of each pixel given its own spectrum and its neighbours: anomalies are areas, chance is
//! scattered.

use ndarray::{Array2, ArrayView2, Axis as Dim};
use rayon::prelude::*;

use crate::bands::WithHalo;
use crate::cube::neighbourhood;

/// Log odds that each of eight neighbours adds where it is certainly anomalous, and subtracts where it certainly is not.
const COUPLING: f64 = 0.6;
/// Weight of all neighbours together, in a field and in a scan of one line; at a border fewer share it.
const NEIGHBOURS: [f64; 2] = [8.0, 4.0];
/// Rounds of the fixed-point iteration.
const ROUNDS: usize = 10;
/// Log odds are clamped to this: a probability does not change any more beyond.
const CERTAIN: f64 = 50.0;

/// The posterior log odds `[y, x]` that each pixel is anomalous; on return `belief` holds their probabilities.
///
/// `evidence` `[y, x]` is the log likelihood ratio of each pixel's own spectrum, NaN where there is none; `belief`
/// holds the probabilities to start from. Both are a rank's band of a map, to which `with_halo` adds a halo of one
/// line; `line_scan` says whether the cube is one line. The result is the same for any number of ranks and threads.
///
/// # Source
/// The mean-field solution of an Ising prior with eight neighbours: Besag, J. R. Stat. Soc. B 48 (1986) 259, for the
/// prior; Zhang, IEEE Trans. Signal Process. 40 (1992) 2570, for the mean field. Each round moves half way.
pub fn mean_field(
    evidence: ArrayView2<f32>,
    belief: &mut Array2<f32>,
    line_scan: bool,
    with_halo: impl Fn(ArrayView2<f32>) -> WithHalo,
) -> Array2<f32> {
    let mut odds = Array2::from_elem(evidence.dim(), f32::NAN);
    for _ in 0..ROUNDS {
        // From -1, normal, to 1, anomalous; 0 where nothing is known.
        let spin = ndarray::Zip::from(&*belief)
            .and(evidence)
            .map_collect(|&q, e| if e.is_nan() { 0.0 } else { 2.0 * q - 1.0 });
        let WithHalo { map, own: lines } = with_halo(spin.view());
        odds.axis_iter_mut(Dim(0)).into_par_iter().zip(belief.axis_iter_mut(Dim(0))).enumerate().for_each(
            |(y, (mut odds, mut belief))| {
                for (x, (odds, belief)) in odds.iter_mut().zip(&mut belief).enumerate() {
                    let own = f64::from(evidence[[y, x]]);
                    let weight = COUPLING * NEIGHBOURS[usize::from(line_scan)];
                    let sum =
                        (own + weight * mean_of_neighbours(map.view(), lines.start + y, x)).clamp(-CERTAIN, CERTAIN);
                    *odds = sum as f32;
                    let posterior = 1.0 / (1.0 + (-sum).exp());
                    *belief = (0.5 * (f64::from(*belief) + posterior)) as f32;
                    if own.is_nan() {
                        *belief = 0.0;
                    }
                }
            },
        );
    }
    for (belief, &odds) in belief.iter_mut().zip(&odds) {
        *belief = if odds.is_nan() { 0.0 } else { (1.0 / (1.0 + (-f64::from(odds)).exp())) as f32 };
    }
    odds
}

/// The mean over the neighbours that a pixel has.
fn mean_of_neighbours(map: ArrayView2<f32>, y: usize, x: usize) -> f64 {
    let (height, width) = map.dim();
    let (mut sum, mut count) = (0.0, 0.0);
    for ny in neighbourhood(y, 1, height) {
        for nx in neighbourhood(x, 1, width) {
            sum += f64::from(map[[ny, nx]]);
            count += 1.0;
        }
    }
    (sum - f64::from(map[[y, x]])) / f64::max(count - 1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn an_area_is_found_that_single_pixels_do_not_show() {
        let mut random = ChaCha8Rng::seed_from_u64(4);
        let truth = Array2::from_shape_fn((48, 48), |(y, x)| (y as f64 - 20.0).hypot(x as f64 - 30.0) <= 4.2);
        let strength = 2.5f64;
        let evidence = truth.mapv(|inside| {
            let noise: f64 = StandardNormal.sample(&mut random);
            let projection = noise + if inside { strength } else { 0.0 };
            (strength * projection - 0.5 * strength * strength) as f32
        });
        let errors = |odds: &Array2<f32>| {
            let pairs = odds.iter().zip(&truth);
            pairs.filter(|(odds, truth)| (**odds > 0.0) != **truth).count()
        };
        let mut belief = truth.mapv(|inside| f32::from(u8::from(inside)));
        let odds = mean_field(evidence.view(), &mut belief, false, WithHalo::whole);
        assert!(errors(&evidence) > 150);
        assert!(errors(&odds) < 8, "{}", errors(&odds));
    }

    #[test]
    fn an_ignored_pixel_has_no_odds_and_no_influence() {
        let mut evidence = Array2::from_elem((3, 3), 5.0f32);
        evidence[[1, 1]] = f32::NAN;
        let mut belief = Array2::from_elem((3, 3), 0.5f32);
        let odds = mean_field(evidence.view(), &mut belief, false, WithHalo::whole);
        assert!(odds[[1, 1]].is_nan() && belief[[1, 1]] == 0.0);
        // A corner has three neighbours, one of them unknown.
        assert!((odds[[0, 0]] - (5.0 + 0.6 * 8.0 * 2.0 / 3.0)).abs() < 0.1);
    }
}
