//! Puts anomalies into measured spectra: separates an edge from its background, and changes only the edge.
//!
//! The background and the shape of the edge come from the mean over a pixel's neighbours, so that the separation adds
//! no noise. The pixel keeps its own noise: a shift by whole channels moves it with the edge, and all other kinds add a
//! difference that is nearly free of noise.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use ndarray::Array1;
use rand::{Rng, RngExt};

use super::spectra::{SIGMA_OF_FWHM, blurred};
use crate::config::{AnomalyKind, EdgeAnomaly};
use crate::cube::Axis;
use crate::spectrum::{NATURAL_SLOPES, PowerLaw, shifted};

/// A range needs at least this many channels.
const MIN_CHANNELS: usize = 3;
/// Beyond its range an edge is continued with this exponent, from its mean over the last `CONTINUUM_EV`.
const CONTINUUM_EXPONENT: f64 = -3.0;
const CONTINUUM_EV: f64 = 10.0;
/// Width of the step at `split_ev` between the first white line and the second.
const SPLIT_WIDTH_EV: f64 = 1.0;

/// The ranges of an edge and of the background before it, eV.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EdgeRange {
    pub range_ev: [f64; 2],
    pub background_ev: [f64; 2],
}

/// Puts one kind of anomaly into spectra of one energy axis.
#[derive(Clone, Debug)]
pub struct Injector {
    kind: AnomalyKind,
    amount: f64,
    interpolate: bool,
    split_ev: Option<f64>,
    dispersion_ev: f64,
    energies: Vec<f64>,
    /// Channels of the edge, and of the background before it.
    range: Range<usize>,
    background: Range<usize>,
}

/// The background and the edge of a pixel: the shapes of its neighbours' mean, scaled to the pixel.
struct Separated {
    /// `[E]`, in the units of the spectrum.
    background: Vec<f64>,
    /// `[range]`.
    edge: Vec<f64>,
}

impl Injector {
    /// # Errors
    /// Ranges outside of the energies; named with those of the axis.
    pub fn new(anomaly: &EdgeAnomaly, edge: EdgeRange, energy: &Axis) -> Result<Injector> {
        let channels = |name: &str, [low, high]: [f64; 2]| {
            let found = energy.indices(low, high);
            ensure!(
                found.len() >= MIN_CHANNELS,
                "`{name}` [{low:.1}, {high:.1}] holds {} channels of the cube, whose energies are {:.1} to {:.1} eV",
                found.len(),
                energy.value(0),
                energy.value(energy.size - 1)
            );
            Ok(found)
        };
        Ok(Injector {
            kind: anomaly.kind,
            amount: anomaly.amount,
            interpolate: anomaly.interpolate,
            split_ev: anomaly.split_ev,
            dispersion_ev: energy.scale,
            energies: energy.values(),
            range: channels("range_ev", edge.range_ev)?,
            background: channels("background_ev", edge.background_ev)?,
        })
    }

    /// The shift in channels, rounded unless it is interpolated.
    fn channels(&self) -> f64 {
        let channels = self.amount / self.dispersion_ev;
        if self.interpolate { channels } else { channels.round() }
    }

    /// Describes the change for the log.
    pub fn describe(&self) -> String {
        let [low, high] = [self.range.start, self.range.end - 1].map(|i| self.energies[i]);
        let amount = match self.kind {
            AnomalyKind::Shift => format!(
                "{:.3} eV ({} channels; {} eV was asked for)",
                self.channels() * self.dispersion_ev,
                self.channels(),
                self.amount
            ),
            _ => self.amount.to_string(),
        };
        format!("{:?} by {amount} in {low:.1}-{high:.1} eV", self.kind)
    }

    /// Changes `spectrum` `[E]` in place; `around` is the mean spectrum `[E]` of the pixel and its neighbours.
    ///
    /// # Errors
    /// No background to fit, or no edge above it.
    pub fn apply(&self, spectrum: &mut [f32], around: &[f64], random: &mut impl Rng) -> Result<()> {
        if self.kind == AnomalyKind::Spike {
            let channel = random.random_range(self.range.clone());
            spectrum[channel] += self.amount as f32;
            return Ok(());
        }
        let own = self.separate(spectrum, around)?;
        match self.kind {
            AnomalyKind::Shift => self.shift(spectrum, &own.background),
            AnomalyKind::Slope => {
                let start = self.background.start;
                let pivot = self.energies[start];
                let channels = spectrum.iter_mut().zip(&self.energies).zip(&own.background);
                for ((value, e), background) in channels.skip(start) {
                    let factor = (e / pivot).powf(-self.amount) - 1.0;
                    add(value, background * factor);
                }
            }
            _ => {
                for (value, difference) in spectrum[self.range.start..].iter_mut().zip(self.difference(&own.edge)) {
                    add(value, difference);
                }
            }
        }
        Ok(())
    }

