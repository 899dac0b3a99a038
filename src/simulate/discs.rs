//! The positions of anomalies: discs and single pixels that neither overlap nor leave the specimen.

use anyhow::{Result, bail};
use rand::RngExt;

use super::random::{Purpose, Randomness};
use crate::config::{Outline, Places};

/// Normal pixels between two discs, so that their spatial means do not mix; fewer where there is no room.
const GAPS_PX: [f64; 4] = [3.0, 2.0, 1.0, 0.0];
const TRIES: usize = 20_000;

/// A disc: the pixels whose centres lie within `radius` of `(y, x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Disc {
    pub y: f64,
    pub x: f64,
    /// Pixels.
    pub radius: f64,
    /// The index of its anomaly, from 0.
    pub anomaly: usize,
}

impl Disc {
    /// True for the pixel `(y, x)` of the disc.
    pub fn holds(&self, y: usize, x: usize) -> bool {
        let (dy, dx) = (y as f64 - self.y, x as f64 - self.x);
        dy * dy + dx * dx <= self.radius * self.radius
    }
}

/// Places the discs of every anomaly in an image of `[y, x]` pixels; the same discs for the same randomness.
///
/// All pixels of a disc are among the `num_free` pixels for which `is_free(y, x)`.
///
/// # Errors
/// Discs that do not fit; names how many did.
pub fn place_discs(
    anomalies: &[Places],
    [height, width]: [usize; 2],
    num_free: usize,
    is_free: impl Fn(usize, usize) -> bool,
    randomness: Randomness,
) -> Result<Vec<Disc>> {
    let mut random = randomness.stream(Purpose::Discs, 0);
    let mut placed: Vec<Disc> = Vec::new();
    for (anomaly, options) in anomalies.iter().enumerate() {
        let [low, high] = match options.shape {
            Outline::Disc => options.radius_px,
            Outline::Pixel => [0.0, 0.0],
        };
        let wanted = options.concentration.map(|share| share * num_free as f64);
        let mut covered = 0.0;
        let mut count = 0;
        loop {
            let mut radius = low + (high - low) * random.random::<f64>();
            match wanted {
                // A disc of less than half a pixel may contain no pixel's centre.
                Some(wanted) if wanted - covered < 0.5 => break,
                Some(wanted) => radius = radius.min(((wanted - covered) / std::f64::consts::PI).sqrt()),
                None if count == options.count => break,
                None => {}
            }
            let center = |length: usize, random: &mut rand_chacha::ChaCha8Rng| {
                let room = length as f64 - 1.0 - 2.0 * radius;
                // A disc wider than the image covers its whole width: in a line scan discs are segments.
                let at = if room > 0.0 { radius + room * random.random::<f64>() } else { 0.5 * (length as f64 - 1.0) };
                if radius < low || radius == 0.0 { at.round() } else { at }
            };
            let mut candidate = |gap: f64| {
                (0..TRIES).find_map(|_| {
                    let (y, x) = (center(height, &mut random), center(width, &mut random));
                    let disc = Disc { y, x, radius, anomaly };
                    let apart = |d: &Disc| {
                        let distance = (d.y - y).hypot(d.x - x);
                        distance >= (d.radius + radius + gap).max(1.0)
                    };
                    let fits = placed.iter().all(apart) && pixels(&disc, [height, width]).all(|(y, x)| is_free(y, x));
                    fits.then_some(disc)
                })
            };
            let Some(disc) = GAPS_PX.iter().find_map(|&gap| candidate(gap)) else {
                bail!(
                    "anomaly {} has room for {count} discs only among {num_free} of the {height} x {width} pixels: \
                     ask for fewer or smaller ones, or enlarge the image",
                    anomaly + 1
                );
            };
            covered += pixels(&disc, [height, width]).count() as f64;
            placed.push(disc);
            count += 1;
        }
    }
    Ok(placed)
}

/// The pixels `(y, x)` of a disc.
fn pixels(disc: &Disc, [height, width]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> + use<'_> {
    let near = |center: f64, size: usize| {
        (center - disc.radius).max(0.0) as usize..size.min((center + disc.radius) as usize + 2)
    };
    let columns = near(disc.x, width);
    near(disc.y, height).flat_map(move |y| columns.clone().map(move |x| (y, x))).filter(|&(y, x)| disc.holds(y, x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anomaly(count: usize, concentration: Option<f64>) -> Places {
        Places { shape: Outline::Disc, count, radius_px: [2.2, 4.2], concentration }
    }

    /// Discs in an image that is all specimen.
    fn place(anomalies: &[Places], size: [usize; 2], randomness: Randomness) -> Result<Vec<Disc>> {
        place_discs(anomalies, size, size[0] * size[1], |_, _| true, randomness)
    }

    #[test]
    fn discs_lie_inside_and_apart() {
        let anomalies = [anomaly(6, None), anomaly(4, None)];
        let discs = place(&anomalies, [64, 80], Randomness { seed: 1, cube: 2 }).unwrap();
        assert_eq!(discs.iter().filter(|d| d.anomaly == 0).count(), 6);
        assert_eq!(discs.len(), 10);
        for (i, a) in discs.iter().enumerate() {
            assert!(a.y - a.radius >= 0.0 && a.x + a.radius <= 79.0);
            assert!(discs[..i].iter().all(|b| (a.y - b.y).hypot(a.x - b.x) > a.radius + b.radius + 2.9));
        }
    }

    #[test]
    fn a_concentration_is_met() {
        for share in [0.001, 0.015, 0.05] {
            let discs = place(&[anomaly(0, Some(share))], [96, 96], Randomness { seed: 5, cube: 0 }).unwrap();
            let covered: usize = discs.iter().map(|d| pixels(d, [96, 96]).count()).sum();
            let wanted = share * 9216.0;
            assert!((covered as f64 - wanted).abs() <= 4.0 + 0.02 * wanted, "{covered} of {wanted}");
        }
    }

    #[test]
    fn too_many_are_refused_and_a_line_scan_has_segments() {
        let message = place(&[anomaly(50, None)], [20, 20], Randomness { seed: 1, cube: 0 }).unwrap_err();
        assert!(message.to_string().contains("anomaly 1 has room for"));
        let line = place(&[anomaly(2, None)], [1, 100], Randomness { seed: 1, cube: 0 }).unwrap();
        assert!(line.iter().all(|d| d.y == 0.0 && pixels(d, [1, 100]).count() >= 3));
    }

    #[test]
    fn single_pixels_lie_on_the_specimen_only_at_any_concentration() {
        for share in [0.01, 0.3] {
            let pixel = Places { shape: Outline::Pixel, ..anomaly(0, Some(share)) };
            let free = |y: usize, x: usize| !(y + x).is_multiple_of(5) && y > 3;
            let num_free = (0..1600).filter(|i| free(i / 40, i % 40)).count();
            let randomness = Randomness { seed: 5, cube: 0 };
            let discs = place_discs(&[pixel], [40, 40], num_free, free, randomness).unwrap();
            let mut places: Vec<(usize, usize)> = discs.iter().flat_map(|disc| pixels(disc, [40, 40])).collect();
            places.sort_unstable();
            places.dedup();
            assert!(places.iter().all(|&(y, x)| free(y, x)));
            assert_eq!((places.len(), discs.len()), ((share * num_free as f64).round() as usize, places.len()));
        }
    }
}
