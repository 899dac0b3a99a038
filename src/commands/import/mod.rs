//! `coreloss import`: copies cubes of any readable format into chunked `.hspy` files or `.zspy` folders, all ranks together.

mod checksum;
mod copy;
mod existing;
mod pictures;
mod pieces;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::startup::by_default;
use crate::archive::{Options, Source};
use crate::comm::Comm;
use crate::config::Overrides;
use crate::ending::Ending;
use crate::pipeline::list_inputs;
use crate::results::{Failure, SetAside};

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss import session/*.dm4 -o archive
  mpirun -n 8 coreloss import session -o archive --set io.memory_mib=1024
  coreloss import file.h5 -o archive --set archive.dataset=entry/data/counts")]
pub struct ImportArguments {
    /// Files, globs (quoted) and folders; HyperSpy, HDF5, NeXus, EMD, Velox, DM3, DM4, DM5 and zspy.
    #[arg(required = true)]
    files: Vec<String>,
    /// Folder for the copies: ID.hspy, with small images as ID.survey.hspy. IDs are paths below the inputs' common
    /// root.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Writes ID.zspy, HyperSpy's Zarr folders, instead.
    #[arg(long)]
    zspy: bool,
    /// One line of JSON for each file.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// What became of one file.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a Path,
    id: &'a str,
    output: PathBuf,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase", tag = "status")]
enum Outcome {
    Imported {
        shape: [usize; 3],
        dtype: String,
        chunks: [usize; 3],
        checksum: String,
        /// The file of the survey image and other small images, if there are any.
        pictures: Option<PathBuf>,
        seconds: f64,
        mb_per_s: f64,
        problems: Vec<String>,
    },
    /// The copy exists already, with the checksum that was verified when it was written.
    Skipped {
        checksum: String,
    },
    Failed {
        reason: String,
    },
}

/// Copies cubes into a folder, each as `ID.hspy` or `ID.zspy`; leaves whole copies that exist already alone.
///
/// # Collective
/// # Errors
/// No such files; a folder that cannot be written; the first named file that cannot be imported, after all others were.
pub fn import(comm: &Comm, arguments: &ImportArguments) -> Result<Ending> {
    let config = &by_default(comm, "import", &arguments.overrides)?;
    let sources = list_inputs(comm, &arguments.files)?;
    let options = Options::of(config);
    let mut set_aside = SetAside::default();
    let mut failed = None;
    for source in &sources {
        let output = output_of(&arguments.output, source, arguments.zspy);
        let outcome = match copy::copy(comm, config, &options, source, &output) {
            Ok(outcome) => outcome,
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Source(error)) => {
                let reason = format!("{error:#}");
                if source.named {
                    failed.get_or_insert(error);
                } else {
                    set_aside.record(comm, source.path.display().to_string(), reason.clone());
                }
                Outcome::Failed { reason }
            }
        };
        if comm.is_root() {
            Line { path: &source.path, id: &source.id, output, outcome }.print(arguments.json)?;
        }
    }
    failed.map_or(Ok(set_aside.ending()), Err)
}

/// Where the copy of `source` goes: its id is a path below the inputs' root, never a name from inside a file.
fn output_of(folder: &Path, source: &Source, zspy: bool) -> PathBuf {
    folder.join(format!("{}.{}", source.id, if zspy { "zspy" } else { "hspy" }))
}

impl Line<'_> {
    fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let output = self.output.display();
        match &self.outcome {
            Outcome::Imported { shape: [y, x, energy], dtype, seconds, mb_per_s, pictures, .. } => {
                println!("{output}: {y} x {x} x {energy} {dtype}, {seconds:.1} s, {mb_per_s:.0} MB/s");
                if let Some(pictures) = pictures {
                    println!("{}: its small images", pictures.display());
                }
            }
            Outcome::Skipped { .. } => println!("{output}: is there already"),
            // The log has it.
            Outcome::Failed { .. } => (),
        }
        Ok(())
    }
}

/// Seconds since `began`, and the speed of `bytes` in that time, MB/s.
fn speed(began: Instant, bytes: usize) -> (f64, f64) {
    let seconds = began.elapsed().as_secs_f64();
    (seconds, bytes as f64 / 1e6 / seconds.max(1e-9))
}
