//! The principal components from which a blind spot starts.

use anyhow::Result;

use crate::comm::Comm;
use crate::config::Config;
use crate::model::Basis;
use crate::pca::{Decomposition, Spectra, randomized};
use crate::stream::{Band, Cube, CubeStatistics, MeanSpectrum};

/// The first `count` principal components of the whitened spectra that are trained on; `mean` is their mean.
///
/// With Poisson scaling, the spectra are the whitened ones plus a multiple of the root of the mean, to which all of these are
/// orthogonal: it is the first component, and the others are those of the whitened spectra.
///
/// # Collective
/// # Errors
/// Unreadable data.
pub fn of(
    comm: &Comm,
    config: &Config,
    cubes: &[Cube],
    statistics: &CubeStatistics,
    mean: &MeanSpectrum,
    count: usize,
) -> Result<Basis> {
    let electrons = mean.electrons_per_pixel * mean.pixels;
    let sums: Vec<f64> = mean.shares.iter().map(|share| share * electrons).collect();
    let spectra = Spectra::new(&sums, true);
    let independent = mean.pixels / config.preprocess.dependence();
    let found = randomized(comm, &spectra, mean.pixels as u64, independent, count + 1, |scatter| {
        for cube in cubes {
            let lines = cube.blocks().band(comm.rank(), comm.size());
            // Nothing is kept in memory: each block is read when it is added.
            let band = comm.agree(Band::open(cube, statistics.noise, lines, 0..0, 0))?;
            let blocks = cube.blocks().owned(comm.rank(), comm.size());
            comm.agree(scatter.add_blocks(blocks, |block| band.spectra(block, |y, x| cube.is_trained_on(y, x))))?;
        }
        Ok(())
    })?;
    Ok(basis(&found, &sums, electrons, mean.electrons_per_pixel))
}

/// All components but the first, undone of the channels' scales.
fn basis(found: &Decomposition, sums: &[f64], total: f64, electrons: f64) -> Basis {
    let scales: Vec<f64> = sums.iter().map(|sum| sum.max(f64::MIN_POSITIVE).sqrt()).collect();
    let rows = found.factors.outer_iter().zip(&scales);
    Basis {
        vectors: rows.flat_map(|(row, scale)| row.iter().skip(1).map(|v| v / scale).collect::<Vec<f64>>()).collect(),
        // Scaled, all spectra together have the variance 1 for each electron.
        variances: found.explained_variance[1..found.num_components()].iter().map(|v| v * total).collect(),
        electrons,
    }
}
