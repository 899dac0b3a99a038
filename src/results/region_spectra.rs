//! The mean spectra of a cube's flagged regions, and the energies at which they differ from the reconstruction.

use anyhow::Result;
use ndarray::{Array2, Axis as Dim};

use super::cube_file::CubeFile;
use super::edge_change::EdgeChange;
use super::scored_cube::ScoredCube;
use super::titles::{REGION_RECONSTRUCTIONS, REGION_RESIDUALS, REGION_SPECTRA};
use crate::comm::{Comm, ExactSum};
use crate::config::Window;
use crate::cube::{Axis, neighbourhood};
use crate::output::{Data, Signal};
use crate::spectrum::sum_spectra;

/// Regions whose spectra are kept.
const MOST_SPECTRA: usize = 20;
/// Most ranges of energies that are told of a region.
const MOST_RANGES: usize = 3;
/// Pixels on a line within this distance of a region are beside it.
const BESIDE: usize = 6;
/// Electrons that the pixels beside a region have to hold for each of its own, to tell how well it is reconstructed.
const LEAST_BESIDE: f64 = 0.25;
/// Channels taken together before a region's residual is judged.
const SMOOTHED: usize = 3;
/// A smoothed residual differs from here on, in units of its noise.
const DIFFERS: f64 = 4.0;

/// Writes the mean spectrum of each of the first regions, as counted and as the CVAE reconstructs it, and how they differ.
///
/// `labels` is the whole map of regions, equal on all ranks; the lines that hold regions are reconstructed once more.
/// Gives the spectra summed over each of these regions; nothing without a CVAE.
///
/// # Collective
/// # Errors
/// Values that cannot be read.
pub fn write_region_spectra(
    comm: &Comm,
    scored: &ScoredCube,
    labels: &[i32],
    file: &mut CubeFile,
) -> Result<Vec<RegionSums>> {
    let cube = scored.band.cube;
    let count = labels.iter().copied().max().unwrap_or(0).clamp(0, MOST_SPECTRA as i32) as usize;
    if count == 0 {
        return Ok(Vec::new());
    }
    let regions = sum_regions(comm, scored, labels, count)?;
    let mut add = |title: &str, values: Vec<f64>| -> Result<()> {
        let axes = vec![Axis::of_indices("region", count, true), cube.energy.clone()];
        let table = Array2::from_shape_vec((count, cube.energy.size), values)?;
        file.add(Signal::new(title, axes, "EELS", Data::F64(table.into_dyn())));
        Ok(())
    };
    let mut areas = vec![0f64; count];
    for label in labels.iter().filter_map(|&label| index_of(label, count)) {
        areas[label] += 1.0;
    }
    let means = |of: fn(&RegionSums) -> &[f64]| -> Vec<f64> {
        let rows = regions.iter().zip(&areas);
        rows.flat_map(|(region, area)| of(region).iter().map(move |sum| sum / area)).collect()
    };
    add(REGION_SPECTRA, means(|region| &region.measured))?;
    if scored.tiles.is_none() {
        return Ok(Vec::new());
    }
    add(REGION_RECONSTRUCTIONS, means(|region| &region.explained))?;
    add(REGION_RESIDUALS, regions.iter().flat_map(RegionSums::residual).collect())?;
    Ok(regions)
}

/// The spectra of a region summed over its pixels, electrons `[energy]`.
pub struct RegionSums {
    pub measured: Vec<f64>,
    /// As the CVAE reconstructs them.
    pub explained: Vec<f64>,
    /// Both, of the normal pixels beside the region on its lines.
    beside: [Vec<f64>; 2],
}

impl RegionSums {
    /// The ranges of energies (eV) at which the two differ, the most significant first.
    pub fn differing(&self, energy: &Axis) -> Vec<[f64; 2]> {
        differing(energy, &self.measured, &self.explained)
    }

