//! What lies where in the field: one crystal, or phases, grains and particles with borders between them.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::random::{Purpose, Randomness};
use crate::config;

/// Particles: their radii, the share of the field that they cover, and how far they may overlap.
const RADIUS_PX: [f64; 2] = [4.0, 9.0];
const COVERED: f64 = 0.3;
const APART: f64 = 0.85;
const TRIES: usize = 4000;
/// What a particle adds to the film under it, in its middle.
const THICKER: f64 = 0.5;
const MORE_BACKGROUND: f64 = 0.6;
/// The film holds so much of each edge, relative to a particle.
const IN_FILM: f64 = 0.05;
/// Particles differ in the amount of each element by this, rms, relative to its mean.
const PARTICLE_RMS: f64 = 0.04;
/// Width of a border as the probe sees it, pixels.
const BORDER_PX: f64 = 0.7;
/// Amplitude of the wave of an interface, relative to the width of the field.
const WAVE: f64 = 0.04;
/// Beyond the interface: the background and each edge, in turn, relative to this side, and the shift of the anomalous edge.
const OTHER_BACKGROUND: f64 = 1.15;
const OTHER_EDGES: [f64; 3] = [0.75, 0.5, 1.8];
const OTHER_SHIFT_EV: f64 = 0.6;
/// Pixels of a grain on average, and how grains differ, rms: edges relative to their mean, background, shift.
const GRAIN_PX: f64 = 450.0;
const GRAIN_EDGES: f64 = 0.07;
const GRAIN_BACKGROUND: f64 = 0.03;
const GRAIN_SHIFT_EV: f64 = 0.1;

/// Amounts at one place of the field, relative to those of one crystal.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    pub thickness: f64,
    pub background: f64,
    /// Of each of the material's edges.
    pub edges: Vec<f64>,
    /// How much higher the anomalous edge lies, eV.
    pub shift_ev: f64,
}

/// A field whose composition depends on the place.
pub enum Layout {
    Bulk { edges: usize },
    Particles { particles: Vec<Particle>, edges: usize },
    Interface { width: f64, rows: f64, phase: f64, edges: usize },
    Grains(Vec<Grain>),
}

/// A sphere on the film.
pub struct Particle {
    y: f64,
    x: f64,
    radius: f64,
    edges: Vec<f64>,
}

/// A grain: all places that are nearer to its seed than to another's.
pub struct Grain {
    y: f64,
    x: f64,
    local: Local,
}

impl Layout {
    /// The layout of a field of `[y, x]` pixels that shows a material with so many `edges`.
    pub fn new(kind: config::Layout, size: [usize; 2], edges: usize, randomness: Randomness) -> Layout {
        let mut random = randomness.stream(Purpose::Layout, 0);
        let [rows, columns] = size.map(|pixels| pixels as f64);
        match kind {
            config::Layout::Bulk => Layout::Bulk { edges },
            config::Layout::Particles => Layout::Particles { particles: particles(size, edges, &mut random), edges },
            config::Layout::Interface => {
                Layout::Interface { width: columns, rows, phase: TAU * random.random::<f64>(), edges }
            }
            config::Layout::Grains => {
                let count = ((rows * columns / GRAIN_PX).round() as usize).max(2);
                Layout::Grains((0..count).map(|_| Grain::new(size, edges, &mut random)).collect())
            }
        }
    }

