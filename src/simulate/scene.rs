//! One simulated cube, row by row.

use anyhow::Result;
use ndarray::{Array2, Array3, s};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::detector::{Detector, SPREAD};
use super::discs::{Disc, place_discs};
use super::expected::Components;
use super::random::{Purpose, Randomness};
use super::specimen::{ProbedPoint, Specimen};
use super::spectra::Grid;
use crate::config::{Anomaly, AnomalyKind, Material, MaterialEdge, Places, Protocol, SceneOptions};
use crate::cube::{Axis, neighbourhood};
use crate::preprocess::mean::mean_row;

/// Side of the spatial mean that is taken before the protocols `post` and `roll` put in anomalies.
pub const AVERAGED_PX: usize = 3;
/// Channels on either side of the edge that `roll` rotates.
///
/// # Source
/// The authors' code: GitHub seyfal/3DCVAE.
const ROLLED: usize = 20;

/// A cube that is never held in memory: any row can be made by itself, on any rank.
pub struct Scene {
    shape: [usize; 3],
    grid: Grid,
    protocol: Protocol,
    scan: Randomness,
    specimen: Specimen,
    detector: Detector,
    components: Components,
    anomalies: Vec<Anomaly>,
    /// By anomaly: the onset of its edge, eV.
    onsets: Vec<f64>,
    discs: Vec<Disc>,
    noiseless: bool,
    /// The specimen's pixel that each pixel of the image shows, C order; `None` where the image is not shuffled.
    origins: Option<Vec<usize>>,
    /// Electrons per unit of the components.
    electrons: f64,
}

impl Scene {
    /// Prepares the scene; `cube` is its index among the cubes of a configuration, and part of its random numbers.
    ///
    /// # Errors
    /// Options that cannot be simulated with `material`, discs that do not fit; the message says what to change.
    pub fn new(options: &SceneOptions, material: &Material, cube: u64) -> Result<Scene> {
        options.validate(material)?;
        let [height, width, channels] = options.shape;
        let randomness = |cube| Randomness { seed: options.seed, cube };
        let scan = randomness(options.scan.unwrap_or(cube));
        let of_specimen = randomness(options.specimen.unwrap_or(cube));
        let grid = Grid { offset_ev: options.energy_offset_ev, dispersion_ev: options.dispersion_ev, channels };
        let spike_rate = match options.protocol {
            Protocol::Phys => options.spike_rate,
            // A run removes spikes before its spatial mean; after it they could not be told from peaks.
            Protocol::Post | Protocol::Roll => 0.0,
        };
        let places: Vec<Places> = options.anomalies.iter().map(Anomaly::places).collect();
        let onset = |edge: Option<&MaterialEdge>| edge.map_or(0.0, |edge| edge.steps[0].energy_ev);
        let specimen = Specimen::new(material, of_specimen, scan, options);
        let holds = |y, x| specimen.layout().holds(y, x);
        let free = (0..height * width).filter(|i| holds(i / width, i % width)).count();
        let discs = place_discs(&places, [height, width], free, holds, scan)?;
        let local = specimen.layout().mean([height, width]);
        let mut scene = Scene {
            shape: options.shape,
            grid,
            protocol: options.protocol,
            scan,
            specimen,
            detector: Detector::new(channels, options.gain, options.read_noise, spike_rate, of_specimen),
            components: Components::new(material, &options.anomalies, grid, SPREAD),
            anomalies: options.anomalies.clone(),
            onsets: options.anomalies.iter().map(|anomaly| onset(anomaly.edge(material))).collect(),
            discs,
            noiseless: options.noiseless,
            origins: options.shuffled.then(|| {
                let mut origins: Vec<usize> = (0..height * width).collect();
                origins.shuffle(&mut scan.stream(Purpose::Shuffle, 0));
                origins
            }),
            electrons: 1.0,
        };
        let mean = ProbedPoint {
            thickness: options.thickness * local.thickness,
            background: local.background,
            edges: local.edges,
            benign_shift_ev: 0.0,
        };
        let mut expected = vec![0.0; channels + 2 * SPREAD];
        let still = scene.components.at_drift(0.0, SPREAD);
        still.mix(&mean, None, 1.0, &mut expected);
        let total: f64 = expected[SPREAD..SPREAD + channels].iter().map(|&v| v as f64).sum();
        scene.electrons = options.dose / total;
        Ok(scene)
    }

    /// `[y, x, energy]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The energy axis, eV.
    pub fn energy(&self) -> Axis {
        Axis::energy_loss(self.grid.offset_ev, self.grid.dispersion_ev, self.grid.channels)
    }

    /// True where rows already are spatial means of [`AVERAGED_PX`] pixels on a side.
    pub fn is_averaged(&self) -> bool {
        self.protocol != Protocol::Phys
    }

    /// Row `y`: counts `[x, energy]` in ADU, and the truth of each pixel: 0, or the number of its anomaly from 1.
    pub fn row(&self, y: usize) -> (Array2<f32>, Vec<i32>) {
        let width = self.shape[1];
        let truth = (0..width)
            .map(|x| self.origin(y, x))
            .map(|[y, x]| self.anomaly_at(y, x).map_or(0, |index| index as i32 + 1))
            .collect();
        let counts = match self.protocol {
            Protocol::Phys => self.counted(y, true, self.noiseless),
            Protocol::Post => {
                let mut mean = self.averaged(y, self.noiseless);
                self.add_differences(y, &mut mean);
                mean
            }
            Protocol::Roll => {
                let mut mean = self.averaged(y, self.noiseless);
                self.roll(y, &mut mean);
                mean
            }
        };
        (counts, truth)
    }

