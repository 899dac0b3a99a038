//! `coreloss bench reconstruct`: reconstruction of made-up counts by an untrained network, including tiles and
//! blending.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{median, print, train::read_spec};
use crate::comm::Comm;
use crate::config::{Config, Overrides};
use crate::gpu::device;
use crate::invalid::Invalid;
use crate::memory::peak_rss_mib;
use crate::model::{Parameters, Tiles};
use crate::shard::Blocks;

/// What to measure.
#[derive(Args)]
pub struct ReconstructBench {
    /// JSON file with the layers; by default the configuration's preset at 480 channels.
    #[arg(long)]
    pub spec: Option<PathBuf>,
    /// Pixels along each side of the cube.
    #[arg(long, default_value_t = 96)]
    pub side: usize,
    /// Rounds to measure.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Medians over the rounds.
#[derive(Serialize)]
struct Figures {
    what: &'static str,
    ranks: usize,
    threads: usize,
    shape: [usize; 3],
    seconds: f64,
    spectra_per_s: f64,
    /// Mean square of all reconstructed shares: the same for any number of ranks.
    mean_square: f64,
    peak_rss_mib: Vec<f64>,
}

/// Times the reconstruction of a cube in memory; a first round is not counted.
///
/// # Collective
/// # Errors
/// A specification that cannot be read; a side or a number of rounds of 0.
pub fn reconstruct(comm: &Comm, config: &Config, bench: &ReconstructBench) -> Result<()> {
    let spec = comm.agree(read_spec(config, bench.spec.as_deref()))?;
    if bench.side == 0 || bench.rounds == 0 {
        let message = "bench reconstruct: --side and --rounds are at least 1".to_string();
        return Err(Invalid(message).into());
    }
    let device = device::choose(comm, config.train.device)?;
    let shape = [bench.side, bench.side, spec.energy()];
    let mean = vec![1.0 / spec.energy() as f64; spec.energy()];
    let parameters = Parameters::initial(&spec, &mean, config.seed);
    let tiles = Tiles::new(&spec, &parameters, device, &mean, [shape[0], shape[1]]);
    let band = Blocks::new(shape).band(comm.rank(), comm.size());
    let first = tiles.halo(&band).start;
    let counts = made_up(shape, tiles.halo(&band));
    let (mut seconds, mut squares) = (Vec::new(), Vec::new());
    for round in 0..=bench.rounds {
        squares.clear();
        comm.barrier();
        let begun = Instant::now();
        let lines = |rows: std::ops::Range<usize>| {
            let rows = rows.start - first..rows.end - first;
            anyhow::Ok(counts.slice(ndarray::s![rows, .., ..]).to_owned())
        };
        tiles.reconstruct(band.clone(), lines, |line| {
            squares.push(line.shares.iter().map(|&v| f64::from(v * v)).sum::<f64>());
            Ok(())
        })?;
        comm.barrier();
        if round > 0 {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    let all = comm.all_gather(&squares);
    let seconds = median(seconds);
    let figures = Figures {
        what: "reconstruct",
        ranks: comm.size(),
        threads: rayon::current_num_threads(),
        shape,
        seconds,
        spectra_per_s: (shape[0] * shape[1]) as f64 / seconds,
        mean_square: all.iter().flatten().sum::<f64>() / shape.iter().product::<usize>() as f64,
        peak_rss_mib: comm.all_gather(&peak_rss_mib()),
    };
    print(comm, &figures, bench.json);
    Ok(())
}

/// Lines `rows` of a cube of uniform random electrons, the same on every rank.
fn made_up(shape: [usize; 3], rows: std::ops::Range<usize>) -> Array3<f32> {
    let mut counts = Array3::zeros((rows.len(), shape[1], shape[2]));
    for (y, mut line) in rows.zip(counts.outer_iter_mut()) {
        let mut rng = ChaCha8Rng::seed_from_u64(y as u64);
        line.iter_mut().for_each(|n| *n = 20.0 * rng.random::<f32>());
    }
    counts
}