    /// Amounts at pixel `(y, x)`.
    pub fn at(&self, y: f64, x: f64) -> Local {
        let uniform = |edges: usize| Local { thickness: 1.0, background: 1.0, edges: vec![1.0; edges], shift_ev: 0.0 };
        match self {
            Layout::Bulk { edges } => uniform(*edges),
            Layout::Particles { particles, edges } => {
                let mut local = Local { edges: vec![IN_FILM; *edges], ..uniform(*edges) };
                for particle in particles {
                    let height = particle.height(y, x);
                    local.thickness += THICKER * height;
                    local.background += MORE_BACKGROUND * height;
                    for (amount, own) in local.edges.iter_mut().zip(&particle.edges) {
                        *amount += (1.0 - IN_FILM) * height * own;
                    }
                }
                local
            }
            Layout::Interface { width, rows, phase, edges } => {
                let border = width * (0.5 + WAVE * (5.0 * y / rows + phase).sin());
                let beyond = 1.0 / (1.0 + (-(x - border) / BORDER_PX).exp());
                let mixed = |other: f64| 1.0 + beyond * (other - 1.0);
                Local {
                    thickness: 1.0,
                    background: mixed(OTHER_BACKGROUND),
                    edges: (0..*edges).map(|edge| mixed(OTHER_EDGES[edge % OTHER_EDGES.len()])).collect(),
                    shift_ev: beyond * OTHER_SHIFT_EV,
                }
            }
            Layout::Grains(grains) => blend(grains, y, x),
        }
    }

    /// Whether an anomaly of the material may lie at pixel `(y, x)`: there is enough of it.
    pub fn holds(&self, y: usize, x: usize) -> bool {
        match self {
            Layout::Particles { particles, .. } => {
                particles.iter().any(|particle| particle.distance(y as f64, x as f64) < particle.radius - 0.5)
            }
            _ => true,
        }
    }

    /// The mean amounts over a field of `[y, x]` pixels.
    pub fn mean(&self, [rows, columns]: [usize; 2]) -> Local {
        let mut mean = self.at(0.0, 0.0);
        if let Layout::Bulk { .. } = self {
            return mean;
        }
        // Summed as it goes: a large field has more pixels than should be held.
        mean.edges.fill(0.0);
        (mean.thickness, mean.background, mean.shift_ev) = (0.0, 0.0, 0.0);
        let share = 1.0 / (rows * columns) as f64;
        for i in 0..rows * columns {
            let local = self.at((i / columns) as f64, (i % columns) as f64);
            mean.edges.iter_mut().zip(&local.edges).for_each(|(mean, amount)| *mean += share * amount);
            mean.thickness += share * local.thickness;
            mean.background += share * local.background;
        }
        mean
    }
}

impl Particle {
    fn distance(&self, y: f64, x: f64) -> f64 {
        (y - self.y).hypot(x - self.x)
    }

    /// The height of the sphere, 1 in its middle, with a border as the probe blurs it.
    fn height(&self, y: f64, x: f64) -> f64 {
        let distance = self.distance(y, x);
        let sphere = (1.0 - (distance / (self.radius + BORDER_PX)).powi(2)).max(0.0).sqrt();
        sphere / (1.0 + ((distance - self.radius) / (0.5 * BORDER_PX)).exp())
    }
}

/// Particles at random places, until they cover their share of the field or no more fit.
fn particles([rows, columns]: [usize; 2], edges: usize, random: &mut impl rand::Rng) -> Vec<Particle> {
    let mut placed: Vec<Particle> = Vec::new();
    let mut covered = 0.0;
    for _ in 0..TRIES {
        if covered >= COVERED * (rows * columns) as f64 {
            break;
        }
        let radius = RADIUS_PX[0] + (RADIUS_PX[1] - RADIUS_PX[0]) * random.random::<f64>();
        let (y, x) = (rows as f64 * random.random::<f64>(), columns as f64 * random.random::<f64>());
        let own: Vec<f64> = (0..edges).map(|_| 1.0 + PARTICLE_RMS * normal(random)).collect();
        if placed.iter().all(|other| other.distance(y, x) > APART * (other.radius + radius)) {
            covered += 0.5 * TAU * radius * radius;
            placed.push(Particle { y, x, radius, edges: own });
        }
    }
    placed
}

