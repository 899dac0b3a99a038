//! The command line: every command with its arguments, and help that teaches.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use coreloss::run::{Form, Start};

/// Finds anomalous spectra in archives of EELS spectrum images.
///
/// Works alone, under `mpirun -n N` and under `srun --mpi=pmix`.
#[derive(Parser)]
#[command(
    version,
    after_help = "Begin with:\n  coreloss inspect cube.dm4             what is in a file\n  coreloss init cube.dm4                a \
    configuration for it: cube.yaml\n  coreloss run cube.yaml                train, score, report\n  mpirun -n 4 coreloss \
    run cube.yaml   the same on four ranks, with the same results\n  coreloss config --explain train.steps what a key \
    means\n\nExit codes: 0 done; 1 failed; 2 bad configuration or usage; 3 done, some inputs set \
    aside; 75 stopped by a signal after a checkpoint (start it again to go on)."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// The whole pipeline: train, PCA, score, maps and report; goes on where an earlier run stopped.
    #[command(after_help = "Examples:
  coreloss run configs/real.yaml --set 'archive.inputs=[cube.dm4]'
  coreloss run run.yaml --dry-run              what it would take
  mpirun -n 4 coreloss run run.yaml --fresh    anew, on four ranks
  srun --mpi=pmix coreloss run run.yaml        in a Slurm job")]
    Run {
        #[command(flatten)]
        run: RunArguments,
        /// Says what it would do, take and need, from a few measured steps; writes nothing.
        #[arg(long, conflicts_with_all = ["fresh", "resume"])]
        dry_run: bool,
    },
    /// Trains the 3D-CVAE only.
    Train(RunArguments),
    /// Principal components and their scores only; needs no trained model.
    Pca(RunArguments),
    /// Scores with the model that `train` left in the output folder.
    Score(RunArguments),
    /// Draws report.html of a finished run anew.
    Report(ConfigArguments),
    /// Writes the simulated cubes of a configuration, with their truth.
    Simulate(ConfigArguments),
    /// Writes copies of measured cubes with known anomalies, with their truth.
    Inject(ConfigArguments),
    /// Copies cubes of any readable format into chunked .hspy files, in parallel, and checks the copies.
    Import(ImportArguments),
    /// Many configurations from one file: plans, runs, shows and collects them.
    #[command(subcommand)]
    Sweep(SweepCommand),
    /// Scores a catalogue of many cubes and ranks them; goes on where it stopped, and takes in what was added.
    Survey(ConfigArguments),
    /// Looks for the traps of clusters, and says how to mend each; alone, under mpirun and under srun.
    Doctor(DoctorArguments),
    /// Writes the results of runs in forms that other programs read.
    Export(ExportArguments),
    /// Tells how far a run is: step, loss, time left, cubes scored.
    Status(StatusArguments),
    /// Writes a commented configuration for a cube, from what is found in it.
    Init(InitArguments),
    /// Shows a configuration with all its defaults, or what its keys mean.
    Config(ShowArguments),
    /// Prints the completions of a shell: source <(coreloss completions bash).
    Completions { shell: clap_complete::Shell },
    /// Describes files: shape, axes, instrument, counts, noise, edges, drift, and what is wrong with them.
    Inspect(InspectArguments),
    /// Measures this machine; the last line of stdout has the figures.
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Training steps on made-up patches: speed, and where the time goes.
    Train(BenchTrainArguments),
    /// Principal components of one file, from opening it to the result.
    Pca(BenchPcaArguments),
    /// A network's answer to made-up counts, in tiles as it scores: spectra per second.
    Reconstruct(BenchReconstructArguments),
    /// The gradient's reduction beside a bare MPI_Allreduce, by size.
    Allreduce {
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// One reading of a file's cube.
    Io(BenchIoArguments),
}