    /// Row `y` of the specimen without its anomalies as it is counted on average: `[x, energy]` in ADU.
    pub fn expected_row(&self, y: usize) -> Array2<f32> {
        match self.protocol {
            Protocol::Phys => self.counted(y, false, true),
            Protocol::Post | Protocol::Roll => self.averaged(y, true),
        }
    }

    /// The specimen's pixel that the pixel `(y, x)` of the image shows.
    fn origin(&self, y: usize, x: usize) -> [usize; 2] {
        let width = self.shape[1];
        match &self.origins {
            Some(origins) => [origins[y * width + x] / width, origins[y * width + x] % width],
            None => [y, x],
        }
    }

    fn anomaly_at(&self, y: usize, x: usize) -> Option<usize> {
        let disc = self.discs.iter().find(|disc| disc.holds(y, x));
        disc.map(|disc| disc.anomaly)
    }

    /// Row `y` as the camera counts it, with or without the anomalies of the specimen and the noise of counting.
    fn counted(&self, y: usize, with_anomalies: bool, noiseless: bool) -> Array2<f32> {
        let [_, width, channels] = self.shape;
        let spectra = |y: usize| {
            let line = self.specimen.line(y);
            let spectra = self.components.at_drift(line.energy_drift_ev, SPREAD);
            (line, spectra)
        };
        let own = spectra(y);
        let mut counts = Array2::zeros((width, channels));
        let mut expected = vec![0.0; channels + 2 * SPREAD];
        for (x, mut out) in counts.outer_iter_mut().enumerate() {
            let [from, x] = self.origin(y, x);
            let other = (from != y).then(|| spectra(from));
            let (line, spectra) = other.as_ref().unwrap_or(&own);
            let anomaly = self.anomaly_at(from, x).filter(|_| with_anomalies);
            let probed = self.specimen.probed(from, x, line);
            spectra.mix(&probed, anomaly, self.electrons, &mut expected);
            let out = out.as_slice_mut().expect("a row of a new array is contiguous");
            if noiseless {
                self.detector.record(&expected, out);
                continue;
            }
            let pixel = (from * width + x) as u64;
            let mut random = self.scan.stream(Purpose::Pixel, pixel);
            self.detector.count(&mut expected, &mut random, out);
            let spike = anomaly.map(|a| &self.anomalies[a]);
            if let Some(spike) = spike.filter(|a| a.kind == AnomalyKind::Spike) {
                let channel = random.random_range(0..channels);
                out[channel] += self.detector.adu(spike.amount);
            }
        }
        counts
    }

    /// The spatial mean of the normal specimen at row `y`, in ADU, with or without noise.
    fn averaged(&self, y: usize, noiseless: bool) -> Array2<f32> {
        let [height, width, channels] = self.shape;
        let reach = AVERAGED_PX / 2;
        let near = neighbourhood(y, reach, height);
        let mut rows = Array3::zeros((near.len(), width, channels));
        for (i, row) in near.clone().enumerate() {
            rows.slice_mut(s![i, .., ..]).assign(&self.counted(row, false, noiseless));
        }
        let valid = Array2::from_elem((near.len(), width), true);
        let mut mean = Array2::zeros((width, channels));
        let row = y - near.start;
        mean_row(rows.view(), valid.view(), row, AVERAGED_PX, 1.0, mean.view_mut());
        mean
    }

    /// Adds the differences that the anomalies make to the expectation of row `y`.
    fn add_differences(&self, y: usize, mean: &mut Array2<f32>) {
        let channels = self.shape[2];
        let line = self.specimen.line(y);
        let spectra = self.components.at_drift(line.energy_drift_ev, SPREAD);
        let mut expected = [0; 2].map(|_| vec![0.0; channels + 2 * SPREAD]);
        let mut recorded = [0; 2].map(|_| vec![0.0; channels]);
        for (x, mut spectrum) in mean.outer_iter_mut().enumerate() {
            let Some(anomaly) = self.anomaly_at(y, x) else {
                continue;
            };
            let probed = self.specimen.probed(y, x, &line);
            for (i, change) in [None, Some(anomaly)].into_iter().enumerate() {
                spectra.mix(&probed, change, self.electrons, &mut expected[i]);
                self.detector.record(&expected[i], &mut recorded[i]);
            }
            let pairs = recorded[1].iter().zip(&recorded[0]);
            for (value, (with, without)) in spectrum.iter_mut().zip(pairs) {
                *value += with - without;
            }
        }
    }

    /// Rotates the channels around the edge in the anomalous pixels of row `y`.
    fn roll(&self, y: usize, mean: &mut Array2<f32>) {
        for (x, mut spectrum) in mean.outer_iter_mut().enumerate() {
            let Some(anomaly) = self.anomaly_at(y, x) else {
                continue;
            };
            let onset = (self.onsets[anomaly] - self.grid.offset_ev) / self.grid.dispersion_ev;
            let center = onset.round().clamp(0.0, spectrum.len() as f64) as usize;
            let from = center.saturating_sub(ROLLED);
            let part = from..(center + ROLLED).min(spectrum.len());
            let channels = (self.anomalies[anomaly].amount / self.grid.dispersion_ev).round();
            let spectrum = spectrum.as_slice_mut().expect("a row of a new array is contiguous");
            let part = &mut spectrum[part.start.min(part.end)..part.end];
            if !part.is_empty() {
                part.rotate_right((channels as isize).rem_euclid(part.len() as isize) as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests;
