//! Sweeps and surveys as facilities run them, on a real Slurm, with failures.
//!
//! The cubes are small and the steps few: these tests are about which process does what, and what is reported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::result::maps;
use crate::common::slurm::Sandbox;
use crate::common::{Job, coreloss, files, finish, folder, mpirun, send};

const LIMIT: Duration = Duration::from_secs(300);

/// A sweep of a good point, the points `more`, and a broken one.
fn write_sweep(path: &Path, output: &Path, more: &str) {
    let text = format!(
        "output: '{}'\n\
         base:\n  archive: {{train_inputs: [sim/bulk.hspy], inputs: [sim/test.hspy]}}\n  train: {{steps: 10, device: cpu}}\n  \
         simulate:\n    dir: sim\n    cubes:\n      - {{name: bulk, scene: {{shape: [24, 24, 80], dispersion_ev: 5}}}}\n      \
         - {{name: test, scene: {{shape: [24, 24, 80], dispersion_ev: 5, anomalies: [{{kind: shift, amount: 0, discs: 1}}]}}}}\n\
         list:\n  - {{name: good}}\n{more}  - {{name: broken, archive.energy_range_ev: [9000, 9100], \
         simulate.cubes.1.scene.anomalies.0.amount: 7}}\n",
        output.display()
    );
    fs::write(path, text).expect("a sweep");
}

fn json(stdout: &str) -> Value {
    let line = stdout.lines().last().expect("a line of JSON");
    serde_json::from_str(line).expect("JSON")
}

#[test]
fn an_array_of_a_sweep_ends_with_the_truth_told() {
    let Some(slurm) = Sandbox::start() else {
        return;
    };
    let (file, output) = (slurm.path("sweep.yaml"), slurm.path("sweep"));
    let amounts = |amounts: &[f64]| -> String {
        let key = "simulate.cubes.1.scene.anomalies.0.amount";
        let point = |a: &f64| format!("  - {{name: shift, {key}: {a}}}\n");
        amounts.iter().map(point).collect()
    };
    write_sweep(&file, &output, &amounts(&[5.0, 10.0, 20.0]));
    // A sixth point, which differs from the first in scoring only.
    let text = fs::read_to_string(&file).expect("a sweep");
    fs::write(&file, text + "  - {name: otsu, score.threshold: otsu}\n").expect("a sweep");
    let path = file.display().to_string();
    let job = slurm.sbatch("sweep", &["--array=0-5"], &[&path]);
    slurm.wait_until("end of the array", || slurm.ask(&["squeue", "-h", "-j", &job]).is_empty());

    let ask = |words: &[&str]| {
        let mut command = slurm.command(env!("CARGO_BIN_EXE_coreloss"));
        command.args(words).arg(&path);
        let output = command.output().expect("coreloss runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).to_string()
    };
    let status = json(&ask(&["sweep", "status", "--json"]));
    assert_eq!(status["counts"]["done"], 5, "{status}");
    assert_eq!(status["counts"]["failed"], 1, "{status}");
    let broken = &status["points"][4];
    assert_eq!(broken["state"], "failed", "{status}");
    let reason = broken["detail"].as_str().expect("a reason");
    assert!(reason.contains("holds none of its energies"), "{reason}");

    ask(&["sweep", "collect"]);
    let table = fs::read_to_string(output.join("table.csv")).expect("a table");
    assert!(table.starts_with("point,state,name,"), "{table}");
    let rows = |point: usize, state: &str| {
        let start = format!("{point},{state},");
        table.lines().filter(|line| line.starts_with(&start)).count()
    };
    assert!([0, 1, 2, 3, 5].into_iter().all(|point| rows(point, "done") == 33), "{table}");
    assert_eq!(rows(4, "failed"), 1, "{table}");
    assert!(output.join("table.h5").exists());
    // Each distinct cube is simulated once and each distinct model trained once, by whichever process came first.
    let count = |folder: &str, ending: &str| {
        let entries = fs::read_dir(output.join(folder)).expect("a folder").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(ending)).count()
    };
    // The broken point trains none.
    assert_eq!(count("archive", ".truth.hspy"), 6, "bulk, and shifts of 0, 5, 10, 20 and 7 eV");
    assert_eq!(count("models", ""), 2);

    // One more value: only its point is missing.
    write_sweep(&file, &output, &amounts(&[5.0, 10.0, 15.0, 20.0]));
    let status = json(&ask(&["sweep", "status", "--json"]));
    assert_eq!(status["counts"]["done"], 4, "{status}");
    assert_eq!(status["counts"]["missing"], 1, "{status}");
    assert_eq!(status["points"][3]["state"], "missing", "{status}");
}

