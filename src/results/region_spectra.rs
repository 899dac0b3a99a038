//! The mean spectra of a cube's flagged regions, and the energies at which they differ from the reconstruction.

use anyhow::Result;
use ndarray::{Array2, Axis as Dim};

use super::cube_file::CubeFile;
use super::scored_cube::ScoredCube;
use super::titles::{REGION_RECONSTRUCTIONS, REGION_SPECTRA};
use crate::comm::{Comm, ExactSum};
use crate::cube::Axis;
use crate::output::{Data, Signal};
use crate::spectrum::sum_spectra;

/// Regions whose spectra are kept.
const MOST_SPECTRA: usize = 20;
/// Most ranges of energies that are told of a region.
const MOST_RANGES: usize = 3;
/// Channels taken together before a region's residual is judged.
const SMOOTHED: usize = 3;
/// A smoothed residual differs from here on, in units of its noise.
const DIFFERS: f64 = 4.0;

/// Writes the mean spectrum of each of the first regions, as counted and as the CVAE reconstructs it.
///
/// `labels` is the whole map of regions, equal on all ranks; the lines that hold regions are reconstructed once more.
/// Gives, for each of these regions, the energies (eV) at which the two differ most.
///
/// # Collective
/// # Errors
/// Values that cannot be read.
pub fn write_region_spectra(
    comm: &Comm,
    scored: &ScoredCube,
    labels: &[i32],
    file: &mut CubeFile,
) -> Result<Vec<Vec<[f64; 2]>>> {
    let cube = scored.band.cube;
    let count = labels.iter().copied().max().unwrap_or(0).clamp(0, MOST_SPECTRA as i32) as usize;
    if count == 0 {
        return Ok(Vec::new());
    }
    let [measured, explained] = sum_regions(comm, scored, labels, count)?;
    let mut areas = vec![0f64; count];
    for label in labels.iter().filter_map(|&label| index_of(label, count)) {
        areas[label] += 1.0;
    }
    let mut add = |title: &str, sums: &Array2<f64>| {
        let mut means = sums.clone();
        for (mut spectrum, area) in means.outer_iter_mut().zip(&areas) {
            spectrum.mapv_inplace(|sum| sum / area);
        }
        let axes = vec![Axis::of_indices("region", count, true), cube.energy.clone()];
        file.add(Signal::new(title, axes, "EELS", Data::F64(means.into_dyn())));
    };
    add(REGION_SPECTRA, &measured);
    if scored.tiles.is_none() {
        return Ok(Vec::new());
    }
    add(REGION_RECONSTRUCTIONS, &explained);
    let pairs = measured.outer_iter().zip(explained.outer_iter());
    Ok(pairs.map(|(measured, explained)| differing(&cube.energy, &measured.to_vec(), &explained.to_vec())).collect())
}

/// The place of a region among the first `count`; none beyond, and for no region.
fn index_of(label: i32, count: usize) -> Option<usize> {
    usize::try_from(label - 1).ok().filter(|&index| index < count)
}

/// The spectra of each of the first `count` regions, summed, as counted and as reconstructed: `[region, energy]` each.
///
/// # Collective
fn sum_regions(comm: &Comm, scored: &ScoredCube, labels: &[i32], count: usize) -> Result<[Array2<f64>; 2]> {
    let ([_, width], channels) = (scored.band.cube.size(), scored.band.cube.energy.size);
    let bound = scored.bound.max(1.0) * 1024.0;
    let mut measured = ExactSum::new(count * channels, bound);
    let mut explained = ExactSum::new(count * channels, bound);
    let line_labels = |y: usize| &labels[y * width..(y + 1) * width];
    let add = |sum: &mut ExactSum, y: usize, line: &Array2<f32>| {
        let labels = line_labels(y);
        let of_region = |label: usize| sum_spectra(line.view(), |x| labels[x] == label as i32);
        sum.add(&(1..=count).flat_map(of_region).collect::<Vec<f64>>());
    };
    let holds_region = |&y: &usize| line_labels(y).iter().any(|&label| index_of(label, count).is_some());
    let lines: Vec<usize> = scored.band.lines.clone().filter(holds_region).collect();
    let done = lines.chunk_by(|a, b| a + 1 == *b).try_for_each(|run| {
        let rows = run[0]..run[run.len() - 1] + 1;
        for y in rows.clone() {
            let counts = scored.band.counts(y..y + 1)?;
            add(&mut measured, y, &counts.index_axis_move(Dim(0), 0));
        }
        scored.reconstruct(rows, |y, line| {
            add(&mut explained, y, &line);
            Ok(())
        })
    });
    comm.agree(done)?;
    Ok([
        Array2::from_shape_vec((count, channels), measured.total(comm)?)?,
        Array2::from_shape_vec((count, channels), explained.total(comm)?)?,
    ])
}

/// The ranges of energies (eV) at which `measured` differs from `explained`, electrons `[energy]` summed over a region;
/// the most significant first.
fn differing(energy: &Axis, measured: &[f64], explained: &[f64]) -> Vec<[f64; 2]> {
    let windows = measured.windows(SMOOTHED).zip(explained.windows(SMOOTHED));
    let residual: Vec<f64> = windows
        .map(|(measured, explained)| {
            let (measured, explained) = (measured.iter().sum::<f64>(), explained.iter().sum::<f64>());
            (measured - explained) / explained.max(1.0).sqrt()
        })
        .collect();
    // A range keeps its sign: an edge that moved loses counts on one side and wins them on the other.
    let sign = |value: f64| if value.abs() > DIFFERS { value.signum() } else { 0.0 };
    let mut start = 0;
    let mut ranges = Vec::new();
    for run in residual.chunk_by(|&a, &b| sign(a) == sign(b)) {
        let end = start + run.len() + SMOOTHED - 2;
        if sign(run[0]) != 0.0 {
            let most = run.iter().fold(0f64, |most, value| most.max(value.abs()));
            ranges.push((most, [energy.value(start), energy.value(end)]));
        }
        start += run.len();
    }
    ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranges.truncate(MOST_RANGES);
    ranges.into_iter().map(|(_, range)| range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_keeps_its_sign_and_the_most_significant_comes_first() {
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
