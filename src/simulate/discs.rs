//! Where the anomalies lie: discs that neither overlap nor leave the image.

use anyhow::{bail, Result};
use rand::RngExt;

use super::random::{Purpose, Randomness};
use crate::config::Anomaly;

/// Normal pixels between two discs: their spatial means must not mix.
const GAP_PX: f64 = 3.0;
const TRIES: usize = 20_000;

/// One disc: pixels whose centres lie within `radius` of `(y, x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Disc {
    pub y: f64,
    pub x: f64,
    /// Pixels.
    pub radius: f64,
    /// The anomaly's place in the list, from 0.
    pub anomaly: usize,
}

impl Disc {
    /// True for the pixel `(y, x)` of the disc.
    pub fn holds(&self, y: usize, x: usize) -> bool {
        let (dy, dx) = (y as f64 - self.y, x as f64 - self.x);
        dy * dy + dx * dx <= self.radius * self.radius
    }
}

/// Places the discs of every anomaly in an image of `[y, x]` pixels; the same ones for the same randomness.
/// # Errors
/// Where they do not fit; names how many did.
pub fn place_discs(
    anomalies: &[Anomaly],
    [height, width]: [usize; 2],
    randomness: Randomness,
) -> Result<Vec<Disc>> {
    let mut random = randomness.stream(Purpose::Discs, 0);
    let mut placed: Vec<Disc> = Vec::new();
    for (anomaly, options) in anomalies.iter().enumerate() {
        let [low, high] = options.radius_px;
        let wanted = options
            .concentration
            .map(|share| share * (height * width) as f64);
        let mut covered = 0.0;
        let mut count = 0;
        loop {
            let mut radius = low + (high - low) * random.random::<f64>();
            match wanted {
                // A disc of less than half a pixel may miss every centre.
                Some(wanted) if wanted - covered < 0.5 => break,
                Some(wanted) => {
                    radius = radius.min(((wanted - covered) / std::f64::consts::PI).sqrt())
                }
                None if count == options.discs => break,
                None => {}
            }
            let place = |length: usize, random: &mut rand_chacha::ChaCha8Rng| {
                let room = length as f64 - 1.0 - 2.0 * radius;
                // Where there is no room for a disc it lies across: a line scan has segments.
                let at = if room > 0.0 {
                    radius + room * random.random::<f64>()
                } else {
                    0.5 * (length as f64 - 1.0)
                };
                if radius < low {
                    at.round()
                } else {
                    at
                }
            };
            let candidate = (0..TRIES).find_map(|_| {
                let (y, x) = (place(height, &mut random), place(width, &mut random));
                let apart = |d: &Disc| (d.y - y).hypot(d.x - x) >= d.radius + radius + GAP_PX;
                let disc = Disc {
                    y,
                    x,
                    radius,
                    anomaly,
                };
                placed.iter().all(apart).then_some(disc)
            });
            let Some(disc) = candidate else {
                bail!(
                    "anomaly {} has room for {count} discs only in an image of {height} x {width} pixels: \
                     ask for fewer or smaller ones, or enlarge `shape`",
                    anomaly + 1
                );
            };
            covered += pixels(&disc, [height, width]) as f64;
            placed.push(disc);
            count += 1;
        }
    }
    Ok(placed)
}

fn pixels(disc: &Disc, [height, width]: [usize; 2]) -> usize {
    let rows =
        (disc.y - disc.radius).max(0.0) as usize..height.min((disc.y + disc.radius) as usize + 2);
    rows.map(|y| (0..width).filter(|&x| disc.holds(y, x)).count())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AnomalyKind;

    fn anomaly(discs: usize, concentration: Option<f64>) -> Anomaly {
        Anomaly {
            kind: AnomalyKind::Shift,
            amount: 2.0,
            discs,
            radius_px: [2.2, 4.2],
            concentration,
        }
    }

    #[test]
    fn discs_lie_inside_and_apart() {
        let anomalies = [anomaly(6, None), anomaly(4, None)];
        let discs = place_discs(&anomalies, [64, 80], Randomness { seed: 1, cube: 2 }).unwrap();
        assert_eq!(discs.iter().filter(|d| d.anomaly == 0).count(), 6);
        assert_eq!(discs.len(), 10);
        for (i, a) in discs.iter().enumerate() {
            assert!(a.y - a.radius >= 0.0 && a.x + a.radius <= 79.0);
            assert!(discs[..i]
                .iter()
                .all(|b| (a.y - b.y).hypot(a.x - b.x) > a.radius + b.radius + 2.9));
        }
    }

    #[test]
    fn a_concentration_is_met() {
        for share in [0.001, 0.015, 0.05] {
            let discs = place_discs(
                &[anomaly(0, Some(share))],
                [96, 96],
                Randomness { seed: 5, cube: 0 },
            )
            .unwrap();
            let covered: usize = discs.iter().map(|d| pixels(d, [96, 96])).sum();
            let wanted = share * 9216.0;
            assert!(
                (covered as f64 - wanted).abs() <= 4.0 + 0.02 * wanted,
                "{covered} of {wanted}"
            );
        }
    }

    #[test]
    fn too_many_are_refused_and_a_line_scan_has_segments() {
        let message = place_discs(
            &[anomaly(50, None)],
            [20, 20],
            Randomness { seed: 1, cube: 0 },
        )
        .unwrap_err();
        assert!(message.to_string().contains("anomaly 1 has room for"));
        let line = place_discs(
            &[anomaly(2, None)],
            [1, 100],
            Randomness { seed: 1, cube: 0 },
        )
        .unwrap();
        assert!(line.iter().all(|d| d.y == 0.0 && pixels(d, [1, 100]) >= 3));
    }
}