#[test]
fn two_processes_share_a_sweep_and_a_dead_one_is_taken_over() {
    let case = folder("shared-sweep");
    let (file, output) = (case.join("sweep.yaml"), case.join("out"));
    write_sweep(&file, &output, "  - {name: seed, seed: 5}\n");
    let start = || {
        let mut command = coreloss(0, &["sweep", "run"]);
        command.arg(&file).current_dir(&case);
        command
    };
    // Killed in the middle of its first point.
    let mut killed = start().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("coreloss runs");
    let began = std::time::Instant::now();
    while !output.join("models").exists() {
        assert!(began.elapsed() < LIMIT, "nothing is trained");
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().expect("a process can be killed");
    killed.wait().expect("a killed process ends");
    let first = Job::of(start());
    let second = first.beside(start());
    let [first, second] = [first, second].map(|job| job.wait(LIMIT));
    // The process that ran the broken point reports it; no point is run twice.
    let codes = [first.code(), second.code()];
    assert!(codes.contains(&1) && codes.iter().all(|code| [0, 1].contains(code)), "{codes:?}");
    for point in ["good-", "seed-"] {
        let found = fs::read_dir(&output).expect("a folder").flatten();
        let mut found = found.filter(|entry| entry.file_name().to_string_lossy().starts_with(point));
        let folder = found.next().expect("a point").path();
        assert!(folder.join("summary.json").exists(), "{}", first.dump());
        assert!(found.next().is_none());
    }
}

#[test]
fn a_sweep_injects_what_it_varies_and_makes_each_copy_once() {
    let case = folder("injecting-sweep");
    // The anomalies are injected into a cube that the sweep simulates first.
    let text = "output: out\n\
        base:\n  archive: {train_inputs: [sim/bulk.hspy], inputs: [inj/copy.hspy]}\n  train: {steps: 10, device: cpu}\n  \
        simulate: {dir: sim, cubes: [{name: bulk, scene: {shape: [24, 24, 80], dispersion_ev: 5}}]}\n  \
        inject:\n    dir: inj\n    input: sim/bulk.hspy\n    cubes:\n      - name: copy\n        \
        anomalies: [{kind: shift, amount: 0, range_ev: [695, 790], background_ev: [640, 690], discs: 1}]\n\
        grid:\n  inject.cubes.0.anomalies.0.amount: [10, 20]\n  pca.components: [[3], [5]]\n";
    fs::write(case.join("sweep.yaml"), text).expect("a sweep");
    let mut command = coreloss(2, &["sweep", "run", "sweep.yaml"]);
    command.current_dir(&case);
    finish(command, LIMIT).succeeded();
    let archive = files(&case.join("out/archive"), ".hspy");
    // Each has its truth beside it.
    assert_eq!(archive.len(), 6, "one original and a copy for each amount: {archive:?}");
    assert_eq!(files(&case.join("out/models"), "trained").len(), 1);
    let summaries = files(&case.join("out"), "summary.json");
    assert_eq!(summaries.len(), 4);
    for path in summaries {
        let text = fs::read_to_string(&path).expect("a summary");
        let summary: Value = serde_json::from_str(&text).expect("JSON");
        let found = &summary["cubes"][0]["methods"]["cvae"]["combined"];
        assert!(found["auroc"].is_number(), "{summary}");
    }
}

#[test]
fn a_signal_stops_a_sweep_and_a_survey_and_both_go_on_to_the_same_end() {
    let case = folder("signals");
    let start = |ranks: usize, words: &[&str], output: &str| {
        let mut command = coreloss(ranks, words);
        let output = format!("output={}", case.join(output).display());
        command.args(["--set", &output, "--set", "train.steps=10"]);
        command.current_dir(&case);
        Job::of(command)
    };
    let points = "  - {name: three, pca.components: [3]}\n  - {name: four, pca.components: [4]}\n";
    write_sweep(&case.join("sweep.yaml"), Path::new("out"), points);
    simulate(&case, 0..9);
    for (words, done, ending) in [
        (["sweep", "run", "sweep.yaml"].as_slice(), "summary.json", 1),
        (&["survey", "survey.yaml"], ".coreloss.hspy", 0),
    ] {
        let [broken, unbroken] = ["broken", "unbroken"].map(|how| format!("{how}-{}", words[0]));
        start(2, words, &unbroken).wait(LIMIT).exits(ending);
        let all = files(&case.join(&unbroken), done).len();
        let mut job = start(2, words, &broken);
        let output = case.join(&broken);
        let count = || {
            if output.is_dir() { files(&output, done).len() } else { 0 }
        };
        job.until("something was done", LIMIT, || count() > 0);
        // To each rank, as srun does.
        job.ranks().into_iter().for_each(|rank| send(rank, libc::SIGTERM));
        let ended = job.wait(Duration::from_secs(60));
        ended.exits(75);
        assert!((1..all).contains(&count()), "{} of {all}: {}", count(), ended.dump());
        start(3, words, &broken).wait(LIMIT).exits(ending);
        assert_eq!(count(), all);
        assert!(maps(&output) == maps(&case.join(&unbroken)), "{broken}");
    }
    let read = |output: &str| fs::read_to_string(case.join(output).join("ranking.csv"));
    assert_eq!(read("broken-survey").expect("a ranking"), read("unbroken-survey").expect("a ranking"));
}

/// Kinds of cubes, with different shapes, energy axes, doses and thicknesses.
const KINDS: [&str; 3] = [
    "shape: [24, 28, 80], dispersion_ev: 5",
    "shape: [32, 20, 100], dispersion_ev: 4, dose: 40000, thickness: 0.9",
    "shape: [20, 36, 64], dispersion_ev: 4.5, energy_offset_ev: 480, dose: 150000, thickness: 0.3",
];

/// Simulates the numbered `cubes` into `archive`. One in ten has an anomaly, and `planted` in its name.
fn simulate(case: &Path, cubes: std::ops::Range<usize>) {
    let mut text = format!(
        "output: '{0}/survey'\narchive: {{inputs: ['{0}/archive/*.hspy']}}\ntrain: {{steps: 60, device: cpu}}\n\
         pca: {{components: [3]}}\nsimulate:\n  dir: '{0}/archive'\n  cubes:\n",
        case.display()
    );
    for i in cubes {
        let (name, anomalies) = match i % 10 {
            7 => ("planted", "[{kind: shift, amount: 8, discs: 1, radius_px: [2, 2.5]}]"),
            _ => ("clean", "[]"),
        };
        let kind = KINDS[i % 3];
        text += &format!("    - {{name: {name}-{i:03}, scene: {{{kind}, seed: {i}, anomalies: {anomalies}}}}}\n");
    }
    let file = case.join("survey.yaml");
    fs::write(&file, text).expect("a configuration");
    let mut command = coreloss(0, &["simulate"]);
    command.arg(&file).stdout(Stdio::null());
    assert!(command.status().expect("coreloss runs").success());
}

/// Writes five files that are no cubes, each broken in another way.
fn spoil(archive: &Path) {
    let whole = fs::read(archive.join("clean-000.hspy")).expect("a cube");
    let write = |name: &str, bytes: &[u8]| fs::write(archive.join(name), bytes).expect("a file");
    write("bad-cut.hspy", &whole[..whole.len() / 2]);
    write("bad-start.hspy", &whole[..100]);
    write("bad-empty.hspy", b"");
    write("bad-text.hspy", b"x,y\n1,2\n");
    let mut garbled = whole;
    let middle = garbled.len() / 2;
    garbled[middle..middle + 64].fill(0xa5);
    write("bad-garbled.hspy", &garbled);
}

/// The names and surprises of `ranking.csv`, in its order.
fn ranking(case: &Path) -> Vec<(String, f64)> {
    let text = fs::read_to_string(case.join("survey/ranking.csv")).expect("a ranking");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        (cells[1].to_string(), cells[2].parse().expect("a number"))
    };
    text.lines().skip(1).map(row).collect()
}

