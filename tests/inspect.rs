//! `coreloss inspect`: the fields of its JSON and what it finds, the same on any number of ranks.

use std::path::Path;

use ndarray::{Array3, s};
use serde_json::Value;

use crate::common::case::{Case, LIMIT, RANKS};
use crate::common::cube::{counts, write_hspy};
use crate::common::{Ended, coreloss, finish, measured_data};

fn inspect(ranks: usize, arguments: &[&str]) -> Ended {
    let arguments = [&["inspect"], arguments].concat();
    finish(coreloss(ranks, &arguments), LIMIT)
}

/// The JSON about one file, which must be the same on 1, 2 and 3 ranks.
fn described(path: &Path) -> Value {
    let path = path.to_str().expect("a path is text");
    let mut first: Option<String> = None;
    for ranks in RANKS {
        let ended = inspect(ranks, &[path, "--json"]);
        ended.exits(0).without_panic();
        let said = first.get_or_insert_with(|| ended.stdout.clone());
        assert_eq!(said, &ended.stdout, "{ranks} ranks");
    }
    serde_json::from_str(first.expect("ranks were tried").trim()).expect("one line of JSON")
}

fn problems(of: &Value) -> String {
    of["problems"].to_string()
}

#[test]
fn a_cube_is_measured_alike_on_any_number_of_ranks() {
    let mut cube = counts([16, 12, 200], 1);
    cube.slice_mut(s![.., .., 40]).fill(0.0);
    cube.slice_mut(s![.., 5, ..]).fill(0.0);
    cube[[3, 3, 150]] = f32::NAN;
    cube[[9, 2, 60]] = 1e5;
    let case = Case::new("inspected").cube(&cube);
    let found = described(&case.path("cube.hspy"));
    for key in ["path", "format", "shape", "dtype", "axes", "problems"] {
        assert!(!found[key].is_null(), "{key}: {found}");
    }
    for key in ["name", "size", "scale", "offset", "units", "navigate"] {
        assert!(!found["axes"][2][key].is_null(), "{key}: {found}");
    }
    assert_eq!(found["shape"].to_string(), "[16,12,200]");
    let finite: f64 = cube.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v)).sum();
    let mean = found["counts"]["mean"].as_f64().expect("a mean");
    assert!((mean / (finite / (cube.len() - 1) as f64) - 1.0).abs() < 1e-12, "{found}");
    assert_eq!(found["counts"]["max"], 1e5);
    assert_eq!(found["spikes"]["count"], 1, "{found}");
    assert_eq!(found["vacuum"]["pixels"], 16, "{found}");
    let gain = found["noise"]["gain"].as_f64().expect("a gain");
    assert!((gain - 1.0).abs() < 0.15, "{gain}");
    let said = problems(&found);
    for words in ["dead channels (eV): 500", "dark columns (x): 5", "no numbers (NaN"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let quick = inspect(1, &[case.path("cube.hspy").to_str().expect("text"), "--quick", "--json"]);
    let quick: Value = serde_json::from_str(quick.exits(0).stdout.trim()).expect("JSON");
    assert!(quick["counts"].is_null() && quick["shape"] == found["shape"], "{quick}");
}

#[test]
fn tiny_and_empty_cubes_are_described() {
    let case = Case::new("tiny");
    let path = case.path("cube.hspy");
    for shape in [[2, 2, 2], [1, 100, 64], [1, 1, 300], [5, 1, 2]] {
        write_hspy(&path, &counts(shape, 2));
        let found = described(&path);
        assert_eq!(found["counts"]["voxels"], shape.iter().product::<usize>(), "{found}");
    }
    write_hspy(&path, &Array3::<f32>::zeros((4, 4, 64)));
    let found = described(&path);
    assert!(problems(&found).contains("every voxel is 0"), "{found}");
    assert!(problems(&found).contains("no pixel has signal"), "{found}");
}

