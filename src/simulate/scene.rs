//! One simulated cube, row by row.

use anyhow::Result;
use ndarray::Array2;

use super::detector::{Detector, SPREAD};
use super::discs::{place_discs, Disc};
use super::material::bismuth_ferrite;
use super::random::{Purpose, Randomness};
use super::specimen::{Place, Specimen};
use super::spectra::{Component, Grid};
use crate::config::{Anomaly, AnomalyKind, Places, SceneOptions};
use crate::cube::Axis;

/// What an anomaly does to the specimen's edges.
enum Change {
    /// The edge of this index gives way to these orders of scattering.
    Replaced(usize, [Component; 3]),
    /// The edge of this index is multiplied.
    Scaled(usize, f64),
}

/// A cube that is never held: any row can be made by itself, on any rank.
pub struct Scene {
    shape: [usize; 3],
    grid: Grid,
    randomness: Randomness,
    specimen: Specimen,
    detector: Detector,
    background: Component,
    edges: Vec<[Component; 3]>,
    changes: Vec<Change>,
    discs: Vec<Disc>,
    /// Electrons per unit of the components.
    electrons: f64,
}

impl Scene {
    /// Prepares the scene; `cube` is its place among the cubes of a configuration and part of its random numbers.
    /// # Errors
    /// Options that cannot be simulated, discs that do not fit; the message says what to change.
    pub fn new(options: &SceneOptions, cube: u64) -> Result<Scene> {
        options.validate()?;
        let [height, width, channels] = options.shape;
        let material = bismuth_ferrite();
        let randomness = Randomness {
            seed: options.seed,
            cube,
        };
        let grid = Grid {
            offset_ev: options.energy_offset_ev,
            dispersion_ev: options.dispersion_ev,
            channels,
        };
        let edge = |index: usize, shift_ev: f64| {
            Component::edge(&material, &material.edges[index], shift_ev, grid)
        };
        let place_of = |element: &str| {
            material
                .edges
                .iter()
                .position(|edge| edge.element == element)
        };
        let changes = options.anomalies.iter().filter_map(|anomaly| {
            Some(match anomaly.kind {
                AnomalyKind::Shift => {
                    let iron = place_of("Fe")?;
                    Change::Replaced(iron, edge(iron, anomaly.amount))
                }
                AnomalyKind::Oxygen => Change::Scaled(place_of("O")?, 1.0 - anomaly.amount),
                _ => return None,
            })
        });
        let places: Vec<Places> = options.anomalies.iter().map(Anomaly::places).collect();
        let mut scene = Scene {
            shape: options.shape,
            grid,
            randomness,
            specimen: Specimen::new(
                &material,
                randomness,
                height,
                options.thickness,
                options.energy_drift_ev,
            ),
            detector: Detector::new(
                channels,
                options.gain,
                options.read_noise,
                options.spike_rate,
                randomness,
            ),
            background: Component::background(&material, grid),
            edges: (0..material.edges.len())
                .map(|index| edge(index, 0.0))
                .collect(),
            changes: changes.collect(),
            discs: place_discs(
                &places,
                [height, width],
                height * width,
                |_, _| true,
                randomness,
            )?,
            electrons: 1.0,
        };
        let mean = Place {
            thickness: options.thickness,
            background: 1.0,
            edges: vec![1.0; scene.edges.len()],
        };
        let mut expected = vec![0.0; channels + 2 * SPREAD];
        scene.sampled(0.0).mix(&mean, None, 1.0, &mut expected);
        let total: f64 = expected[SPREAD..SPREAD + channels]
            .iter()
            .map(|&v| v as f64)
            .sum();
        scene.electrons = options.dose / total;
        Ok(scene)
    }

    /// `[y, x, energy]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The energy axis, eV.
    pub fn energy(&self) -> Axis {
        Axis {
            name: "Energy loss".into(),
            units: "eV".into(),
            scale: self.grid.dispersion_ev,
            offset: self.grid.offset_ev,
            size: self.grid.channels,
            navigate: false,
        }
    }