#[test]
fn a_survey_ranks_the_planted_cubes_of_all_kinds_above_the_clean_ones() {
    let Some(slurm) = Sandbox::start() else {
        return;
    };
    let case: PathBuf = slurm.path("case");
    fs::create_dir(&case).expect("a folder");
    let count = std::env::var("CORELOSS_SURVEY_CUBES").map_or(200, |n| n.parse().expect("a number"));
    simulate(&case, 0..count);
    spoil(&case.join("archive"));
    let config = case.join("survey.yaml").display().to_string();
    let job = slurm.sbatch("survey", &[], &[&config]);
    slurm.wait_for(&job, "FAILED");
    // Exit code 3: done, with files set aside.
    assert_eq!(slurm.show(&job, "ExitCode"), "3:0", "{}", slurm.log(&job));
    let found = ranking(&case);
    assert_eq!(found.len(), count, "{}", slurm.log(&job));
    let planted = found.iter().filter(|(name, _)| name.starts_with("planted")).count();
    let top = &found[..planted];
    assert!(top.iter().all(|(name, _)| name.starts_with("planted")), "{found:?}");
    // Surprises are calibrated: ideally one clean cube in a hundred exceeds 2. Here at most one in ten of each kind may.
    let lowest_planted = top[planted - 1].1;
    for kind in 0..3 {
        let of_kind = |name: &str| {
            let number = name.rsplit('-').next().and_then(|i| i.parse::<usize>().ok());
            number.is_some_and(|i| i % 3 == kind)
        };
        let clean = found[planted..].iter().filter(|(name, _)| of_kind(name));
        let clean: Vec<f64> = clean.map(|(_, surprise)| *surprise).collect();
        let highest = clean.iter().copied().fold(f64::MIN, f64::max);
        let surprising = clean.iter().filter(|&&surprise| surprise > 2.0).count();
        assert!(surprising * 10 <= clean.len(), "kind {kind}: {clean:?}");
        assert!(highest < 4.0 && highest + 3.0 < lowest_planted, "kind {kind}: {highest}");
    }
    let log = slurm.log(&job);
    for bad in ["cut", "start", "empty", "text", "garbled"] {
        assert!(log.contains(&format!("bad-{bad}.hspy")), "{bad}: {log}");
    }
    let page = fs::read_to_string(case.join("survey/ranking.html")).expect("a page");
    assert!(page.contains("planted-007") && page.contains("bad-text"));

    // Of cubes that are added later only these are scored, with the existing models.
    let models = || {
        let entries = fs::read_dir(case.join("survey/models")).expect("a folder").flatten();
        entries.map(|entry| entry.metadata().expect("a folder").modified().expect("a time")).collect::<Vec<_>>()
    };
    let before = models();
    simulate(&case, count..count + 8);
    let job = slurm.sbatch("survey", &[], &[&config]);
    slurm.wait_for(&job, "FAILED");
    let log = slurm.log(&job);
    assert!(log.contains(&format!("{} cubes in 3 groups, 9 of them to score", count + 9)), "{log}");
    assert_eq!(models(), before);
    let found = ranking(&case);
    assert_eq!(found.len(), count + 8);
    assert!(found[..=planted].iter().all(|(name, _)| name.starts_with("planted")), "{found:?}");
}

