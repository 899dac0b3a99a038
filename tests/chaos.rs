//! Jobs that are killed at random moments. They end within ten seconds, say which rank died and why, and leave no
//! incomplete file under a final name. Started again, on the same or another number of ranks, they continue to the
//! result of an unbroken job, equal to the bit.
//!
//! There are a dozen trials here. `scripts/chaos.sh N SEED` makes N others, and prints a table.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use coreloss::train::Checkpoint;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::case::{Case, LIMIT};
use crate::common::cube::counts;
use crate::common::result::{assert_equal, findings, maps, summary};
use crate::common::{Ended, Job, files, send};

/// Within this time a job with a fault ends, with all its processes.
const END: Duration = Duration::from_secs(10);
const STEPS: usize = 8;

/// What a job is doing, as far as can be seen in its output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Read,
    Train,
    /// A checkpoint is being written, under its temporary name.
    Checkpoint,
    Pca,
    Score,
    /// The maps are being written, under their temporary name.
    Output,
    /// The maps are complete, and the summary is not yet there.
    Report,
}

const PHASES: [Phase; 7] =
    [Phase::Read, Phase::Train, Phase::Checkpoint, Phase::Pca, Phase::Score, Phase::Output, Phase::Report];

impl Phase {
    fn has_begun(self, output: &Path) -> bool {
        let checkpoints = output.join("checkpoints");
        let any = |folder: &Path, ending: &str| {
            let names = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut names = names.map(|entry| entry.file_name());
            names.any(|name| name.to_string_lossy().ends_with(ending))
        };
        match self {
            Phase::Read => true,
            Phase::Train => output.join("metrics.jsonl").exists(),
            Phase::Checkpoint => any(&checkpoints, ".partial"),
            Phase::Pca | Phase::Score => any(&checkpoints, &format!("{STEPS:08}.safetensors")),
            Phase::Output => any(output, ".coreloss.hspy.partial"),
            Phase::Report => any(output, ".coreloss.hspy"),
        }
    }

    /// Start and end of the phase in an unbroken job, in seconds after [`Phase::has_begun`] becomes true.
    fn span(self, laps: &serde_json::Value) -> [f64; 2] {
        let lap = |name: &str| laps[name].as_f64().unwrap_or(0.0);
        match self {
            Phase::Read => [0.0, 0.5 + lap("survey")],
            Phase::Train => [0.0, lap("train")],
            Phase::Checkpoint => [0.0, 0.003],
            Phase::Pca => [0.0, lap("pca")],
            Phase::Score => [lap("pca"), lap("pca") + lap("score")],
            Phase::Output => [0.0, lap("write")],
            Phase::Report => [0.0, 0.03],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillRank,
    KillAllRanks,
    KillMpirun,
    /// As batch scripts ask for an end.
    TermMpirun,
    /// As srun does.
    TermRanks,
}

const FAULTS: [Fault; 5] =
    [Fault::KillRank, Fault::KillAllRanks, Fault::KillMpirun, Fault::TermMpirun, Fault::TermRanks];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Fault::KillRank => "kill -9 of one rank",
            Fault::KillAllRanks => "kill -9 of all ranks",
            Fault::KillMpirun => "kill -9 of mpirun",
            Fault::TermMpirun => "SIGTERM to mpirun",
            Fault::TermRanks => "SIGTERM to all ranks",
        })
    }
}

impl Fault {
    /// Does it to `job`; returns the rank that was killed, if it was a single one.
    fn strike(self, job: &Job, victim: usize) -> Option<usize> {
        let ranks = job.ranks();
        match self {
            Fault::KillRank => {
                let victim = victim % ranks.len().max(1);
                send(*ranks.get(victim)?, libc::SIGKILL);
                return Some(victim);
            }
            Fault::KillAllRanks => ranks.iter().for_each(|&rank| send(rank, libc::SIGKILL)),
            Fault::KillMpirun => job.signal(libc::SIGKILL),
            Fault::TermMpirun => job.signal(libc::SIGTERM),
            Fault::TermRanks => ranks.iter().for_each(|&rank| send(rank, libc::SIGTERM)),
        }
        None
    }

    /// Checks that the exit code and messages of the job tell of it.
    fn is_told(self, ended: &Ended, victim: Option<usize>) {
        let code = ended.code();
        match self {
            Fault::KillRank | Fault::KillAllRanks => {
                assert!(code != 0, "went unnoticed:\n{}", ended.dump());
                ended.says("signal 9").says("rank ");
                if let Some(victim) = victim {
                    ended.says(&format!("rank {victim} "));
                }
            }
            // mpirun itself is dead and can say nothing.
            Fault::KillMpirun => assert_eq!(code, 128 + libc::SIGKILL, "{}", ended.dump()),
            // mpirun's exit code depends on the moment.
            Fault::TermMpirun => (),
            Fault::TermRanks if code == 0 || code == 75 => (),
            Fault::TermRanks => _ = ended.says("signal 15"),
        }
        ended.without_panic();
    }
}

/// A fault, and when and to which job it happens.
#[derive(Clone, Copy, Debug)]
struct Trial {
    phase: Phase,
    fault: Fault,
    ranks: usize,
    /// Number of ranks on which the job continues.
    then: usize,
    victim: usize,
    /// Between the beginning of the phase (0) and its end (1).
    moment: f64,
}