    /// Row `y`: counts `[x, energy]` in ADU, and the truth of each pixel, 0 or the anomaly's place in the list from 1.
    pub fn row(&self, y: usize) -> (Array2<f32>, Vec<i32>) {
        let [_, width, channels] = self.shape;
        let line = self.specimen.line(y);
        let spectra = self.sampled(line.energy_drift_ev);
        let mut counts = Array2::zeros((width, channels));
        let mut truth = vec![0; width];
        let mut expected = vec![0.0; channels + 2 * SPREAD];
        for (x, (mut out, truth)) in counts.outer_iter_mut().zip(&mut truth).enumerate() {
            let anomaly = self
                .discs
                .iter()
                .find(|disc| disc.holds(y, x))
                .map(|disc| disc.anomaly);
            *truth = anomaly.map_or(0, |index| index as i32 + 1);
            let place = self.specimen.place(y, x, &line);
            spectra.mix(&place, anomaly, self.electrons, &mut expected);
            let mut random = self
                .randomness
                .stream(Purpose::Pixel, (y * width + x) as u64);
            let out = out
                .as_slice_mut()
                .expect("a row of a new array is contiguous");
            self.detector.count(&mut expected, &mut random, out);
        }
        (counts, truth)
    }

    /// Every component at one energy drift, on the channels and the detector's margins.
    fn sampled(&self, drift_ev: f64) -> LineSpectra<'_> {
        let sample = |component: &Component| {
            let mut out = vec![0.0; self.grid.channels + 2 * SPREAD];
            component.sample(drift_ev, SPREAD, &mut out);
            out
        };
        let replaced = |change: &Change| match change {
            Change::Replaced(_, orders) => Some(orders.each_ref().map(sample)),
            Change::Scaled(..) => None,
        };
        LineSpectra {
            background: sample(&self.background),
            edges: self
                .edges
                .iter()
                .map(|orders| orders.each_ref().map(sample))
                .collect(),
            replacements: self.changes.iter().map(replaced).collect(),
            changes: &self.changes,
        }
    }
}

/// The components as one scan line sees them.
struct LineSpectra<'a> {
    background: Vec<f32>,
    edges: Vec<[Vec<f32>; 3]>,
    /// By anomaly.
    replacements: Vec<Option<[Vec<f32>; 3]>>,
    changes: &'a [Change],
}