    /// How much higher the edge in `window` is than expected; none where it cannot be told. The error includes what the
    /// reconstruction of the pixels beside is wrong by.
    pub fn edge_change(&self, energy: &Axis, window: &Window) -> Option<EdgeChange> {
        let change = EdgeChange::of(energy, window, &self.measured, &self.explained)?;
        let [seen, known] = &self.beside;
        let beside = EdgeChange::of(energy, window, seen, known).map_or(0.0, |beside| beside.percent);
        Some(EdgeChange { error_percent: change.error_percent.hypot(beside), ..change })
    }

    /// Measured less expected in units of the noise, by channel. What is expected follows the share by which the reconstruction
    /// misses the pixels beside: that is no anomaly.
    pub fn residual(&self) -> Vec<f64> {
        let [seen, known] = &self.beside;
        let sums = self.measured.iter().zip(&self.explained).zip(seen.iter().zip(known));
        let value = |((measured, explained), (seen, known)): ((&f64, &f64), (&f64, &f64))| {
            let is_known = *known >= LEAST_BESIDE * explained.max(1.0);
            let (miss, doubt) = if is_known { (seen / known, explained * explained / known) } else { (1.0, 0.0) };
            (measured - explained * miss) / (explained.max(1.0) + doubt).sqrt()
        };
        sums.map(value).collect()
    }
}

/// The place of a region among the first `count`; none beyond, and for no region.
fn index_of(label: i32, count: usize) -> Option<usize> {
    usize::try_from(label - 1).ok().filter(|&index| index < count)
}

/// The spectra of each of the first `count` regions, summed, as counted and as reconstructed.
///
/// # Collective
fn sum_regions(comm: &Comm, scored: &ScoredCube, labels: &[i32], count: usize) -> Result<Vec<RegionSums>> {
    let cube = scored.band.cube;
    let ([_, width], channels) = (cube.size(), cube.energy.size);
    let bound = scored.bound.max(1.0) * 1024.0;
    // Of the regions, then of the pixels beside each.
    let mut measured = ExactSum::new(2 * count * channels, bound);
    let mut explained = ExactSum::new(2 * count * channels, bound);
    let line_labels = |y: usize| &labels[y * width..(y + 1) * width];
    let add = |sum: &mut ExactSum, y: usize, line: &Array2<f32>| {
        let labels = line_labels(y);
        let of_region = |label: usize| sum_spectra(line.view(), |x| labels[x] == label as i32);
        let is_normal = |x: usize| labels[x] == 0 && !cube.ignored[[y, x]];
        let is_near = |x: usize, label: usize| labels[neighbourhood(x, BESIDE, width)].contains(&(label as i32));
        let beside = |label: usize| match labels.contains(&(label as i32)) {
            true => sum_spectra(line.view(), |x| is_normal(x) && is_near(x, label)),
            false => vec![0.0; channels],
        };
        sum.add(&(1..=count).flat_map(of_region).chain((1..=count).flat_map(beside)).collect::<Vec<f64>>());
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
    let (measured, explained) = (measured.total(comm)?, explained.total(comm)?);
    let row = |sums: &[f64], i: usize| sums[i * channels..(i + 1) * channels].to_vec();
    let region = |i: usize| RegionSums {
        measured: row(&measured, i),
        explained: row(&explained, i),
        beside: [row(&measured, count + i), row(&explained, count + i)],
    };
    Ok((0..count).map(region).collect())
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
    fn what_the_pixels_beside_miss_too_is_no_residual() {
        let explained = vec![1000.0; 4];
        let measured = vec![1100.0, 1100.0, 1000.0, 500.0];
        let beside = [vec![2200.0, 2000.0, 2000.0, 2.0], vec![2000.0, 2000.0, 2000.0, 2.0]];
        let residual = RegionSums { measured, explained, beside }.residual();
        // Noise of the region, and of what is beside it; the last has nothing beside it.
        let expected = [0.0, 100.0 / 1500f64.sqrt(), 0.0, -500.0 / 1000f64.sqrt()];
        assert!(residual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{residual:?}");
    }

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
