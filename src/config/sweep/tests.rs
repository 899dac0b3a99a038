//! Tests of the expansion.

use super::{Made, Sweep, SweepFile};

fn expand(text: &str) -> Sweep {
    let file = SweepFile::parse("sweep.yaml", text).unwrap();
    file.expand("sweep.yaml", None, &[]).unwrap()
}

fn refused(text: &str) -> String {
    let file = match SweepFile::parse("sweep.yaml", text) {
        Ok(file) => file,
        Err(error) => return error.to_string(),
    };
    file.expand("sweep.yaml", None, &[]).unwrap_err().to_string()
}

const SHIFTS: &str = "\
output: out/shifts
base:
  archive: {train_inputs: [sim/bulk.hspy], inputs: ['sim/test*.hspy']}
  simulate:
    dir: sim
    cubes:
      - {name: bulk}
      - {name: test, scene: {anomalies: [{kind: shift, amount: 0}]}}
grid:
  simulate.cubes.1.scene.anomalies.0.amount: [2.4, 5.4]
  pca.components: [[3], [5]]
";

#[test]
fn a_grid_is_every_combination_and_the_last_key_is_fastest() {
    let sweep = expand(SHIFTS);
    assert_eq!(sweep.columns, ["amount", "components"]);
    let values: Vec<_> = sweep.points.iter().map(|point| point.values.join(" ")).collect();
    assert_eq!(values, ["2.4 [3]", "2.4 [5]", "5.4 [3]", "5.4 [5]"]);
    assert_eq!(sweep.points[3].label, "amount_5.4-components_5");
    assert_eq!(sweep.points[3].config.simulate.cubes[1].scene.anomalies[0].amount, 5.4);
}

#[test]
fn what_all_points_have_in_common_varies_nothing() {
    let sweep = expand(&format!("{SHIFTS}set: {{seed: 9, simulate.cubes.*.scene.dose: 500}}\nstore: shared\n"));
    assert_eq!(sweep.columns, ["amount", "components"]);
    let config = &sweep.points[0].config;
    assert_eq!((config.seed, config.simulate.cubes[1].scene.dose), (9, 500.0));
    assert!(config.archive.inputs.as_slice()[0].starts_with("shared/archive/test-"));
    let repeated = expand(&format!("{SHIFTS}repeats: [amount]\n"));
    assert_eq!(repeated.repeats, [0]);
    assert!(refused(&format!("{SHIFTS}repeats: [seed]\n")).contains("seed does not vary"));
}

#[test]
fn an_output_that_is_set_is_that_of_the_sweep() {
    for set in ["output=here", "output = here", "output.dir=here"] {
        let file = SweepFile::parse("sweep.yaml", SHIFTS).unwrap();
        let sweep = file.expand("sweep.yaml", None, &[set.into()]).unwrap();
        assert_eq!(sweep.output.to_str(), Some("here"), "{set}");
    }
}

#[test]
fn cubes_and_trainings_are_shared_by_what_they_hold() {
    let sweep = expand(SHIFTS);
    let points = &sweep.points;
    // One bulk cube and one training for all; a test cube for each shift.
    assert!(points.iter().all(|point| point.training == points[0].training));
    assert!(points.iter().all(|point| point.made.len() == 2));
    let test = |i: usize| points[i].made[0].name().to_string();
    assert!(test(0).starts_with("test-") && test(0) == test(1) && test(1) != test(2));
    let inputs = points[0].config.archive.inputs.as_slice();
    assert_eq!(inputs, [format!("out/shifts/archive/{}.hspy", test(0))]);
    // Trained on the cubes themselves, a point has a model of its own.
    let own = expand(&SHIFTS.replace("train_inputs: [sim/bulk.hspy], ", ""));
    assert_eq!(own.points[0].training, own.points[1].training);
    assert_ne!(own.points[0].training, own.points[2].training);
}