impl LineSpectra<'_> {
    /// The electrons expected at a place, with the change that `anomaly` makes.
    fn mix(&self, place: &Place, anomaly: Option<usize>, electrons: f64, out: &mut [f32]) {
        let background = (electrons * place.background) as f32;
        for (value, &component) in out.iter_mut().zip(&self.background) {
            *value = background * component;
        }
        for (index, (orders, &amount)) in self.edges.iter().zip(&place.edges).enumerate() {
            let (mut orders, mut amount) = (orders, electrons * amount);
            match anomaly.map(|a| (&self.changes[a], &self.replacements[a])) {
                Some((Change::Replaced(changed, _), Some(other))) if *changed == index => {
                    orders = other
                }
                Some((Change::Scaled(changed, factor), _)) if *changed == index => amount *= factor,
                _ => {}
            }
            let t = place.thickness;
            let [a, b, c] = [amount, amount * t, amount * 0.5 * t * t].map(|v| v as f32);
            let [single, once, twice] = orders.each_ref();
            for (((value, &s), &o), &d) in out.iter_mut().zip(single).zip(once).zip(twice) {
                *value += a * s + b * o + c * d;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::noise::NoiseStatistics;
    use ndarray::{s, Array3};

    fn anomaly(kind: AnomalyKind, amount: f64) -> Anomaly {
        Anomaly {
            kind,
            amount,
            shape: crate::config::Shape::Disc,
            discs: 2,
            radius_px: [2.2, 4.2],
            concentration: None,
        }
    }

    fn options() -> SceneOptions {
        SceneOptions {
            shape: [24, 40, 160],
            dispersion_ev: 2.5,
            seed: 11,
            anomalies: vec![
                anomaly(AnomalyKind::Shift, 5.0),
                anomaly(AnomalyKind::Oxygen, 0.3),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn rows_do_not_depend_on_the_order_in_which_they_are_made() {
        let forward = Scene::new(&options(), 0).unwrap();
        let rows: Vec<_> = (0..24).map(|y| forward.row(y)).collect();
        let other = Scene::new(&options(), 0).unwrap();
        for y in (0..24).rev() {
            assert_eq!(other.row(y), rows[y]);
        }
        assert_ne!(Scene::new(&options(), 1).unwrap().row(0), rows[0]);
    }

    #[test]
    fn the_dose_is_what_was_asked_and_truth_numbers_the_anomalies() {
        let scene = Scene::new(&options(), 0).unwrap();
        let (mut total, mut kinds) = (0.0, [0; 3]);
        for y in 0..24 {
            let (counts, truth) = scene.row(y);
            total += counts.iter().map(|&v| v as f64).sum::<f64>();
            truth.iter().for_each(|&t| kinds[t as usize] += 1);
        }
        let mean = total / (24.0 * 40.0);
        assert!((mean / 85_000.0 - 1.0).abs() < 0.1, "{mean}");
        // Two discs of radius 2.2 to 4.2 hold 2 * 15 to 2 * 56 pixels.
        assert!(
            kinds[1..].iter().all(|&n| (20..120).contains(&n)),
            "{kinds:?}"
        );
    }

    #[test]
    fn the_smallest_cubes_are_made_too() {
        for shape in [[1, 1, 1], [1, 5, 3], [4, 1, 2]] {
            let small = SceneOptions {
                shape,
                ..Default::default()
            };
            let (counts, truth) = Scene::new(&small, 0).unwrap().row(0);
            assert!(counts.iter().all(|v| v.is_finite()));
            assert_eq!(
                (counts.dim(), truth),
                ((shape[1], shape[2]), vec![0; shape[1]])
            );
        }
    }

    /// Mean spectrum of the pixels with this truth.
    fn mean_spectrum(scene: &Scene, label: i32) -> Vec<f64> {
        let mut sum = vec![0.0; scene.shape()[2]];
        for y in 0..scene.shape()[0] {
            let (counts, truth) = scene.row(y);
            for (spectrum, _) in counts.outer_iter().zip(truth).filter(|(_, t)| *t == label) {
                sum.iter_mut()
                    .zip(spectrum)
                    .for_each(|(s, &v)| *s += v as f64);
            }
        }
        let total: f64 = sum.iter().sum();
        sum.iter().map(|v| v / total).collect()
    }

    #[test]
    fn anomalies_change_their_own_edge() {
        let mut options = options();
        options.energy_drift_ev = 0.0;
        options.anomalies[0].amount = 10.0;
        let scene = Scene::new(&options, 0).unwrap();
        let [normal, shifted, deficient] = [0, 1, 2].map(|label| mean_spectrum(&scene, label));
        let energy = scene.energy();
        let sum =
            |spectrum: &[f64], low, high| spectrum[energy.indices(low, high)].iter().sum::<f64>();
        // The L3 line leaves 706-713 for 716-723 eV.
        assert!(sum(&shifted, 706.0, 713.0) < 0.9 * sum(&normal, 706.0, 713.0));
        assert!(sum(&shifted, 717.0, 723.0) > 1.05 * sum(&normal, 717.0, 723.0));
        let above_background =
            |spectrum: &[f64]| sum(spectrum, 532.0, 560.0) / sum(spectrum, 480.0, 520.0);
        let oxygen = above_background(&deficient) / above_background(&normal);
        assert!((0.75..0.93).contains(&oxygen), "{oxygen}");
    }

    #[test]
    fn the_noise_model_finds_the_simulated_gain() {
        let mut options = options();
        options.shape = [24, 40, 480];
        options.dispersion_ev = 400.0 / 480.0;
        options.gain = 4.0;
        let scene = Scene::new(&options, 0).unwrap();
        let mut raw = Array3::zeros((24, 40, 480));
        for y in 0..24 {
            raw.slice_mut(s![y, .., ..]).assign(&scene.row(y).0);
        }
        let mut statistics = NoiseStatistics::default();
        statistics.add(raw.view());
        let model = statistics.fit();
        // The spread of the light leaves .495 of the variance in a channel.
        assert!((model.gain / (4.0 * 0.495) - 1.0).abs() < 0.1, "{model:?}");
    }
}
