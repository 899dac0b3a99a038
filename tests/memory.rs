//! Memory is bounded by the configuration, not by the archive: a cube four times larger than `io.memory_mib` runs
//! through the whole pipeline below a limit that the kernel enforces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::dm4::write_sparse;
use crate::common::result::{maps, summary};
use crate::common::{Ended, after, coreloss, finish, folder};

const LIMIT: Duration = Duration::from_secs(600);

/// Half more than the smallest that the configuration allows. What the allocator keeps differs by up to 30 MiB between
/// equal runs.
const MEMORY_MIB: f64 = 96.0;
/// 384 MiB of float32.
const LARGE: [usize; 3] = [384, 256, 1024];
/// The same model needs the same memory for this cube: as many channels, and patches of the same size. The cube itself
/// needs next to none.
const TINY: [usize; 3] = [48, 48, 1024];
/// Not counted in `io.memory_mib`: 64 floats per pixel of the large cube.
const PER_PIXEL_MIB: f64 = (64 * 4 * LARGE[0] * LARGE[1]) as f64 / (1 << 20) as f64;
/// For `mpirun` itself, memory that ranks share, and the kernel's tables.
const LAUNCHER_MIB: f64 = 96.0;

#[test]
fn a_cube_four_times_larger_than_the_memory_runs_below_a_real_limit() {
    let folder = folder("memory");
    // The allocator holds all that it keeps after some ten steps; before that, equal runs differ by 110 MiB.
    let yaml = format!(
        "train: {{steps: 16}}\npca: {{components: [3]}}\nsimulate:\n  dir: .\n  cubes:\n\
         \x20   - {{name: large, scene: {{shape: {LARGE:?}, dispersion_ev: 0.4}}}}\n\
         \x20   - {{name: tiny, scene: {{shape: {TINY:?}, dispersion_ev: 0.4}}}}\n"
    );
    fs::write(folder.join("run.yaml"), yaml).expect("a folder takes a file");
    finish(command(&folder, 2, &["simulate", "run.yaml"]), LIMIT).succeeded();
    let voxels: usize = LARGE.iter().product();
    assert!(voxels as f64 * 4.0 >= 4.0 * MEMORY_MIB * (1 << 20) as f64);

    for (ranks, threads) in [(1, 2), (2, 1)] {
        let output = |name: &str| folder.join(format!("{name}-{ranks}"));
        let run = |name: &str, memory: f64| {
            let sets = [
                format!("archive.inputs=[{name}.hspy]"),
                format!("output={}", output(name).display()),
                format!("io.memory_mib={memory}"),
            ];
            let mut arguments = vec!["run", "run.yaml", "--fresh"];
            sets.iter().for_each(|set| arguments.extend(["--set", set]));
            let mut command = command(&folder, ranks, &arguments);
            command.env("CORELOSS_THREADS", threads.to_string());
            command
        };
        finish(run("tiny", MEMORY_MIB), LIMIT).succeeded();
        let baseline = peak(&output("tiny"));
        let allowed = baseline + MEMORY_MIB + PER_PIXEL_MIB / ranks as f64;

        let limited = Limit::new(ranks as f64 * allowed + LAUNCHER_MIB, allowed);
        limited.job(run("large", MEMORY_MIB)).succeeded();
        let used = peak(&output("large"));
        eprintln!(
            "{ranks} ranks, {}: baseline {baseline:.0} MiB, with the large cube {used:.0} MiB, allowed {allowed:.0} MiB",
            limited.what()
        );
        assert!(used <= allowed, "a rank held {used:.0} MiB, and {allowed:.0} MiB are allowed");
        assert!(!maps(&output("large")).is_empty());

        // The limit is real: it kills a program that needs more.
        let mut greedy = Command::new("dd");
        let mib = ranks as f64 * allowed + LAUNCHER_MIB + 600.0;
        greedy
            // One call of `read` returns at most 2 GiB.
            .args(["if=/dev/zero", "of=/dev/null", "count=1", "iflag=fullblock"])
            .arg(format!("bs={mib:.0}M"));
        let greedy = limited.job(greedy);
        assert!(greedy.code() != 0, "the limit held nothing back:\n{}", greedy.dump());
    }
}

