//! Small versions of the experiments in `configs/experiments`: a scene of 64 x 64 pixels, one scan of each anomaly, and
//! the default settings. They fail if the science breaks; `scripts/experiments.sh` measures how good it is.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ndarray::s;
use serde_json::Value;

use crate::common::case::{Case, RANKS};
use crate::common::cube::counts;
use crate::common::result::{assert_equal, summary};
use crate::common::{coreloss, files, finish, folder, mpirun, python, shipped};

const LIMIT: Duration = Duration::from_secs(500);
/// Every point has a scan of its own, and so its own noise.
const POINTS: &str = "
  - {name: weak, simulate.cubes.1.scene.scan: 1, simulate.cubes.1.scene.anomalies: [{kind: shift, amount: 0.9}]}
  - {name: strong, simulate.cubes.1.scene.scan: 2, simulate.cubes.1.scene.anomalies: [{kind: shift, amount: 5.4}]}
  - name: rare
    simulate.cubes.1.scene.scan: 3
    simulate.cubes.1.scene.anomalies: [{kind: shift, amount: 2.4, concentration: 0.003}]
  - {name: oxygen, simulate.cubes.1.scene.scan: 4, simulate.cubes.1.scene.anomalies: [{kind: oxygen, amount: -0.3}]}
  - {name: none, simulate.cubes.1.scene.scan: 5}
";

#[test]
fn a_bulk_model_finds_what_the_experiments_say_it_finds() {
    let root = folder("experiments");
    let sweep = root.join("sweep.yaml");
    let text = format!(
        "output: {}\nbase: {}\nset: {{simulate.cubes.*.scene.shape: [64, 64, 240], pca.fit: cube}}\nlist:{POINTS}",
        root.join("points").display(),
        shipped("experiments/base.yaml"),
    );
    fs::write(&sweep, text).unwrap();
    let arguments = |command: &str| ["sweep", command, &sweep.display().to_string()].map(String::from);
    mpirun(2, &arguments("run"), LIMIT).succeeded();
    mpirun(1, &arguments("collect"), Duration::from_secs(60)).succeeded();

    let found = |name: &str| cube_of(&root.join("points"), name);
    let score = |name: &str, method: &str, metric: &str| {
        found(name)["methods"][method]["combined"][metric].as_f64().unwrap_or(f64::NAN)
    };
    for (name, metric, least) in [
        ("weak", "f1", 0.93),
        ("strong", "f1", 0.98),
        ("rare", "f1", 0.8),
        ("rare", "average_precision", 0.95),
        ("oxygen", "f1", 0.85),
    ] {
        let value = score(name, "cvae", metric);
        assert!(value >= least, "{name}: {metric} is {value}, not {least}");
    }
    for method in ["cvae", "pca3"] {
        let flagged = score("none", method, "flagged");
        assert!(flagged <= 2.0, "{method} flags {flagged} of 4096 pixels where nothing is");
    }
    // PCA finds the shifts as well, but not the missing oxygen.
    assert!(score("strong", "pca3", "f1") >= 0.98);
    assert!(score("oxygen", "cvae", "best_f1") > score("oxygen", "pca3", "best_f1") + 0.1);
    let shift = found("strong")["regions"][0]["estimated_shift_ev"].as_f64();
    assert!(shift.is_some_and(|shift| (shift - 5.4).abs() < 0.5), "{shift:?}");
    let kind = &found("oxygen")["regions"][0]["kind"];
    assert_eq!((kind["window"].as_str(), kind["differs"].as_str()), (Some("O K"), Some("height")));
    assert_eq!(files(&root.join("points"), "table.csv").len(), 1);
}

/// The only cube in the summary of the point `name` of a sweep in the folder `points`.
fn cube_of(points: &Path, name: &str) -> Value {
    let point = fs::read_dir(points).unwrap().flatten().find(|entry| {
        let folder = entry.file_name();
        folder.to_string_lossy().starts_with(&format!("{name}-"))
    });
    let point = point.unwrap_or_else(|| panic!("no point {name}"));
    summary(&point.path())["cubes"][0].clone()
}

#[test]
fn an_edge_that_wanders_over_the_field_is_no_anomaly_and_hides_none() {
    let root = folder("benign");
    let sweep = root.join("sweep.yaml");
    // The method `mean` is tested, which needs next to no training. The cube has the default size: with less than 85 x 85
    // pixels a wandering edge cannot be told from an anomaly.
    let text = format!(
        "output: {}\nbase: {}\nset:\n  simulate.cubes.*.scene.benign_shift_ev: 0.5\n  simulate.cubes.1.scene.scan: 1\n\
         \x20 pca: {{components: [3], mean: true, fit: cube}}\n  train.steps: 8\nlist:\n\
         \x20 - {{name: weak, simulate.cubes.1.scene.anomalies: [{{kind: shift, amount: 0.9}}]}}\n  - {{name: none}}\n",
        root.join("points").display(),
        shipped("experiments/base.yaml"),
    );
    fs::write(&sweep, text).unwrap();
    let arguments = ["sweep", "run", &sweep.display().to_string()].map(String::from);
    mpirun(2, &arguments, LIMIT).succeeded();
    let of_mean = |name: &str, metric: &str| {
        let cube = cube_of(&root.join("points"), name);
        cube["methods"]["mean"]["combined"][metric].as_f64()
    };
    let f1 = of_mean("weak", "f1");
    assert!(f1.is_some_and(|f1| f1 >= 0.8), "{f1:?}");
    let flagged = of_mean("none", "flagged");
    assert!(flagged.is_some_and(|flagged| flagged <= 92.0), "{flagged:?}");
}

#[test]
fn linear_baselines_are_the_same_on_any_number_of_ranks() {
    let mut cube = counts([12, 14, 200], 6);
    cube.slice_mut(s![4..8, 4..8, 100..]).mapv_inplace(|value| (1.6 * value).round());
    let case = Case::new("baselines").cube(&cube);
    let sets = ["pca.components=[3, auto]", "pca.fit=both", "pca.mean=true", "pca.robust=true"];
    for ranks in RANKS {
        case.run(ranks, &sets).succeeded();
        assert_equal(&case.output(RANKS[0]), &case.output(ranks));
    }
    let methods = &summary(&case.output(RANKS[0]))["cubes"][0]["methods"];
    for name in ["pca3", "pca_auto", "mean"] {
        for fit in ["", "_robust", "_bulk"] {
            assert!(methods[format!("{name}{fit}")].is_object(), "{name}{fit}");
        }
    }
    // Robust components are fitted without the anomaly, so they differ.
    let limit = |method: &str| methods[method]["rx"]["threshold"].as_f64();
    assert_ne!(limit("pca3"), limit("pca3_robust"));
}

/// Every condition of the trial can be simulated and configured. Nothing is run.
#[test]
fn the_trial_can_be_planned() {
    let root = folder("trial");
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    std::os::unix::fs::symlink(configs, root.join("configs")).unwrap();
    let Some(python) = python() else { return };
    for (half, points) in [("--all", 236), ("--judged", 124), ("--linear", 56)] {
        let mut plan = Command::new(&python);
        plan.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/trial.py"))
            .args(["plan", half])
            .current_dir(&root);
        let sweep = finish(plan, LIMIT).succeeded().stdout.trim().to_owned();
        let mut shown = coreloss(0, &["sweep", "plan", &sweep]);
        shown.current_dir(&root);
        finish(shown, LIMIT).succeeded().says(&format!("{points} points"));
    }
}
