//! The edges of a cube: those of its mean spectrum or, where that has none, those of the parts of its field.

use anyhow::Result;

use crate::comm::{Comm, ExactSum};
use crate::spectrum::{FoundEdge, find_edges, sum_spectra};
use crate::stream::Band;

/// Parts in each direction. An edge in a quarter of the field fills one of them, whichever quarter that is.
const PARTS: usize = 3;
/// Onsets nearer than this (eV) are of one edge.
const SAME_EV: f64 = 40.0;

/// Finds the edges of the cube of `band`, whose mean spectrum is `mean` `[E]`. Where nothing rises there, an edge that only a
/// part of the field has may be too faint: the cube is read once more.
///
/// # Collective
/// # Errors
/// Unreadable data.
pub fn cube_edges(comm: &Comm, band: &Band, bound: f64, mean: &[f64]) -> Result<Vec<FoundEdge>> {
    let energy = &band.cube.energy;
    let mut found = find_edges(energy, mean);
    if !found.is_empty() {
        return Ok(found);
    }
    for part in part_means(comm, band, bound)? {
        for edge in find_edges(energy, &part) {
            if found.iter().all(|other| (other.onset_ev - edge.onset_ev).abs() > SAME_EV) {
                found.push(edge);
            }
        }
    }
    if comm.is_root() && !found.is_empty() {
        log::info!(
            "{}: no edge stands out of the mean spectrum, but some do in parts of the field",
            band.cube.info().id
        );
    }
    Ok(found)
}

/// The mean spectra of the parts that have pixels.
///
/// # Collective
fn part_means(comm: &Comm, band: &Band, bound: f64) -> Result<Vec<Vec<f64>>> {
    let ([height, width], channels) = (band.cube.size(), band.cube.energy.size);
    // The last entry of each part counts pixels.
    let length = channels + 1;
    let mut sum = ExactSum::new(PARTS * PARTS * length, bound.max(band.cube.ignored.len() as f64));
    let summed = band.each_block(|rows, prepared| {
        let lines = prepared.counts.outer_iter();
        for ((line, valid), y) in lines.zip(prepared.valid.outer_iter()).zip(rows) {
            let mut parts = vec![0.0; PARTS * PARTS * length];
            for column in 0..PARTS {
                let is_in = |x: usize| valid[x] && x * PARTS / width == column;
                let part = y * PARTS / height * PARTS + column;
                let place = &mut parts[part * length..][..length];
                place[..channels].copy_from_slice(&sum_spectra(line, is_in));
                place[channels] = (0..width).filter(|&x| is_in(x)).count() as f64;
            }
            sum.add(&parts);
        }
        Ok(())
    });
    comm.agree(summed)?;
    let sums = sum.total(comm)?;
    let parts = sums.chunks_exact(length).filter(|part| part[channels] > 0.0);
    Ok(parts.map(|part| part[..channels].iter().map(|sum| sum / part[channels]).collect()).collect())
}