#[derive(Args)]
pub struct BenchIoArguments {
    pub file: PathBuf,
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
    /// As for the other commands: --set archive.dataset=entry/data.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct BenchPcaArguments {
    pub file: PathBuf,
    #[arg(long, default_value_t = 10)]
    pub components: usize,
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
    /// As for the other commands: --set archive.dataset=entry/data, --set pca.poisson=false.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct BenchReconstructArguments {
    /// JSON with the layers; the configuration's preset at 480 channels by default.
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
    /// As for the other commands: --set train.device=cuda.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct BenchTrainArguments {
    /// JSON with the layers; the configuration's preset at 480 channels by default.
    #[arg(long)]
    pub spec: Option<PathBuf>,
    /// Patches per rank and step, a multiple of train.micro_batch.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Steps to measure.
    #[arg(long, default_value_t = 20)]
    pub steps: usize,
    /// Steps before them.
    #[arg(long, default_value_t = 3)]
    pub warmup: usize,
    /// Steps alone, without the rates of matrix products and reductions beside them.
    #[arg(long)]
    pub steps_only: bool,
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
    /// As for the other commands: --set train.micro_batch=8, --set train.reduction=fast.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct ConfigArguments {
    /// YAML file; see configs/ for examples.
    pub config: PathBuf,
    /// Lays a value over the file: --set train.steps=800 --set 'archive.inputs=[a.hspy, b.hspy]'.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// Removes the results of earlier runs in the output folder first.
    #[arg(long, conflicts_with = "resume")]
    pub fresh: bool,
    /// Refuses to start where there is no checkpoint to go on from.
    #[arg(long)]
    pub resume: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss import session/*.dm4 -o archive
  mpirun -n 8 coreloss import session -o archive --set io.memory_mib=1024
  coreloss import file.h5 -o archive --set archive.dataset=entry/data/counts")]
pub struct ImportArguments {
    /// Files, globs (quoted) and folders; HyperSpy, HDF5, NeXus, EMD, DM3 and DM4.
    #[arg(required = true)]
    pub files: Vec<String>,
    /// Folder of the copies: ID.hspy, small images as ID.survey.hspy; ids are the paths below the inputs' common root.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// One line of JSON for each file.
    #[arg(long)]
    pub json: bool,
    /// Chooses and bounds: --set archive.image=1, --set archive.dataset=entry/data, --set io.memory_mib=512.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss export out/demo --csv --png -o tables      every cube of a run
  coreloss export out/demo/demo.coreloss.hspy --npy   numpy.load reads the maps")]
pub struct ExportArguments {
    /// *.coreloss.hspy files, or output folders.
    #[arg(required = true)]
    pub results: Vec<PathBuf>,
    /// Folder of what is written.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// Tables: maps as they lie, spectra by energy (eV), regions, factors.
    #[arg(long)]
    pub csv: bool,
    /// NumPy arrays of all signals.
    #[arg(long)]
    pub npy: bool,
    /// A picture of each map.
    #[arg(long)]
    pub png: bool,
    /// One NeXus file (NXdata) of each cube.
    #[arg(long)]
    pub nexus: bool,
}

impl ExportArguments {
    pub fn forms(&self) -> Vec<Form> {
        let asked = [(self.csv, Form::Csv), (self.npy, Form::Npy), (self.png, Form::Png), (self.nexus, Form::Nexus)];
        let asked = asked.into_iter().filter(|(asked, _)| *asked);
        asked.map(|(_, form)| form).collect()
    }
}

#[derive(Args)]
pub struct StatusArguments {
    /// Output folder of a run.
    pub directory: PathBuf,
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct InitArguments {
    /// HyperSpy, HDF5, NeXus, EMD, DM3 or DM4 file.
    pub file: PathBuf,
    /// The configuration; by default the file's name with .yaml in the working directory.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Chooses what to look at: --set archive.image=1, --set archive.dataset=entry/data.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss config                          every key at its default
  coreloss config --explain                what every key means
  coreloss config --explain train.steps    one key; train: all of that section
  coreloss config --explain sweep          the keys of a sweep file
  coreloss config run.yaml --set seed=2    what a run would take")]
pub struct ShowArguments {
    /// YAML file; the defaults without one.
    pub config: Option<PathBuf>,
    /// What a key, or all keys of a section, mean.
    #[arg(long, value_name = "KEY", num_args = 0..=1, default_missing_value = "", conflicts_with = "config")]
    pub explain: Option<String>,
    /// Lays a value over the file.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct DoctorArguments {
    /// Checks what this configuration asks for, too.
    pub config: Option<PathBuf>,
    /// One line of JSON.
    #[arg(long)]
    pub json: bool,
    /// Lays a value over the file.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Subcommand)]
pub enum SweepCommand {
    /// Prints the table of points.
    Plan(ConfigArguments),
    /// Runs one point, or one after the other those that are missing. Several may run at once on one folder.
    Run {
        #[command(flatten)]
        config: ConfigArguments,
        /// Runs this point only; by default that of the Slurm array's task.
        #[arg(long, env = "SLURM_ARRAY_TASK_ID", value_name = "K")]
        index: Option<usize>,
        /// Runs what failed again, and nothing else.
        #[arg(long)]
        only_failed: bool,
    },
    /// Shows how every point stands: done, running, failed (and why) or missing.
    Status {
        #[command(flatten)]
        config: ConfigArguments,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Gathers table.csv, table.h5 and figures of what is done.
    Collect(ConfigArguments),
}

#[derive(Args)]
#[command(after_help = "Examples:
  coreloss inspect cube.dm4
  coreloss inspect *.dm3 --quick                          headers only
  coreloss inspect cube.dm4 --json | jq .edges            onsets in eV, likely elements
  coreloss inspect cube.dm4 --set archive.image=1         another image of the file")]
pub struct InspectArguments {
    /// HyperSpy, HDF5, NeXus, EMD, DM3 and DM4 files.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// One line of JSON for each file.
    #[arg(long)]
    pub json: bool,
    /// Reads no spectrum: only what the files say of themselves.
    #[arg(long)]
    pub quick: bool,
    /// Chooses what to describe: --set archive.image=1, --set archive.dataset=entry/data.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl RunArguments {
    pub fn start(&self) -> Start {
        match (self.fresh, self.resume) {
            (true, _) => Start::Fresh,
            (_, true) => Start::Resume,
            _ => Start::Continue,
        }
    }
}
