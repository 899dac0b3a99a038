//! The flagged regions of a cube: their table and their mean spectra.

use anyhow::Result;
use ndarray::{Array2, Axis as Dim};

use super::analyse::Analysis;
use super::summary::RegionSummary;
use super::write::{index_axis, REGION_RECONSTRUCTIONS, REGION_SPECTRA};
use crate::comm::{Comm, ExactSum};
use crate::output::{Data, Signal, SmallSignal};
use crate::score::Region;
use crate::stream::Cube;

/// Regions whose spectra are kept.
const MOST_SPECTRA: usize = 20;

/// The table of regions; `shifts` is root's map of estimated shifts. Rank-local.
pub fn summarise(
    found: &[Region],
    labels: &[i32],
    shifts: Option<&[f32]>,
    width: usize,
) -> Vec<RegionSummary> {
    found
        .iter()
        .map(|region| {
            let mut inside: Vec<f32> = Vec::new();
            for y in region.rows[0]..=region.rows[1] {
                for x in region.columns[0]..=region.columns[1] {
                    let pixel = y * width + x;
                    let shift = shifts.map_or(f32::NAN, |shifts| shifts[pixel]);
                    if labels[pixel] == region.label && shift.is_finite() {
                        inside.push(shift);
                    }
                }
            }
            inside.sort_by(f32::total_cmp);
            RegionSummary {
                label: region.label,
                y: region.centroid_yx[0],
                x: region.centroid_yx[1],
                area: region.area_px,
                rows: region.rows,
                columns: region.columns,
                max_score: region.max_score,
                mean_score: region.mean_score,
                estimated_shift_ev: inside.get(inside.len() / 2).map(|&shift| shift as f64),
            }
        })
        .collect()
}

/// The mean spectrum of each of the first regions, as counted and as the CVAE explains it: signals `[region, energy]`.
///
/// `labels` is the whole map, equal on all ranks; the lines that hold regions are reconstructed once more.
/// # Collective
pub fn region_spectra(
    comm: &Comm,
    cube: &Cube,
    analysis: &Analysis,
    labels: &[i32],
) -> Result<Vec<SmallSignal>> {
    let [_, width] = cube.size();
    let count = labels.iter().copied().max().unwrap_or(0).max(0) as usize;
    let count = count.min(MOST_SPECTRA);
    if count == 0 {
        return Ok(Vec::new());
    }
    let channels = cube.energy.size;
    let bound = analysis.bound.max(1.0) * 1024.0;
    let mut measured = ExactSum::new(count * channels, bound);
    let mut explained = ExactSum::new(count * channels, bound);
    let kept = |label: i32| (1..=count as i32).contains(&label);
    let line_labels = |y: usize| &labels[y * width..(y + 1) * width];
    let add = |sum: &mut ExactSum, y: usize, line: &Array2<f32>| {
        let mut values = vec![0f64; count * channels];
        for (x, &label) in line_labels(y).iter().enumerate() {
            if kept(label) {
                let start = (label as usize - 1) * channels;
                for (value, &u) in values[start..].iter_mut().zip(line.row(x)) {
                    *value += u as f64;
                }
            }
        }
        sum.add(&values);
    };
    let holding: Vec<usize> = analysis
        .band
        .lines
        .clone()
        .filter(|&y| line_labels(y).iter().any(|&label| kept(label)))
        .collect();
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
    let signal = |title: &str, sum: ExactSum| -> Result<SmallSignal> {
        let mut values = Array2::from_shape_vec((count, channels), sum.total(comm)?)?;
        for (mut spectrum, area) in values.outer_iter_mut().zip(&areas) {
            spectrum.mapv_inplace(|sum| sum / area);
        }
        Ok(SmallSignal {
            signal: Signal {
                title: title.into(),
                axes: vec![index_axis("region", count), cube.energy.clone()],
                signal_type: "EELS".into(),
            },
            data: Data::F64(values.into_dyn()),
            learning_results: None,
        })
    };
    let mut signals = vec![signal(REGION_SPECTRA, measured)?];
    let reconstructed = signal(REGION_RECONSTRUCTIONS, explained)?;
    if analysis.tiles.is_some() {
        signals.push(reconstructed);
    }
    Ok(signals)
}