    /// Separates the edge of a spectrum from its background.
    fn separate(&self, spectrum: &[f32], around: &[f64]) -> Result<Separated> {
        let before = self.background.clone();
        let [low, high] = [before.start, before.end - 1].map(|i| self.energies[i]);
        let law = PowerLaw::fit(&self.energies[before.clone()], &around[before.clone()], NATURAL_SLOPES).with_context(
            || format!("no counts in {low:.1}-{high:.1} eV to fit the background to; mask such pixels"),
        )?;
        let mean: Vec<f64> = self.energies.iter().map(|&e| if e > 0.0 { law.at(e) } else { 0.0 }).collect();
        let scale = self.share(spectrum, before, |i| mean[i], |_| 0.0);
        let background: Vec<f64> = mean.iter().map(|value| scale * value).collect();
        let edge: Vec<f64> = self.range.clone().map(|i| around[i] - mean[i]).collect();
        let start = self.range.start;
        let height = self.share(spectrum, self.range.clone(), |i| edge[i - start], |i| background[i]);
        if !matches!(self.kind, AnomalyKind::Shift | AnomalyKind::Slope) {
            ensure!(
                height > 0.0 && height.is_finite(),
                "no edge above the background fitted in {low:.1}-{high:.1} eV; mask such pixels"
            );
        }
        Ok(Separated { background, edge: edge.iter().map(|value| height * value).collect() })
    }

    /// The amount of `shape` in the finite channels of a spectrum, above `below`.
    fn share(
        &self,
        spectrum: &[f32],
        channels: Range<usize>,
        shape: impl Fn(usize) -> f64,
        below: impl Fn(usize) -> f64,
    ) -> f64 {
        let (mut own, mut whole) = (0.0, 0.0);
        for i in channels.filter(|&i| spectrum[i].is_finite()) {
            own += f64::from(spectrum[i]) - below(i);
            whole += shape(i);
        }
        own / whole
    }

    /// Moves what lies above `background`, with its noise.
    fn shift(&self, spectrum: &mut [f32], background: &[f64]) {
        let above: Vec<f64> = spectrum.iter().zip(background).map(|(&value, b)| f64::from(value) - b).collect();
        let channels = self.channels();
        let last = above.len() as f64 - 1.0;
        let known: Vec<usize> = self
            .range
            .clone()
            // What would come from beyond the axis is not known: these channels stay.
            .filter(|&i| (0.0..=last).contains(&(i as f64 - channels)))
            .collect();
        if self.interpolate {
            let above: Array1<f32> = above.iter().map(|&value| value as f32).collect();
            let moved = shifted(above.view(), channels, 0..above.len());
            for i in known {
                spectrum[i] = (background[i] + moved[i]) as f32;
            }
        } else {
            for i in known {
                spectrum[i] = (background[i] + above[(i as f64 - channels) as usize]) as f32;
            }
        }
    }