impl Grain {
    fn new([rows, columns]: [usize; 2], edges: usize, random: &mut impl rand::Rng) -> Grain {
        let (y, x) = (rows as f64 * random.random::<f64>(), columns as f64 * random.random::<f64>());
        let mut around = |mean: f64, rms: f64| mean + rms * normal(random);
        let local = Local {
            thickness: 1.0,
            background: around(1.0, GRAIN_BACKGROUND),
            edges: (0..edges).map(|_| around(1.0, GRAIN_EDGES)).collect(),
            shift_ev: around(0.0, GRAIN_SHIFT_EV),
        };
        Grain { y, x, local }
    }
}

/// The grain at a place, mixed with the next one where a border is near.
fn blend(grains: &[Grain], y: f64, x: f64) -> Local {
    let distance = |grain: &Grain| (y - grain.y).hypot(x - grain.x);
    let nearest = grains.iter().map(distance).fold(f64::INFINITY, f64::min);
    let weights: Vec<f64> = grains.iter().map(|grain| (-(distance(grain) - nearest) / BORDER_PX).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mixed = |of: &dyn Fn(&Local) -> f64| {
        grains.iter().zip(&weights).map(|(grain, weight)| weight * of(&grain.local)).sum::<f64>() / total
    };
    Local {
        thickness: 1.0,
        background: mixed(&|local| local.background),
        edges: (0..grains[0].local.edges.len()).map(|edge| mixed(&|local| local.edges[edge])).collect(),
        shift_ev: mixed(&|local| local.shift_ev),
    }
}

fn normal(random: &mut impl rand::Rng) -> f64 {
    StandardNormal.sample(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [64, 80];

    fn field(kind: config::Layout) -> (Layout, Vec<Local>) {
        let layout = Layout::new(kind, SIZE, 2, Randomness { seed: 4, cube: 0 });
        let all = (0..SIZE[0] * SIZE[1]).map(|i| layout.at((i / SIZE[1]) as f64, (i % SIZE[1]) as f64)).collect();
        (layout, all)
    }

    #[test]
    fn particles_cover_their_share_of_a_film_that_holds_next_to_nothing() {
        let (layout, all) = field(config::Layout::Particles);
        let share =
            |holds: &dyn Fn(&Local) -> bool| all.iter().filter(|local| holds(local)).count() as f64 / all.len() as f64;
        let (film, material) = (share(&|local| local.edges[0] < 0.1), share(&|local| local.edges[0] > 0.5));
        assert!(film > 0.5 && film < 0.85 && material > 0.12, "{film} {material}");
        let inside = (0..all.len()).filter(|i| layout.holds(i / SIZE[1], i % SIZE[1]));
        assert!(inside.into_iter().all(|i| all[i].edges[0] > 0.2));
        let mean = layout.mean(SIZE);
        let expected = all.iter().map(|local| local.edges[1]).sum::<f64>() / all.len() as f64;
        assert!((mean.edges[1] - expected).abs() < 1e-9);
    }

    #[test]
    fn an_interface_parts_the_field_in_two() {
        let (_, all) = field(config::Layout::Interface);
        let left = all.iter().filter(|local| local.edges[1] > 0.99).count() as f64 / all.len() as f64;
        let right = all.iter().filter(|local| local.edges[1] < 0.51).count() as f64 / all.len() as f64;
        assert!((left - 0.5).abs() < 0.1 && (right - 0.5).abs() < 0.1, "{left} {right}");
        assert!(all.iter().all(|local| (0.0..=OTHER_SHIFT_EV).contains(&local.shift_ev)));
    }

    #[test]
    fn grains_are_alike_inside_and_differ_from_each_other() {
        let (_, all) = field(config::Layout::Grains);
        let steps = all.windows(2).filter(|pair| (pair[0].edges[0] - pair[1].edges[0]).abs() < 1e-4).count();
        assert!(steps as f64 > 0.6 * all.len() as f64, "{steps}");
        let mean = all.iter().map(|local| local.edges[0]).sum::<f64>() / all.len() as f64;
        let rms = (all.iter().map(|local| (local.edges[0] - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
        assert!((0.02..0.15).contains(&rms), "{rms}");
    }
}