#[test]
fn a_rehearsal_tells_what_a_run_takes_and_writes_nothing() {
    let case = folder("rehearsal");
    simulate(&case, 0..1);
    let config = case.join("survey.yaml").display().to_string();
    let told = mpirun(2, &["run", "--dry-run", &config], LIMIT);
    told.succeeded();
    for words in
        ["24 x 28 x 80  clean-000", "60 steps of 8 patches", "MiB per rank", "time       about", "nothing was written"]
    {
        assert!(told.stdout.contains(words), "{words}: {}", told.dump());
    }
    assert!(!case.join("survey").exists());
    // The number of channels is that after alignment and rebinning.
    let sets = ["--set", "preprocess.rebin=2", "--set", "preprocess.align=edge"];
    let told = mpirun(2, &[&["run", "--dry-run", &config][..], &sets].concat(), LIMIT);
    told.succeeded();
    let (words, channels) = ("24 x 28 x ", "  clean-000");
    let line = told.stdout.lines().find(|line| line.contains(channels));
    let line = line.expect("the cube is told of");
    let size = line.split(words).nth(1).and_then(|rest| rest.split(' ').next());
    let size: usize = size.and_then(|size| size.parse().ok()).expect("channels");
    assert!((30..=40).contains(&size), "{line}");
    assert!(!case.join("survey").exists());
}

#[test]
fn the_doctor_finds_ranks_that_do_not_know_each_other() {
    let Some(slurm) = Sandbox::start() else {
        return;
    };
    let doctor = |options: &[&str]| {
        let mut words = vec!["srun", "-n2", "--overlap"];
        words.extend(options);
        words.extend([env!("CARGO_BIN_EXE_coreloss"), "doctor", "--json", "--set", "io.memory_mib=64"]);
        let mut command: Command = slurm.command("bash");
        command.arg("-c").arg(r#"eval "$(scripts/slurm_sandbox.sh env)" && exec "$@""#);
        command.arg("slurm").args(words);
        command.output().expect("srun runs")
    };
    let good = doctor(&["--mpi=pmix"]);
    assert!(good.status.success(), "{good:?}");
    let told = json(&String::from_utf8_lossy(&good.stdout));
    assert_eq!(told["ok"], true, "{told}");
    let apart = doctor(&["--mpi=none"]);
    assert!(!apart.status.success(), "{apart:?}");
    // Open MPI ends it before the first check.
    let told = String::from_utf8_lossy(&apart.stderr);
    assert!(told.contains("use `srun --mpi=pmix`"), "{apart:?}");
}