    /// The difference to add from the range's first channel on, for an `edge` `[range]`.
    fn difference(&self, edge: &[f64]) -> Vec<f64> {
        match self.kind {
            AnomalyKind::Broaden if self.amount > 0.0 => {
                let wide = blurred(edge, 0.0, SIGMA_OF_FWHM * self.amount, self.dispersion_ev);
                wide.iter().zip(edge).map(|(wide, edge)| wide - edge).collect()
            }
            AnomalyKind::Ratio => {
                let split = self.split_ev.unwrap_or(f64::INFINITY);
                let below = |e: f64| 1.0 / (1.0 + ((e - split) / SPLIT_WIDTH_EV).exp());
                let energies = &self.energies[self.range.clone()];
                edge.iter().zip(energies).map(|(edge, &e)| self.amount * below(e) * edge).collect()
            }
            AnomalyKind::Scale => {
                let last = ((CONTINUUM_EV / self.dispersion_ev) as usize).clamp(1, edge.len());
                let end = edge[edge.len() - last..].iter().sum::<f64>() / last as f64;
                let end_ev = self.energies[self.range.end - 1];
                let beyond =
                    self.energies[self.range.end..].iter().map(|e| end * (e / end_ev).powf(CONTINUUM_EXPONENT));
                let whole = edge.iter().copied().chain(beyond);
                whole.map(|edge| self.amount * edge).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Adds to a stored value.
fn add(value: &mut f32, difference: f64) {
    *value = (f64::from(*value) + difference) as f32;
}

#[cfg(test)]
mod tests {
    use super::super::random::{Purpose, Randomness};
    use super::*;
    use crate::config::Outline;

    fn axis() -> Axis {
        Axis::energy_loss(600.0, 0.5, 500)
    }

    const EDGE: EdgeRange = EdgeRange { range_ev: [695.0, 849.5], background_ev: [640.0, 690.0] };

    fn background(e: f64) -> f64 {
        2e3 * (e / 600.0).powf(-2.9)
    }

    /// An L edge: two lines on a step.
    fn edge(e: f64) -> f64 {
        let line = |at: f64, height: f64| height * (-0.5 * ((e - at) / 2.0).powi(2)).exp();
        let step = 200.0 / (1.0 + (-(e - 709.0) / 0.6).exp());
        step * (e / 709.0).powf(-3.0) + line(710.0, 900.0) + line(723.0, 400.0)
    }

    /// A spectrum with a ripple that stands for noise, and its neighbours' mean without.
    fn spectra() -> (Vec<f32>, Vec<f64>) {
        let around: Vec<f64> = axis().values().iter().map(|&e| background(e) + edge(e)).collect();
        let own = around
            .iter()
            .enumerate()
            .map(|(i, value)| (1.1 * value + 5.0 * (i as f64 * 2.1).sin()).round() as f32)
            .collect();
        (own, around)
    }

    fn anomaly(kind: AnomalyKind, amount: f64, split_ev: Option<f64>) -> EdgeAnomaly {
        EdgeAnomaly {
            kind,
            amount,
            edge_ev: None,
            range_ev: None,
            background_ev: None,
            split_ev,
            interpolate: false,
            shape: Outline::Disc,
            discs: 1,
            radius_px: [2.2, 4.2],
            concentration: None,
        }
    }

    fn changed(kind: AnomalyKind, amount: f64, split_ev: Option<f64>) -> Vec<f32> {
        let injector = Injector::new(&anomaly(kind, amount, split_ev), EDGE, &axis()).unwrap();
        let (mut own, around) = spectra();
        let mut random = Randomness { seed: 1, cube: 0 }.stream(Purpose::Pixel, 0);
        injector.apply(&mut own, &around, &mut random).unwrap();
        own
    }

    /// Counts above the background in a range of energies.
    fn above(spectrum: &[f32], low: f64, high: f64) -> f64 {
        let energies = axis().values();
        axis().indices(low, high).map(|i| f64::from(spectrum[i]) - 1.1 * background(energies[i])).sum()
    }

    #[test]
    fn a_control_is_the_original_to_the_bit() {
        let original = spectra().0;
        for kind in [AnomalyKind::Shift, AnomalyKind::Scale, AnomalyKind::Broaden] {
            assert_eq!(changed(kind, 0.0, None), original, "{kind:?}");
        }
    }

    #[test]
    fn a_shift_moves_the_edge_with_its_noise_by_whole_channels() {
        let original = spectra().0;
        // 1.9 eV are four channels of half an eV.
        let moved = changed(AnomalyKind::Shift, 1.9, None);
        let range = axis().indices(695.0, 849.5);
        assert_eq!(moved[..range.start], original[..range.start]);
        assert_eq!(moved[range.end..], original[range.end..]);
        let energies = axis().values();
        for i in range {
            let fall = 1.1 * (background(energies[i]) - background(energies[i - 4]));
            let expected = f64::from(original[i - 4]) + fall;
            assert!((f64::from(moved[i]) - expected).abs() < 0.5, "{i}");
        }
    }

    #[test]
    fn an_edge_is_scaled_and_broadened_and_its_lines_change_their_ratio() {
        let original = spectra().0;
        let ratio = |spectrum: &[f32], low, high| above(spectrum, low, high) / above(&original, low, high);
        let weaker = changed(AnomalyKind::Scale, -0.3, None);
        assert!((ratio(&weaker, 705.0, 740.0) - 0.7).abs() < 0.01);
        // Beyond the range too.
        assert!(weaker[498] < original[498]);
        assert_eq!(weaker[..180], original[..180]);
        let wider = changed(AnomalyKind::Broaden, 4.0, None);
        assert!((ratio(&wider, 700.0, 750.0) - 1.0).abs() < 0.01);
        assert!(ratio(&wider, 709.0, 711.0) < 0.9);
        let first = changed(AnomalyKind::Ratio, 0.2, Some(717.0));
        assert!((ratio(&first, 705.0, 714.0) - 1.2).abs() < 0.02);
        assert!((ratio(&first, 721.0, 740.0) - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_range_off_the_axis_and_a_spectrum_without_counts_are_refused() {
        let edge = EdgeRange { range_ev: [1695.0, 1700.0], ..EDGE };
        let shift = anomaly(AnomalyKind::Shift, 1.0, None);
        let message = Injector::new(&shift, edge, &axis()).unwrap_err().to_string();
        assert!(message.contains("range_ev") && message.contains("600.0 to 849.5"), "{message}");
        let injector = Injector::new(&shift, EDGE, &axis()).unwrap();
        let mut random = Randomness { seed: 1, cube: 0 }.stream(Purpose::Pixel, 0);
        let empty = injector.apply(&mut [0.0; 500], &[0.0; 500], &mut random);
        assert!(empty.unwrap_err().to_string().contains("no counts in"));
    }
}
