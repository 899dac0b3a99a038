//! The flagged regions of a cube: their table and their mean spectra.

use std::cmp::Reverse;

use anyhow::Result;
use ndarray::{Array2, Axis as Dim};

use super::scored_cube::ScoredCube;
use super::summary::{Difference, KindSummary, RegionSummary};
use super::titles::{REGION_RECONSTRUCTIONS, REGION_SPECTRA};
use crate::comm::{Comm, ExactSum};
use crate::cube::Axis;
use crate::output::{Data, Signal};
use crate::score::{Family, Kind, Region};
use crate::spectrum::sum_spectra;
use crate::stream::Cube;

/// Regions whose spectra are kept.
const MOST_SPECTRA: usize = 20;

/// Runs of channels that differ, at most so many for a region.
const MOST_RUNS: usize = 3;
/// Channels taken together before a region's residual is judged.
const SMOOTHED: usize = 3;
/// In units of its noise: a smoothed residual that differs.
const DIFFERS: f64 = 4.0;

/// The table of regions. `kind_of` is root's map of the kinds that pixels belong to, from 1. Rank-local.
pub fn summarise(
    found: &[Region],
    labels: &[i32],
    (kinds, kind_of): (&[Kind], Option<&[f32]>),
    energies: &[Vec<[f64; 2]>],
    width: usize,
) -> Vec<RegionSummary> {
    let summarise = |(index, region): (usize, &Region)| {
        let mut pixels = vec![0usize; kinds.len()];
        for y in region.rows[0]..=region.rows[1] {
            for x in region.columns[0]..=region.columns[1] {
                let pixel = y * width + x;
                let kind = kind_of.map_or(0, |kind_of| kind_of[pixel] as usize);
                if labels[pixel] == region.label && kind > 0 {
                    pixels[kind - 1] += 1;
                }
            }
        }
        let most = (0..kinds.len()).max_by_key(|&kind| (pixels[kind], Reverse(kind)));
        let kind = most.filter(|&most| pixels[most] > 0).map(|most| &kinds[most]);
        let shift = kind.and_then(|kind| kind.shift_ev);
        RegionSummary {
            label: region.label,
            y: region.centroid_yx[0],
            x: region.centroid_yx[1],
            area: region.area_px,
            rows: region.rows,
            columns: region.columns,
            max_score: region.max_score,
            mean_score: region.mean_score,
            estimated_shift_ev: shift.map(|shift| shift.0),
            shift_error_ev: shift.map(|shift| shift.1),
            kind: kind.map(|kind| KindSummary {
                window: kind.window.clone(),
                differs: match (kind.family, kind.shift_ev) {
                    (Family::Composition, _) => Difference::Height,
                    (Family::Shift, Some(_)) => Difference::Energy,
                    (Family::Shift, None) => Difference::Shape,
                },
                sigma: kind.strength,
            }),
            energies_ev: energies.get(index).cloned().unwrap_or_default(),
        }
    };
    found.iter().enumerate().map(summarise).collect()
}

/// The runs of channels in which `measured` differs from `explained`, electrons `[energy]` summed over a region.
fn differing(energy: &Axis, measured: &[f64], explained: &[f64]) -> Vec<[f64; 2]> {
    let windows = measured.windows(SMOOTHED).zip(explained.windows(SMOOTHED));
    let residual: Vec<f64> = windows
        .map(|(measured, explained)| {
            let (measured, explained) = (measured.iter().sum::<f64>(), explained.iter().sum::<f64>());
            (measured - explained) / explained.max(1.0).sqrt()
        })
        .collect();
    // A run keeps its sign: what an edge has lost on one side it may have won on the other.
    let differs = |value: f64| {
        if value.abs() > DIFFERS { value.signum() } else { 0.0 }
    };
    let mut start = 0;
    let mut runs = Vec::new();
    for run in residual.chunk_by(|&a, &b| differs(a) == differs(b)) {
        let end = start + run.len() + SMOOTHED - 2;
        if differs(run[0]) != 0.0 {
            let most = run.iter().fold(0f64, |most, value| most.max(value.abs()));
            runs.push((most, [energy.value(start), energy.value(end)]));
        }
        start += run.len();
    }
    runs.sort_by(|a, b| b.0.total_cmp(&a.0));
    runs.truncate(MOST_RUNS);
    runs.into_iter().map(|(_, run)| run).collect()
}