impl Trial {
    /// Trial number `i`: all pairs of a phase and a fault in turn.
    fn new(i: usize, random: &mut ChaCha8Rng) -> Trial {
        Trial {
            phase: PHASES[i % PHASES.len()],
            fault: FAULTS[(i + i / (PHASES.len() * FAULTS.len())) % FAULTS.len()],
            ranks: random.random_range(2..=3),
            then: random.random_range(1..=3),
            victim: random.random_range(0..3),
            moment: random.random_range(0.0..1.0),
        }
    }

    /// Whether the fault came before the job had ended. Fails where the job did not survive it.
    fn run(self, case: &Case, reference: &Path) -> bool {
        let output = case.path("out");
        if output.exists() {
            fs::remove_dir_all(&output).expect("an earlier trial's output");
        }
        let laps = &summary(reference)["timings_s"];
        let [from, to] = self.phase.span(laps);
        let mut job = start(case, self.ranks, "out");
        while job.running() && job.ranks().len() < self.ranks {
            std::thread::sleep(Duration::from_millis(1));
        }
        while job.running() && !self.phase.has_begun(&output) {
            // Writing a checkpoint takes milliseconds only.
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_secs_f64(from + self.moment * (to - from)));
        let met = job.running() && !output.join("summary.json").exists();
        let victim = self.fault.strike(&job, self.victim);
        let ended = job.wait(END);
        if met {
            self.fault.is_told(&ended, victim);
        }
        assert_whole(&output, reference);
        let last = start(case, self.then, "out").wait(LIMIT);
        last.succeeded();
        assert_equal(reference, &output);
        let left = files(&output, ".partial");
        assert!(left.is_empty(), "{left:?}:\n{}", last.dump());
        met
    }
}

fn start(case: &Case, ranks: usize, output: &str) -> Job {
    let output = format!("output={output}");
    let steps = format!("train.steps={STEPS}");
    let mut words = vec!["run", "run.yaml"];
    for set in [&output[..], &steps, "train.checkpoint_epochs=1", "pca.fit=training", "pca.components=[3]"] {
        words.extend(["--set", set]);
    }
    Job::of(case.command(ranks, &words))
}

/// Every file with a final name must be what an unbroken job writes.
fn assert_whole(output: &Path, reference: &Path) {
    if !output.is_dir() {
        return;
    }
    for path in files(output, ".safetensors") {
        Checkpoint::read(&path).unwrap_or_else(|error| panic!("{error:#}"));
    }
    if !files(output, ".coreloss.hspy").is_empty() {
        assert!(maps(output) == maps(reference), "maps differ");
    }
    if output.join("summary.json").exists() {
        assert_eq!(findings(output), findings(reference));
    }
    if let Ok(page) = fs::read_to_string(output.join("report.html")) {
        assert!(page.trim_end().ends_with("</html>"), "half a report");
    }
}

#[test]
fn faults_at_random_moments_lose_nothing() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (trials, seed) = (number("CORELOSS_CHAOS_TRIALS", 12), number("CORELOSS_CHAOS_SEED", 1));
    let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
    let case = Case::new("chaos").cube(&counts([24, 24, 64], 1));
    start(&case, 2, "reference").wait(LIMIT).succeeded();
    let reference = case.path("reference");

    // Numbers of trials and of those survived.
    let mut table: BTreeMap<(Phase, Fault), [usize; 2]> = BTreeMap::new();
    let (mut late, mut lost) = (0, Vec::new());
    let began = Instant::now();
    for i in 0..trials {
        let trial = Trial::new(i, &mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| trial.run(&case, &reference)));
        let cell = table.entry((trial.phase, trial.fault)).or_default();
        match outcome {
            Ok(true) => *cell = [cell[0] + 1, cell[1] + 1],
            Ok(false) => late += 1,
            Err(_) => {
                cell[0] += 1;
                lost.push(format!("trial {i}: {trial:?}"));
            }
        }
    }
    print(&table);
    println!("{late} came too late; {} lost; seed {seed}, {:.0} s", lost.len(), began.elapsed().as_secs_f64());
    assert!(lost.is_empty(), "{lost:#?}");
}

/// Prints survived and tried, with a row for each fault and a column for each phase.
fn print(table: &BTreeMap<(Phase, Fault), [usize; 2]>) {
    let header: Vec<String> = PHASES.iter().map(|phase| format!("{phase:?}")).collect();
    println!("| survived / tried | {} | all |", header.join(" | "));
    println!("|---|{}", "---|".repeat(PHASES.len() + 1));
    for fault in FAULTS {
        let cells = PHASES.map(|phase| table.get(&(phase, fault)).copied().unwrap_or_default());
        let all = cells.iter().fold([0, 0], |sum, cell| [sum[0] + cell[0], sum[1] + cell[1]]);
        let text = |[tried, survived]: &[usize; 2]| format!("{survived}/{tried}");
        let row: Vec<String> = cells.iter().chain([&all]).map(text).collect();
        println!("| {fault} | {} |", row.join(" | "));
    }
}