#[test]
fn detector_limits_and_odd_axes_are_told() {
    let case = Case::new("limits");
    let path = case.path("cube.hspy");
    let mut cube = counts([6, 6, 100], 3).mapv(|n| n as u16);
    cube.slice_mut(s![.., .., 10]).fill(u16::MAX);
    write_hspy(&path, &cube);
    let found = described(&path);
    assert_eq!((&found["dtype"], &found["counts"]["max"]), (&"uint16".into(), &65535.0.into()));
    assert!(problems(&found).contains("detector's limit of 65535"), "{found}");

    write_hspy(&path, &counts([6, 6, 100], 3));
    let scale = |value: f64| {
        let file = hdf5::File::open_rw(&path).expect("a cube opens");
        let axis = file.group("Experiments/spectra/axis-2").expect("it has an axis");
        axis.attr("scale").and_then(|scale| scale.write_scalar(&value)).expect("a scale");
    };
    for (value, words) in [(4000.0, "no spectrometer has"), (1e-5, "no spectrometer has"), (-1.0, "runs backwards")] {
        scale(value);
        let found = described(&path);
        assert!(problems(&found).contains(words), "{value}: {found}");
    }
}

#[test]
fn the_measured_cubes() {
    let Some(data) = measured_data() else { return };
    let found = described(&data.join("real/fe_oxide_nanocubes.dm3"));
    assert_eq!(found["vacuum"]["pixels"], 97, "{found}");
    assert_eq!(found["edges"][0]["name"], "Fe L3", "{found}");
    assert_eq!(found["edges"][1]["name"], "O K", "{found}");
    assert!(problems(&found).contains("energy axis seems to be off"), "{found}");
    let sd = found["drift"]["sd_ev"].as_f64().expect("a drift");
    assert!((0.01..0.5).contains(&sd), "{sd}");

    let image = data.join("formats/dtypes/test-2.dm3");
    let said = problems(&described(&image));
    assert!(said.contains("no EELS spectrum image") && !said.contains("test-2.dm3"), "{said}");
    // Complex values, and RGB colours.
    for name in ["test-3.dm3", "test-23.dm3"] {
        let path = data.join("formats/dtypes").join(name);
        inspect(2, &[path.to_str().expect("text")]).exits(2).without_panic();
    }
}

#[test]
fn faint_edges_are_found_on_coarse_axes_and_in_parts_of_the_field() {
    let edges = |found: &Value| -> Vec<f64> {
        let edges = found["edges"].as_array().expect("a list");
        edges.iter().map(|edge| edge["onset_ev"].as_f64().expect("a number")).collect()
    };
    let near = |edges: &[f64], onset: f64| edges.iter().any(|edge| (edge - onset).abs() < 10.0);
    // Cu and Zn at 8 eV per channel, both faint in the mean.
    if let Some(data) = measured_data() {
        let found = edges(&described(&data.join("real/cuzn_nanotubes_map.hspy")));
        assert!(near(&found, 931.0) && near(&found, 1020.0) && found.len() == 2, "{found:?}");
    }
    // An edge of a tenth of the background, in a quarter of the field: a fortieth of the mean's.
    let case = Case::new("quarter");
    let mut cube = counts([24, 24, 200], 5);
    let level = |e: f64| 4000.0 * ((420.0 + 2.0 * e) / 420.0).powf(-3.0);
    for ((y, x, e), value) in cube.indexed_iter_mut() {
        // The noise of another cube, and a background without an edge.
        let noise = (*value * 7919.0 + (y * 31 + x * 17 + e) as f32).sin();
        let edge = if y >= 12 && x < 12 && e >= 100 { 1.1 } else { 1.0 };
        *value = (level(e as f64) * edge + level(e as f64).sqrt() * f64::from(noise)).round() as f32;
    }
    write_hspy(&case.path("cube.hspy"), &cube);
    let found = edges(&described(&case.path("cube.hspy")));
    assert!(near(&found, 620.0) && found.len() == 1, "{found:?}");
}
