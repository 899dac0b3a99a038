//! The principal components of one cube, and where its pixels lie among them.

use anyhow::{Context, Result};
use ndarray::{Array2, Axis as Dim};
use rayon::prelude::*;

use crate::comm::Comm;
use crate::pca::{Decomposition, Scatter};
use crate::stream::Band;

/// The first `most` principal components of the cube's pixels that count.
///
/// `sums` `[energy]` are their electrons, summed, and `pixels` their number.
///
/// # Collective
pub fn decompose(
    comm: &Comm,
    band: &Band,
    poisson: bool,
    sums: &[f64],
    pixels: u64,
    most: usize,
) -> Result<Decomposition> {
    let blocks = band.cube.blocks();
    let scale: Option<Vec<f64>> =
        poisson.then(|| sums.iter().map(|&sum| sum.max(0.0).sqrt()).collect());
    // A sum of squares is at most the square of the sum where nothing is negative.
    let largest = sums.iter().fold(0f64, |largest, &sum| largest.max(sum));
    let mut scatter = Scatter::new(sums.len(), scale.as_deref(), largest * largest)?;
    let mine: Vec<usize> = blocks.owned(comm.rank(), comm.size()).collect();
    let summed = mine
        .chunks(rayon::current_num_threads())
        .try_for_each(|some| {
            let products = some
                .par_iter()
                .map(|&block| {
                    let prepared = band.lines(blocks.rows(block))?;
                    let mut values = Vec::with_capacity(prepared.counts.len());
                    let lines = prepared.counts.outer_iter();
                    for (line, valid) in lines.zip(prepared.valid.outer_iter()) {
                        let pixels = line.outer_iter().zip(valid).filter(|(_, &valid)| valid);
                        pixels.for_each(|(spectrum, _)| values.extend(spectrum));
                    }
                    // Several threads do this at once: none keeps what it has done with.
                    drop(prepared);
                    let shape = (values.len() / sums.len(), sums.len());
                    let matrix =
                        Array2::from_shape_vec(shape, values).context("spectra have one length")?;
                    scatter.product(matrix.view())
                })
                .collect::<Result<Vec<Vec<f64>>>>()?;
            products.iter().for_each(|product| scatter.add(product));
            Ok(())
        });
    comm.agree(summed)?;
    scatter.decompose(comm, pixels, most)
}

/// Loadings of this rank's pixels `[lines * x, k]`, NaN where a pixel is ignored.
///
/// # Collective
pub fn loadings(
    comm: &Comm,
    band: &Band,
    decomposition: &Decomposition,
    k: usize,
) -> Result<Array2<f64>> {
    let width = band.cube.size()[1];
    let k = k.min(decomposition.num_components());
    let mut loadings = Array2::from_elem((band.lines.len() * width, k), f64::NAN);
    let done = band.each_block(|rows, prepared| {
        for (i, y) in rows.enumerate() {
            let found = decomposition.loadings(prepared.counts.index_axis(Dim(0), i), k);
            for (x, &valid) in prepared.valid.row(i).iter().enumerate() {
                if valid {
                    loadings
                        .row_mut((y - band.lines.start) * width + x)
                        .assign(&found.row(x));
                }
            }
        }
        Ok(())
    });
    comm.agree(done)?;
    Ok(loadings)
}
