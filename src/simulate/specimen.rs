//! The specimen and the scan: thickness, atom columns, and the actual position of the probe.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::layout::Layout;
use super::random::{Purpose, Randomness};
use crate::config::{Material, SceneOptions};

/// Correlation length of the random fields, pixels.
const CORRELATION_PX: f64 = 18.0;
const BACKGROUND_RANGE: f64 = 0.03;
/// Drift of the probe over the whole scan, pixels.
const PROBE_DRIFT_PX: f64 = 2.0;
const LINE_JITTER_PX: f64 = 0.25;
/// Energy jitter of a scan line, rms, as a share of the energy drift.
const LINE_ENERGY_SHARE: f64 = 0.05;
const WAVES: usize = 48;
/// Points per side of the unit cell at which the range of the columns' signal is searched.
const CELL_POINTS: usize = 48;

/// A smooth random field of mean 0 and rms 1, defined everywhere: a sum of plane waves with a Gaussian spectrum.
struct Field {
    /// Wave vector (y, x) in radians per pixel, and phase.
    waves: Vec<[f64; 3]>,
}

impl Field {
    fn new(random: &mut impl rand::Rng) -> Field {
        let waves = (0..WAVES)
            .map(|_| {
                let k: [f64; 2] = [0; 2].map(|_: i32| StandardNormal.sample(&mut *random));
                [k[0] / CORRELATION_PX, k[1] / CORRELATION_PX, TAU * random.random::<f64>()]
            })
            .collect();
        Field { waves }
    }

    fn at(&self, y: f64, x: f64) -> f64 {
        let sum: f64 = self.waves.iter().map(|[ky, kx, phase]| (ky * y + kx * x + phase).cos()).sum();
        sum * (2.0 / self.waves.len() as f64).sqrt()
    }
}

/// The atom columns that modulate the signal of one edge over the unit cell.
struct Columns {
    sites: Vec<[f64; 2]>,
    sigma: f64,
    mean: f64,
    half_range: f64,
}

impl Columns {
    fn new(sites: &[[f64; 2]], sigma: f64) -> Columns {
        let mut columns = Columns { sites: sites.to_vec(), sigma, mean: 0.0, half_range: 1.0 };
        let (mut low, mut high, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
        for i in 0..CELL_POINTS * CELL_POINTS {
            let position = [i / CELL_POINTS, i % CELL_POINTS].map(|k| k as f64 / CELL_POINTS as f64);
            let value = columns.density(position);
            (low, high, sum) = (low.min(value), high.max(value), sum + value);
        }
        columns.mean = sum / (CELL_POINTS * CELL_POINTS) as f64;
        columns.half_range = (0.5 * (high - low)).max(f64::MIN_POSITIVE);
        columns
    }

    /// The density of columns at `position`, in units of the cell.
    fn density(&self, position: [f64; 2]) -> f64 {
        let gaussian = |distance: f64| {
            let wrapped = distance - distance.round();
            // The periodic images on either side matter where columns are wide.
            [-1.0, 0.0, 1.0].iter().map(|image| (-0.5 * ((wrapped + image) / self.sigma).powi(2)).exp()).sum::<f64>()
        };
        self.sites.iter().map(|site| gaussian(position[0] - site[0]) * gaussian(position[1] - site[1])).sum()
    }
}

/// The drift and jitter of one scan line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// How much too high energies read, eV.
    pub energy_drift_ev: f64,
    /// Error of the probe's position along x, pixels.
    pub jitter_px: f64,
}

/// The specimen under the probe at one pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbedPoint {
    /// In inelastic mean free paths.
    pub thickness: f64,
    /// Amount of the background, relative to the mean specimen.
    pub background: f64,
    /// Amount of each of the material's edges, relative to the mean specimen.
    pub edges: Vec<f64>,
    /// How much higher (eV) the anomalous edge lies here without being an anomaly.
    pub benign_shift_ev: f64,
}

/// Everything about the specimen and the scan that is not noise.
pub struct Specimen {
    scan: Randomness,
    rows: f64,
    mean_thickness: f64,
    thickness_rms: f64,
    background_range: f64,
    benign_shift_ev: f64,
    energy_drift_ev: f64,
    drift_phase: f64,
    thickness: Field,
    background: Field,
    shift: Field,
    layout: Layout,
    columns: Vec<Columns>,
    cell_px: f64,
    /// From the axes of the scan to those of the unit cell: sine and cosine.
    rotation: (f64, f64),
    modulation: f64,
}

impl Specimen {
    /// The specimen of `material` that `options` ask for, and the drifts of its `scan`.
    pub fn new(material: &Material, randomness: Randomness, scan: Randomness, options: &SceneOptions) -> Specimen {
        let varied = |value: f64| if options.homogeneous { 0.0 } else { value };
        let mut random = randomness.stream(Purpose::Specimen, 0);
        // The first number of this stream once was the drift's; skipping it keeps earlier cubes reproducible.
        let _: f64 = random.random();
        Specimen {
            scan,
            rows: options.shape[0] as f64,
            mean_thickness: options.thickness,
            thickness_rms: varied(options.thickness_rms),
            background_range: varied(BACKGROUND_RANGE),
            benign_shift_ev: options.benign_shift_ev,
            energy_drift_ev: options.energy_drift_ev,
            drift_phase: TAU * scan.stream(Purpose::Specimen, 0).random::<f64>(),
            thickness: Field::new(&mut random),
            background: Field::new(&mut random),
            // Last, so that the other fields keep their random numbers.
            shift: Field::new(&mut random),
            layout: Layout::new(options.layout, [options.shape[0], options.shape[1]], material.edges.len(), randomness),
            columns: material
                .edges
                .iter()
                .map(|edge| Columns::new(&edge.sites, edge.column_sigma_angstrom / material.cell_angstrom))
                .collect(),
            cell_px: material.cell_angstrom / options.pixel_angstrom,
            rotation: options.lattice_degrees.to_radians().sin_cos(),
            modulation: varied(material.lattice_modulation),
        }
    }