/// A cube that fits is kept in memory, within the same bound as one that is streamed.
#[test]
fn a_cube_that_just_fits_is_held_within_the_memory() {
    let folder = folder("held");
    let yaml = "train: {steps: 1, validation: 0}\npca: {components: [3]}\narchive: {inputs: [cube.hspy]}\n\
         simulate:\n  dir: .\n  cubes:\n    - {name: cube, scene: {shape: [256, 256, 256]}}\n\
         \x20   - {name: tiny, scene: {shape: [48, 48, 256]}}\n";
    fs::write(folder.join("run.yaml"), yaml).expect("a folder takes a file");
    finish(command(&folder, 2, &["simulate", "run.yaml"]), LIMIT).succeeded();
    // Half of it holds the 64 MiB of training crops, the most that is ever kept.
    let memory = 132.0;
    let mut peaks = Vec::new();
    for name in ["tiny", "cube"] {
        let sets =
            [format!("archive.inputs=[{name}.hspy]"), format!("output={name}"), format!("io.memory_mib={memory}")];
        let mut arguments = vec!["run", "run.yaml"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        let ended = finish(command(&folder, 1, &arguments), LIMIT);
        ended.succeeded().says("cached=true");
        peaks.push(peak(&folder.join(name)));
    }
    let allowed = peaks[0] + memory + PER_PIXEL_MIB;
    eprintln!("held: baseline {:.0} MiB, {:.0} MiB, allowed {allowed:.0} MiB", peaks[0], peaks[1]);
    assert!(peaks[1] <= allowed, "{:.0} MiB, and {allowed:.0} MiB are allowed", peaks[1]);
}

/// A cube that is read again for each pass gives the same maps and reconstruction as one that is kept in memory.
#[test]
fn a_cube_that_is_not_held_gives_the_same_maps_and_reconstruction() {
    let folder = folder("unheld");
    // Small patches: there must be more rows of tiles than fit into the memory.
    let yaml = "train: {steps: 2}\nmodel: {patch: [16, 16]}\npca: {components: [3]}\narchive: {inputs: [cube.hspy]}\n\
         output: {dir: run, reconstruction: window}\nsimulate:\n  dir: .\n  cubes:\n\
         \x20   - {name: cube, scene: {shape: [64, 64, 1300], dispersion_ev: 0.3}}\n";
    fs::write(folder.join("run.yaml"), yaml).expect("a folder takes a file");
    finish(command(&folder, 2, &["simulate", "run.yaml"]), LIMIT).succeeded();
    let [held, read_again] = [2048, 64].map(|memory| {
        let memory_mib = format!("io.memory_mib={memory}");
        let name = format!("with-{memory}");
        let output = format!("output.dir={name}");
        let arguments = ["run", "run.yaml", "--set", &memory_mib, "--set", &output];
        finish(command(&folder, 1, &arguments), LIMIT).succeeded();
        maps(&folder.join(name))
    });
    assert!(held.keys().any(|name| name.contains("reconstruction")));
    assert!(held == read_again, "the memory shows in the maps");
}

/// A step frees what it allocates: a leak of a few KiB a step would end a training of a week.
#[test]
fn a_thousand_steps_more_take_no_more_memory() {
    let folder = folder("steps");
    // One micro-batch a step, to save time.
    let yaml = "train: {global_batch: 4}\npca: {components: [3]}\narchive: {inputs: [tiny.hspy]}\n\
         simulate:\n  dir: .\n  cubes:\n\
         \x20   - {name: tiny, scene: {shape: [16, 16, 64], dispersion_ev: 6}}\n";
    fs::write(folder.join("run.yaml"), yaml).expect("a folder takes a file");
    finish(command(&folder, 1, &["simulate", "run.yaml"]), LIMIT).succeeded();
    // What the allocator keeps differs by some ten MiB between equal runs, and now and then only.
    let [few, many] = [50, 1050].map(|steps| {
        let peaks = ["one", "two"].map(|run| {
            let (steps, output) = (format!("train.steps={steps}"), format!("output={run}-{steps}"));
            let arguments = ["run", "run.yaml", "--set", &steps, "--set", &output];
            finish(command(&folder, 1, &arguments), LIMIT).succeeded();
            peak(&folder.join(&output["output=".len()..]))
        });
        peaks[0].min(peaks[1])
    });
    eprintln!("steps: {few:.0} MiB after 50, {many:.0} MiB after 1050");
    assert!(many <= few + 8.0, "{few:.0} MiB grew to {many:.0} MiB");
}

/// A file of DigitalMicrograph stores one energy after the other; its import transposes it piece by piece.
#[test]
fn an_energy_first_cube_is_imported_below_a_real_limit() {
    let folder = folder("import");
    // 256 MiB of uint16, four times the memory.
    let shape = [128, 512, 2048];
    let memory = 64.0;
    let values = [([0, 0, 0], 7), ([127, 511, 2047], 8), ([60, 1, 1000], 9)];
    write_sparse(&folder.join("tiny.dm4"), [4, 4, 2048], &[]);
    write_sparse(&folder.join("large.dm4"), shape, &values);
    let import = |name: &str, limit: &Limit| {
        let set = format!("io.memory_mib={memory}");
        let arguments = ["import", "-o", "out", name, "--set", &set];
        limit.job(command(&folder, 2, &arguments))
    };
    // For the program of one rank without a cube: libraries, MPI, HDF5.
    const PROGRAM_MIB: f64 = 250.0;
    let each = PROGRAM_MIB + memory;
    let limit = Limit::new(2.0 * each + LAUNCHER_MIB, each);
    import("tiny.dm4", &limit).succeeded();
    let began = std::time::Instant::now();
    import("large.dm4", &limit).succeeded();
    eprintln!("256 MiB below a {} in {:?}", limit.what(), began.elapsed());
    let options = coreloss::archive::Options::default();
    let copy = coreloss::archive::Reader::open(&folder.join("out/large.hspy"), &options);
    let copy = copy.expect("the copy opens");
    assert_eq!(copy.info().shape(), shape);
    assert_eq!(copy.info().energy.offset, 400.0);
    for ([y, x, e], value) in values {
        let found = copy.read(y..y + 1, x..x + 1, e..e + 1).expect("a value");
        assert_eq!(found[[0, 0, 0]], f32::from(value));
    }
}

fn command(folder: &Path, ranks: usize, arguments: &[&str]) -> Command {
    let mut command = coreloss(ranks, arguments);
    // One heap for all threads. With a heap for each, glibc keeps tens of MiB of freed memory, more in some runs than in
    // others, which would hide what the program itself holds.
    command.current_dir(folder).env("MALLOC_ARENA_MAX", "1");
    command
}

/// Peak memory of the rank that needed most, MiB.
fn peak(output: &Path) -> f64 {
    let summary = summary(output);
    let ranks = summary["peak_rss_mib"].as_array().expect("a list").iter();
    ranks.map(|rank| rank.as_f64().expect("a number")).fold(0.0, f64::max)
}

/// A memory limit for a job that the kernel enforces.
enum Limit {
    /// A control group of the memory controller (version 1 or 2), which counts the pages that the whole job uses.
    Group(PathBuf),
    /// `RLIMIT_DATA` in bytes, which counts what each process has allocated.
    Data(u64),
}

impl Limit {
    /// `job` MiB for all processes together, or `process` MiB for each where control groups are not allowed.
    fn new(job: f64, process: f64) -> Limit {
        let bytes = |mib: f64| (mib as u64) << 20;
        if let Some(group) = make_group(bytes(job)) {
            return Limit::Group(group);
        }
        // Memory that is allocated but never touched counts as well: buffers of MPI and libtorch, heaps of threads.
        Limit::Data(bytes(process) + (512 << 20))
    }

    fn what(&self) -> &'static str {
        match self {
            Limit::Group(_) => "control group",
            Limit::Data(_) => "RLIMIT_DATA",
        }
    }

    fn job(&self, command: Command) -> Ended {
        let command = match self {
            Limit::Group(group) => {
                let processes = group.join("cgroup.procs");
                let word = processes.to_str().expect("a group's path is text");
                after("echo $$ > \"$0\"", word, &command)
            }
            Limit::Data(bytes) => after("ulimit -d $0", &(bytes >> 10).to_string(), &command),
        };
        finish(command, LIMIT)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Limit::Group(group) = self {
            // The group is empty only a moment after its last process has ended.
            for _ in 0..100 {
                if fs::remove_dir(&*group).is_ok() || !group.exists() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            eprintln!("the control group {} could not be removed", group.display());
        }
    }
}

/// A new group below that of this process, so that limits of the tests hold as well; `None` where that is not allowed.
fn make_group(bytes: u64) -> Option<PathBuf> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let name = format!("coreloss-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let candidates = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        Some((PathBuf::from(format!("{root}{path}")).join(&name), file))
    });
    for (group, file) in candidates {
        if fs::create_dir(&group).is_err() {
            continue;
        }
        if fs::write(group.join(file), bytes.to_string()).is_ok() {
            return Some(group);
        }
        let _ = fs::remove_dir(&group);
    }
    None
}