/// Mean spectra of regions.
#[derive(Default)]
pub struct RegionSpectra {
    /// `[region, energy]`.
    pub signals: Vec<Signal>,
    /// Of each region, where it differs from what the CVAE makes of it, eV.
    pub energies_ev: Vec<Vec<[f64; 2]>>,
}

/// The mean spectrum of each of the first regions, as counted and as the CVAE explains it: signals `[region, energy]`.
///
/// `labels` is the whole map, equal on all ranks; the lines that hold regions are reconstructed once more.
/// # Collective
pub fn region_spectra(comm: &Comm, cube: &Cube, analysis: &ScoredCube, labels: &[i32]) -> Result<RegionSpectra> {
    let [_, width] = cube.size();
    let count = labels.iter().copied().max().unwrap_or(0).max(0) as usize;
    let count = count.min(MOST_SPECTRA);
    if count == 0 {
        return Ok(RegionSpectra::default());
    }
    let channels = cube.energy.size;
    let bound = analysis.bound.max(1.0) * 1024.0;
    let mut measured = ExactSum::new(count * channels, bound);
    let mut explained = ExactSum::new(count * channels, bound);
    let kept = |label: i32| (1..=count as i32).contains(&label);
    let line_labels = |y: usize| &labels[y * width..(y + 1) * width];
    let add = |sum: &mut ExactSum, y: usize, line: &Array2<f32>| {
        let labels = line_labels(y);
        let of_region = |label: usize| sum_spectra(line.view(), |x| labels[x] == label as i32);
        sum.add(&(1..=count).flat_map(of_region).collect::<Vec<f64>>());
    };
    let holding: Vec<usize> =
        analysis.band.lines.clone().filter(|&y| line_labels(y).iter().any(|&label| kept(label))).collect();
    let done = holding.chunk_by(|a, b| a + 1 == *b).try_for_each(|run| {
        let rows = run[0]..run[run.len() - 1] + 1;
        for y in rows.clone() {
            let counts = analysis.band.counts(y..y + 1)?;
            add(&mut measured, y, &counts.index_axis_move(Dim(0), 0));
        }
        analysis.reconstruct(rows, |y, line| {
            add(&mut explained, y, &line);
            Ok(())
        })
    });
    comm.agree(done)?;
    let mut areas = vec![0f64; count];
    for &label in labels.iter().filter(|&&label| kept(label)) {
        areas[label as usize - 1] += 1.0;
    }
    let measured = Array2::from_shape_vec((count, channels), measured.total(comm)?)?;
    let explained = Array2::from_shape_vec((count, channels), explained.total(comm)?)?;
    let signal = |title: &str, sums: &Array2<f64>| {
        let mut values = sums.clone();
        for (mut spectrum, area) in values.outer_iter_mut().zip(&areas) {
            spectrum.mapv_inplace(|sum| sum / area);
        }
        let axes = vec![Axis::of_indices("region", count, true), cube.energy.clone()];
        Signal::new(title, axes, "EELS", Data::F64(values.into_dyn()))
    };
    let mut spectra = RegionSpectra { signals: vec![signal(REGION_SPECTRA, &measured)], energies_ev: Vec::new() };
    if analysis.tiles.is_some() {
        spectra.signals.push(signal(REGION_RECONSTRUCTIONS, &explained));
        let pairs = measured.outer_iter().zip(explained.outer_iter());
        let differing =
            pairs.map(|(measured, explained)| differing(&cube.energy, &measured.to_vec(), &explained.to_vec()));
        spectra.energies_ev = differing.collect();
    }
    Ok(spectra)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_sign_and_the_most_significant_comes_first() {
        let energy = Axis::energy_loss(100.0, 2.0, 40);
        let explained = vec![1e4; 40];
        let mut measured = explained.clone();
        (10..14).for_each(|i| measured[i] -= 500.0);
        (14..18).for_each(|i| measured[i] += 900.0);
        let runs = differing(&energy, &measured, &explained);
        assert_eq!(runs.len(), 2, "{runs:?}");
        assert!(runs[0][0] <= 128.0 && runs[0][1] >= 134.0, "{runs:?}");
        assert!(runs[1][0] <= 120.0 && runs[1][1] >= 124.0, "{runs:?}");
        assert!(differing(&energy, &explained, &explained).is_empty());
    }
}