    /// What lies where in the field.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The drift and jitter of scan line `y`.
    pub fn line(&self, y: usize) -> Line {
        let mut random = self.scan.stream(Purpose::Line, y as u64);
        let [energy, place]: [f64; 2] = [0; 2].map(|_: i32| StandardNormal.sample(&mut random));
        let slow = 0.5 * (TAU * y as f64 / self.rows + self.drift_phase).sin();
        Line {
            energy_drift_ev: self.energy_drift_ev * (slow + LINE_ENERGY_SHARE * energy),
            jitter_px: LINE_JITTER_PX * place,
        }
    }

    /// The specimen under the probe at pixel `(y, x)` of a scan line.
    pub fn probed(&self, y: usize, x: usize, line: &Line) -> ProbedPoint {
        let done = y as f64 / self.rows;
        let (y, x) = (y as f64, x as f64);
        let local = self.layout.at(y, x);
        let thickness = (self.mean_thickness * (1.0 + self.thickness_rms * self.thickness.at(y, x)))
            .max(0.05 * self.mean_thickness);
        // Single scattering: a thicker specimen has more atoms, but loses electrons to scattering out of the range.
        let amount = thickness / self.mean_thickness * (self.mean_thickness - thickness).exp();
        let background = local.background * amount * (1.0 + self.background_range * self.background.at(y, x).tanh());
        let wandering = if self.benign_shift_ev > 0.0 { self.benign_shift_ev * self.shift.at(y, x) } else { 0.0 };
        let probe_y = y + PROBE_DRIFT_PX * done;
        let probe_x = x + line.jitter_px + PROBE_DRIFT_PX * done * done;
        let (sin, cos) = self.rotation;
        let cell = [(cos * probe_y - sin * probe_x) / self.cell_px, (sin * probe_y + cos * probe_x) / self.cell_px];
        let edges = self.columns.iter().zip(&local.edges).map(|(columns, local)| {
            let relative = (columns.density(cell) - columns.mean) / columns.half_range;
            local * amount * (1.0 + self.modulation * relative)
        });
        ProbedPoint {
            thickness: thickness * local.thickness,
            background,
            edges: edges.collect(),
            benign_shift_ev: wandering + local.shift_ev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MaterialChoice;

    fn specimen() -> Specimen {
        let options = SceneOptions { shape: [200, 200, 1], ..Default::default() };
        let material = MaterialChoice::default().material().unwrap();
        let randomness = Randomness { seed: 3, cube: 0 };
        Specimen::new(&material, randomness, randomness, &options)
    }

    #[test]
    fn fields_have_their_mean_and_spread_and_columns_their_range() {
        let specimen = specimen();
        let line = Line { energy_drift_ev: 0.0, jitter_px: 0.0 };
        let points: Vec<ProbedPoint> =
            (0..400 * 400).step_by(7).map(|i| specimen.probed(i / 400, i % 400, &line)).collect();
        let n = points.len() as f64;
        let mean = points.iter().map(|p| p.thickness).sum::<f64>() / n;
        let rms = (points.iter().map(|p| (p.thickness - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!((mean - 0.55).abs() < 0.02 && (rms / mean - 0.12).abs() < 0.03, "{mean} {rms}");
        let iron: Vec<f64> = points.iter().map(|p| p.edges[1] / p.background).collect();
        let (low, high) = iron.iter().fold((9.0, 0.0), |(l, h): (f64, f64), &v| (l.min(v), h.max(v)));
        assert!((high - low) / 0.70 > 0.9 && (high - low) / 0.70 < 1.2, "{low} {high}");
    }

    #[test]
    fn the_lattice_has_the_period_and_the_angle_that_are_asked_for() {
        let material = MaterialChoice::default().material().unwrap();
        let randomness = Randomness { seed: 3, cube: 0 };
        let line = Line { energy_drift_ev: 0.0, jitter_px: 0.0 };
        for degrees in [0.0, 90.0, 45.0] {
            let options = SceneOptions {
                shape: [200, 200, 1],
                pixel_angstrom: material.cell_angstrom / 8.0,
                lattice_degrees: degrees,
                ..Default::default()
            };
            let specimen = Specimen::new(&material, randomness, randomness, &options);
            let ratio = |y, x| {
                let probed = specimen.probed(y, x, &line);
                probed.edges[1] / probed.edges[0]
            };
            let differs = (0..40).map(|i| (ratio(0, i) - ratio(0, i + 8)).abs()).fold(0.0, f64::max);
            assert_eq!(differs < 1e-9, degrees != 45.0, "{degrees} degrees: {differs}");
        }
    }

    #[test]
    fn the_energy_drifts_by_the_given_amount() {
        let specimen = specimen();
        let drifts: Vec<f64> = (0..200).map(|y| specimen.line(y).energy_drift_ev).collect();
        let range = drifts.iter().fold(f64::MIN, |a, &b| a.max(b)) - drifts.iter().fold(f64::MAX, |a, &b| a.min(b));
        assert!((1.0..1.5).contains(&range), "{range}");
    }
}