#[test]
fn copies_with_anomalies_are_shared_by_what_they_hold() {
    let text = "\
output: o
base:
  archive: {train_inputs: [bulk.dm4], inputs: [inj/copy.hspy]}
  inject: {dir: inj, input: bulk.dm4, cubes: [{name: copy, anomalies: [{kind: shift, amount: 1, edge_ev: 708}]}]}
grid:
  inject.cubes.0.anomalies.0.amount: [1, 2]
  pca.components: [[3], [5]]
";
    let sweep = expand(text);
    let points = &sweep.points;
    assert!(points.iter().all(|point| point.made.len() == 1));
    let name = |i: usize| points[i].made[0].name().to_string();
    assert!(name(0).starts_with("copy-") && name(0) == name(1) && name(1) != name(2));
    let inputs = points[0].config.archive.inputs.as_slice();
    assert_eq!(inputs, [format!("o/archive/{}.hspy", name(0))]);
    let training = points[0].config.archive.train_inputs.as_ref();
    assert_eq!(training.map(|inputs| inputs.as_slice()), Some(&["bulk.dm4".to_string()][..]));
    assert!(points.iter().all(|point| point.training == points[0].training));
    // Read otherwise, other pixels are specimen.
    let cropped = expand(&text.replace("{train_inputs", "{energy_range_ev: [400, 900], train_inputs"));
    assert_ne!(cropped.points[0].made[0].name(), name(0));
    assert!(refused(&text.replace("inj/copy", "inj/cpoy")).contains("none of inject.cubes"));

    // A copy of a simulated cube comes after that.
    let simulated = text.replace("input: bulk.dm4", "input: sim/bulk.hspy")
        + "  simulate.cubes: [[{name: bulk}]]\n  simulate.dir: [sim]\n";
    let sweep = expand(&simulated);
    let [Made::Simulated(bulk, 0), Made::Injected(copy)] = &sweep.points[0].made[..] else {
        panic!("{:?}", sweep.points[0].made)
    };
    assert_eq!(copy.input, Some(format!("o/archive/{}.hspy", bulk.name)));
}

#[test]
fn hashes_outlive_edits_of_the_grid() {
    let before = expand(SHIFTS);
    let edited = SHIFTS.replace("[2.4, 5.4]", "[0.9, 2.4]").replace("output: out/shifts", "output: elsewhere");
    let after = expand(&format!("{edited}  seed: [0, 7]\n"));
    let find = |sweep: &Sweep, hash: &str| sweep.points.iter().any(|point| point.hash == hash);
    // Of shift 2.4, with the default seed.
    assert!(find(&after, &before.points[0].hash) && find(&after, &before.points[1].hash));
    assert!(!find(&after, &before.points[2].hash));
    assert_eq!(after.points.len(), 8);
}

#[test]
fn zip_goes_together_and_lists_are_spelled_out() {
    let text = "output: o\nbase: {archive: {inputs: [a.hspy]}}\n\
                list:\n- {name: small, train.steps: 5}\n- {name: large, train.steps: 9, model.latent: 4}\n\
                zip: {seed: [1, 2], train.kl_weight: [0.5, 2]}\n";
    let sweep = expand(text);
    assert_eq!(sweep.columns, ["name", "steps", "latent", "seed", "kl_weight"]);
    let values: Vec<_> = sweep.points.iter().map(|point| point.values.join(",")).collect();
    assert_eq!(values, ["small,5,,1,0.5", "small,5,,2,2", "large,9,4,1,0.5", "large,9,4,2,2"]);
    assert_eq!(sweep.points[3].config.seed, 2);
    let uneven = refused(&text.replace("[1, 2]", "[1, 2, 3]"));
    assert!(uneven.contains("zip.train.kl_weight has 2 values"), "{uneven}");
}

#[test]
fn what_is_wrong_is_named() {
    assert!(refused("output: o\ngird: {}\n").contains("Did you mean `grid`?"));
    assert!(refused("output: o\ngrid: {seed: 1}\n").contains("grid.seed"));
    let many = format!("[{}]", (0..200).map(|i| format!("{i},")).collect::<String>());
    let many = refused(&format!("output: o\ngrid: {{seed: {many}, train.steps: {many}}}\n"));
    assert!(many.contains("40000 points"), "{many}");
    let message = refused("output: o\ngrid: {train.stepz: [1]}\n");
    assert!(message.contains("point 0") && message.contains("Did you mean `steps`?"), "{message}");
    assert!(refused("output: o\ngrid: {seed: [1, 1]}\n").contains("points 0 and 1"));
    let plot = "output: o\ngrid: {seed: [1, 2]}\nplots: [{x: latent, y: f1}]\n";
    assert!(refused(plot).contains("what varies is seed"));
    let nothing = SHIFTS.replace("sim/test*.hspy", "sim/toast.hspy");
    assert!(refused(&nothing).contains("means none of simulate.cubes"));
}

#[test]
fn columns_are_not_mistaken_for_results() {
    let sweep = expand("output: o\ngrid: {score.threshold: [otsu, pot]}\n");
    assert_eq!(sweep.columns, ["score.threshold"]);
    assert_eq!(sweep.points[0].label, "score.threshold_otsu");
}

#[test]
fn the_shipped_sweeps_expand() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sweeps");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(expand(&text).points.len() > 1, "{}", path.display());
    }
}
