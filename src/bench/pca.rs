//! `coreloss bench pca`: principal components of the stored values of one file, from opening the file to the result.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use ndarray::Array2;
use serde::Serialize;

use super::print;
use crate::archive::{Options, Reader};
use crate::comm::Comm;
use crate::config::{Config, Overrides, PcaSolver};
use crate::memory::peak_rss_mib;
use crate::pca::{Scatter, Spectra, randomized};
use crate::shard::Blocks;

/// What to measure.
#[derive(Args)]
pub struct PcaBench {
    /// File with the cube.
    pub file: PathBuf,
    /// Number of components.
    #[arg(long, default_value_t = 10)]
    pub components: usize,
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub overrides: Overrides,
}

#[derive(Serialize)]
struct Figures {
    what: &'static str,
    ranks: usize,
    threads: usize,
    shape: [usize; 3],
    components: usize,
    poisson: bool,
    solver: PcaSolver,
    /// Total from opening to the result, then its parts on root: opening, the first pass of reading, the second with
    /// the products, and the decomposition with the sum over ranks. All passes of the randomised solver count as
    /// products.
    seconds: f64,
    open_s: f64,
    sums_s: f64,
    products_s: f64,
    decomposition_s: f64,
    /// Of the first components.
    explained_variance_ratio: Vec<f64>,
    peak_rss_mib: Vec<f64>,
}

/// Times the decomposition of the values as stored: no pixel is ignored, no spike removed.
///
/// # Collective
/// # Errors
/// A file that cannot be read.
pub fn pca(comm: &Comm, config: &Config, bench: &PcaBench) -> Result<()> {
    comm.barrier();
    let begun = Instant::now();
    let reader = comm.agree(Reader::open(&bench.file, &Options::of(config)))?;
    let shape = reader.info().shape();
    let blocks = Blocks::new(shape);
    let mine = blocks.owned(comm.rank(), comm.size());
    let read = |block: usize| {
        let counts = reader.read(blocks.rows(block), 0..shape[1], 0..shape[2])?;
        let pixels = counts.len() / shape[2];
        let spectra = counts.into_shape_with_order((pixels, shape[2]));
        spectra.context("lines lie one after the other")
    };
    let opened = begun.elapsed().as_secs_f64();

    let sums = column_sums(comm, mine.clone().map(read), shape[2])?;
    let summed = begun.elapsed().as_secs_f64();

    let poisson = config.pca.poisson;
    let spectra = Spectra::new(&sums, poisson);
    let pixels = (shape[0] * shape[1]) as u64;
    let add_to = |scatter: &mut Scatter| comm.agree(scatter.add_blocks(mine.clone(), read));
    let (found, multiplied) = match config.pca.solver {
        PcaSolver::Exact => {
            let mut scatter = Scatter::new(&spectra);
            add_to(&mut scatter)?;
            let multiplied = begun.elapsed().as_secs_f64();
            let found = scatter.decompose(comm, pixels, bench.components)?;
            (found, multiplied)
        }
        PcaSolver::Randomized => {
            let found = randomized(comm, &spectra, pixels, pixels as f64, bench.components, add_to)?;
            (found, begun.elapsed().as_secs_f64())
        }
    };
    comm.barrier();
    let seconds = begun.elapsed().as_secs_f64();
    let figures = Figures {
        what: "pca",
        ranks: comm.size(),
        threads: rayon::current_num_threads(),
        shape,
        components: found.num_components(),
        poisson,
        solver: config.pca.solver,
        seconds,
        open_s: opened,
        sums_s: summed - opened,
        products_s: multiplied - summed,
        decomposition_s: seconds - multiplied,
        explained_variance_ratio: found.explained_variance_ratio[..found.num_components()].to_vec(),
        peak_rss_mib: comm.all_gather(&peak_rss_mib()),
    };
    print(comm, &figures, bench.json);
    Ok(())
}

/// The sum of all spectra, the same for any number of ranks.
///
/// # Collective
fn column_sums(comm: &Comm, blocks: impl Iterator<Item = Result<Array2<f32>>>, channels: usize) -> Result<Vec<f64>> {
    let mut sums: Vec<Vec<f64>> = Vec::new();
    let summed = blocks.into_iter().try_for_each(|block| {
        let mut sum = vec![0f64; channels];
        for spectrum in block?.rows() {
            for (sum, &value) in sum.iter_mut().zip(spectrum) {
                *sum += f64::from(value);
            }
        }
        sums.push(sum);
        Ok(())
    });
    comm.agree(summed)?;
    // In the order of the blocks, whichever rank read them.
    let all = comm.all_gather(&sums);
    let mut total = vec![0f64; channels];
    for sum in all.iter().flatten() {
        total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
    }
    Ok(total)
}
