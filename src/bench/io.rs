//! `coreloss bench io`: how fast the cube of one file is read, in the blocks in which cubes are streamed.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::print;
use crate::archive::{Options, Reader};
use crate::comm::Comm;
use crate::config::{Config, Overrides};
use crate::memory::peak_rss_mib;
use crate::shard::Blocks;

/// What to measure.
#[derive(Args)]
pub struct IoBench {
    /// File with the cube.
    pub file: PathBuf,
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
    shape: [usize; 3],
    dtype: String,
    file_mb: f64,
    /// Size of the decoded values, in their stored type.
    array_mb: f64,
    seconds: f64,
    /// Speed of all ranks together, in decoded bytes.
    read_mb_s: f64,
    peak_rss_mib: Vec<f64>,
}

/// Times one pass of reading through the whole cube, including its opening; every rank reads its own blocks of lines.
///
/// # Collective
/// # Errors
/// A file that cannot be read.
pub fn io(comm: &Comm, config: &Config, bench: &IoBench) -> Result<()> {
    comm.barrier();
    let begun = Instant::now();
    let reader = comm.agree(Reader::open(&bench.file, &Options::of(config)))?;
    let shape = reader.info().shape();
    let blocks = Blocks::new(shape);
    let mut mine = blocks.owned(comm.rank(), comm.size());
    let read = mine.try_for_each(|block| reader.read(blocks.rows(block), 0..shape[1], 0..shape[2]).map(drop));
    comm.agree(read)?;
    let seconds = begun.elapsed().as_secs_f64();
    let about = fs::metadata(&bench.file).with_context(|| bench.file.display().to_string());
    let file = comm.agree(about)?.len();
    let dtype = reader.info().dtype.clone();
    let array_mb = (shape.iter().product::<usize>() * bytes(&dtype)) as f64 / 1e6;
    let figures = Figures {
        what: "io",
        ranks: comm.size(),
        shape,
        dtype,
        file_mb: file as f64 / 1e6,
        array_mb,
        seconds,
        read_mb_s: array_mb / seconds,
        peak_rss_mib: comm.all_gather(&peak_rss_mib()),
    };
    print(comm, &figures, bench.json);
    Ok(())
}

/// Bytes of one value of the NumPy type `dtype`.
fn bytes(dtype: &str) -> usize {
    let bits: String = dtype.chars().filter(char::is_ascii_digit).collect();
    bits.parse::<usize>().unwrap_or(8) / 8
}
