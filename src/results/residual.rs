//! The residual spectra of regions, by which their kinds are recognised in other cubes.

use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Ix2};

use super::stored::read_json;
use super::titles::REGION_RESIDUALS;
use crate::config::ResidualSpectrum;
use crate::cube::CubeInfo;
use crate::output::{read_signal_f32, signal_titles};

/// Most bins of a residual spectrum: people read the files that hold it.
const BINS: usize = 96;
/// The squares of both spectra have to exceed those of noise by so many of their own standard deviations.
const CLEAR: f64 = 4.0;
/// The least share of the squares of either spectrum on the energies that both have.
const LEAST_COMMON: f64 = 0.7;

/// The axis on which two residual spectra are held against each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Along {
    Energy,
    /// The channels of the detector.
    Channels,
}

/// The residual spectra of the first regions of the cube whose results are at `path`; none without reconstructions.
/// Rank-local.
///
/// # Errors
/// A file that is gone or damaged.
pub fn read_residuals(path: &Path) -> Result<Vec<ResidualSpectrum>> {
    if !signal_titles(path)?.iter().any(|title| title == REGION_RESIDUALS) {
        return Ok(Vec::new());
    }
    let info: CubeInfo = read_json(path, "cube")?;
    let (axes, values) = read_signal_f32(path, REGION_RESIDUALS)?;
    let values: Array2<f32> = values.into_dimensionality::<Ix2>()?;
    let energy = &axes[1];
    let per_bin = energy.size.div_ceil(BINS).max(1);
    let binned = energy.rebinned(per_bin);
    let spectrum = |row: &[f32]| ResidualSpectrum {
        first_ev: binned.offset,
        step_ev: binned.scale,
        first_channel: (binned.offset - info.energy.offset) / info.energy.scale,
        step_channels: binned.scale / info.energy.scale,
        // Sums of values with a noise of 1; two places are below it.
        values: row.chunks_exact(per_bin).map(|bin| rounded(bin.iter().sum::<f32>(), per_bin)).collect(),
    };
    Ok(values.outer_iter().map(|row| spectrum(&row.to_vec())).collect())
}

fn rounded(sum: f32, count: usize) -> f64 {
    (f64::from(sum) / (count as f64).sqrt() * 100.0).round() / 100.0
}

/// How alike two residual spectra are: their correlation less what noise takes from it, from -1 to 1. None where one is
/// hardly more than noise, or lies where the other was not measured.
pub fn likeness(a: &ResidualSpectrum, b: &ResidualSpectrum, along: Along) -> Option<f64> {
    let axis = |spectrum: &ResidualSpectrum| match along {
        Along::Energy => (spectrum.first_ev, spectrum.step_ev),
        Along::Channels => (spectrum.first_channel, spectrum.step_channels),
    };
    let (coarse, fine) = if axis(a).1 >= axis(b).1 { (a, b) } else { (b, a) };
    let (mut pairs, mut all) = (Vec::new(), 0.0);
    for (i, &value) in coarse.values.iter().enumerate() {
        let (first, step) = axis(coarse);
        let middle = first + i as f64 * step;
        all += value * value;
        if let Some(other) = merged(&fine.values, axis(fine), [middle - 0.5 * step, middle + 0.5 * step]) {
            pairs.push((value, other));
        }
    }
    let sum = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>();
    let (square, other) = (sum(|(a, _)| a * a), sum(|(_, b)| b * b));
    let other_all: f64 = fine.values.iter().map(|value| value * value).sum();
    let noise = pairs.len() as f64;
    let least = noise + CLEAR * (2.0 * noise).sqrt();
    // Finer bins hold more noise than the same ones merged.
    let spare = fine.values.len() as f64;
    let is_common = square >= LEAST_COMMON * all && other + spare >= LEAST_COMMON * other_all;
    (is_common && square > least && other > least)
        .then(|| (sum(|(a, b)| a * b) / ((square - noise) * (other - noise)).sqrt()).clamp(-1.0, 1.0))
}

/// The values of an axis (`first`, `step`) within `[low, high]`, added up in units of their noise; none where less than half of
/// it was measured.
fn merged(values: &[f64], (first, step): (f64, f64), [low, high]: [f64; 2]) -> Option<f64> {
    let place = |value: f64| (value - first) / step + 0.5;
    let (start, end) = (place(low), place(high));
    let inside = start.max(0.0) as usize..(end.ceil().max(0.0) as usize).min(values.len());
    let (mut sum, mut squares, mut covered) = (0.0, 0.0, 0.0);
    for i in inside {
        let share = (end.min(i as f64 + 1.0) - start.max(i as f64)).max(0.0);
        sum += share * values[i];
        squares += share * share;
        covered += share;
    }
    (covered >= 0.5 * (end - start) && squares > 0.0).then(|| sum / squares.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peak of `height` at `at_ev` in `size` bins from 400 eV on.
    fn peak(at_ev: f64, height: f64, size: usize, seed: f64) -> ResidualSpectrum {
        let step_ev = 400.0 / size as f64;
        let value = |i: usize| {
            let ev = 400.0 + step_ev * i as f64;
            let noise = ((i as f64 * 12.9898 + seed).sin() * 43758.5453).fract() * 1.7;
            height * (-((ev - at_ev) / 25.0).powi(2)).exp() * (step_ev / 4.0).sqrt() + noise
        };
        ResidualSpectrum {
            first_ev: 400.0,
            step_ev,
            first_channel: 0.0,
            step_channels: step_ev,
            values: (0..size).map(value).collect(),
        }
    }

    #[test]
    fn one_kind_is_alike_in_bins_of_any_width_and_others_are_not() {
        let one = peak(530.0, 20.0, 96, 1.0);
        let alike = |other: &ResidualSpectrum| likeness(&one, other, Along::Energy);
        assert!(alike(&peak(530.0, 12.0, 96, 2.0)).unwrap() > 0.95);
        assert!(alike(&peak(530.0, 12.0, 60, 3.0)).unwrap() > 0.95);
        assert!(alike(&peak(580.0, 20.0, 96, 4.0)).unwrap() < 0.5);
        assert!(alike(&peak(530.0, -20.0, 96, 5.0)).unwrap() < -0.9);
        // Noise is like nothing.
        assert_eq!(alike(&peak(530.0, 0.0, 96, 6.0)), None);
    }

    #[test]
    fn a_detector_keeps_its_channels_where_energies_move() {
        let one = peak(530.0, 20.0, 96, 1.0);
        let mut moved = peak(530.0, 20.0, 96, 2.0);
        moved.first_ev += 100.0;
        assert!(likeness(&one, &moved, Along::Channels).unwrap() > 0.95);
        assert!(likeness(&one, &moved, Along::Energy).unwrap() < 0.5);
        // Where the other was not measured nothing can be told.
        moved.first_ev += 900.0;
        assert_eq!(likeness(&one, &moved, Along::Energy), None);
    }
}
