//! `methods.given`: reconstructions by other programs, of which the true expectation of a simulated cube is the best.

use std::fs;
use std::path::Path;
use std::time::Duration;

use coreloss::archive::{Options, Reader};
use ndarray::{Array3, s};
use ndarray_npy::write_npy;

use crate::common::case::RANKS;
use crate::common::result::{maps, summary};
use crate::common::{folder, mpirun};

const LIMIT: Duration = Duration::from_secs(120);

/// A cube that lacks oxygen in three discs, its expectation beside it, and a configuration without training.
fn prepare(folder: &Path) {
    let yaml = "archive: {inputs: [made/low.hspy]}
pca: {components: [3]}
simulate:
  dir: made
  expectation: true
  cubes:
    - name: low
      scene: {shape: [48, 48, 320], dispersion_ev: 1.25, anomalies: [{kind: oxygen, amount: -0.3, discs: 3}]}
";
    fs::write(folder.join("run.yaml"), yaml).expect("a folder takes a file");
}

/// `coreloss COMMAND run.yaml` in `folder` with `sets`.
fn coreloss(ranks: usize, folder: &Path, command: &str, sets: &[String]) -> crate::common::Ended {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut arguments = vec![command.to_string(), at("run.yaml")];
    let places = [format!("simulate.dir={}", at("made")), format!("archive.inputs=[{}]", at("made/low.hspy"))];
    for set in places.iter().chain(sets) {
        arguments.extend(["--set".to_string(), set.clone()]);
    }
    mpirun(ranks, &arguments, LIMIT)
}

/// Writes the values of the cube's expectation, changed by `change`, as an array for NumPy.
fn write_changed(folder: &Path, name: &str, change: impl Fn(Array3<f64>) -> Array3<f64>) {
    let reader =
        Reader::open(&folder.join("made/low.expected.hspy"), &Options::default()).expect("an expectation opens");
    let [rows, columns, channels] = reader.info().shape();
    let values = reader.read(0..rows, 0..columns, 0..channels).expect("an expectation can be read");
    write_npy(folder.join(name), &change(values.mapv(f64::from))).expect("a folder takes a file");
}

#[test]
fn the_true_expectation_finds_what_components_do_not() {
    let folder = folder("truth");
    prepare(&folder);
    coreloss(2, &folder, "simulate", &[]).succeeded();
    // Shares serve as well as electrons.
    write_changed(&folder, "low.npy", |values| values / 1000.0);
    let given = |name: &str| folder.join(name).display().to_string();
    let both = format!("methods.given={{truth: '{}', shares: '{}'}}", given("made/{}.expected.hspy"), given("{}.npy"));
    for ranks in RANKS {
        let output = format!("output={}", given(&format!("out-{ranks}")));
        coreloss(ranks, &folder, "pca", &[both.clone(), output]).succeeded();
        assert!(maps(&folder.join("out-1")) == maps(&folder.join(format!("out-{ranks}"))), "{ranks} ranks");
    }
    let found = summary(&folder.join("out-1"));
    let f1 = |method: &str| found["cubes"][0]["methods"][method]["combined"]["f1"].as_f64().expect("a number");
    assert!(f1("truth") > 0.95, "{}", f1("truth"));
    assert!((f1("shares") - f1("truth")).abs() < 0.02, "{} {}", f1("shares"), f1("truth"));
    assert!(f1("pca3") < 0.5, "{}", f1("pca3"));
}

#[test]
fn arrays_that_do_not_fit_are_refused_with_what_is_wrong() {
    let folder = folder("refused");
    prepare(&folder);
    coreloss(1, &folder, "simulate", &[]).succeeded();
    write_changed(&folder, "narrow.npy", |values| values.slice(s![.., 1.., ..]).to_owned());
    write_changed(&folder, "negative.npy", |mut values| {
        values[[7, 3, 20]] = -0.5;
        values
    });
    fs::write(folder.join("text.npy"), "no numbers").expect("a folder takes a file");
    for (name, words) in [
        ("narrow.npy", "holds 48 x 47 x 320 values (y, x, energy), and the cube is scored as 48 x 48 x 320"),
        ("negative.npy", "-0.5 at line 7, column 3, channel 20"),
        ("text.npy", "no array [y, x, energy] of float32 or float64"),
        ("absent.npy", "No such file"),
    ] {
        for ranks in [1, 2] {
            let given = format!("methods.given={{other: '{}'}}", folder.join(name).display());
            let output = format!("output={}", folder.join("out").display());
            let ended = coreloss(ranks, &folder, "pca", &[given, output]);
            assert_ne!(ended.code(), 0, "{name}");
            ended.without_panic().says(words).says(name);
        }
    }
}
