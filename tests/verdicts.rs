//! Verdicts in a survey: a false alarm that was judged once is not shown again, in cubes that come later too, and what is new
//! is not swallowed with it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ndarray::Array3;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use serde_json::Value;

use crate::common::cube::write_hspy_from;
use crate::common::{Ended, coreloss, finish, folder};

const LIMIT: Duration = Duration::from_secs(500);
const SIZE: usize = 16;
const CUBES: usize = 50;

/// What differs in a square of pixels of a cube.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    /// A few channels of the detector count too much.
    Artefact,
    /// The edge is lower, moved, or ends early.
    Lower,
    Moved,
    Flat,
    /// Higher: none of the others.
    Higher,
}

/// Expected counts at `e` eV.
fn expected(e: f64, planted: Planted) -> f64 {
    let onset = if planted == Planted::Moved { 536.0 } else { 532.0 };
    let step = 1.0 / (1.0 + (-(e - onset) / 1.5).exp());
    let peak = if planted == Planted::Flat { 0.0 } else { (-0.5 * ((e - onset - 8.0) / 4.0).powi(2)).exp() };
    let height = match planted {
        Planted::Lower => 0.5,
        Planted::Higher => 1.6,
        _ => 1.0,
    };
    let glitch = if planted == Planted::Artefact && (551.0..556.0).contains(&e) { 150.0 } else { 0.0 };
    900.0 * (e / 420.0_f64).powf(-2.9) + height * 300.0 * (step * (e / 532.0).powi(-3) + peak) + glitch
}

/// Writes a cube with a square of `planted` pixels, at a place of its own.
fn write(folder: &Path, name: &str, seed: u64, planted: Planted) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let corner = [2 + (seed * 5) as usize % 9, 2 + (seed * 3) as usize % 9];
    let values = Array3::from_shape_fn((SIZE, SIZE, 160), |(y, x, i)| {
        let inside = (corner[0]..corner[0] + 4).contains(&y) && (corner[1]..corner[1] + 4).contains(&x);
        let mean = expected(440.0 + i as f64, if inside { planted } else { Planted::Nothing });
        Poisson::new(mean).expect("a mean").sample(&mut random) as f32
    });
    write_hspy_from(&folder.join(format!("{name}.hspy")), &values, 440.0, 1.0);
}

fn survey(case: &Path, sets: &[&str]) -> Ended {
    let mut words = vec!["survey", "survey.yaml"];
    sets.iter().for_each(|set| words.extend(["--set", set]));
    let mut command = coreloss(2, &words);
    command.current_dir(case);
    finish(command, LIMIT)
}

/// The cubes of a table, in its order, each once.
fn cubes(case: &Path, table: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_path(case.join("out").join(table)).expect("a table");
    let place = reader.headers().expect("names").iter().position(|name| name == "cube").expect("cubes");
    let mut found: Vec<String> = Vec::new();
    for row in reader.records() {
        let cube = row.expect("a row")[place].to_owned();
        if !found.contains(&cube) {
            found.push(cube);
        }
    }
    found
}

#[test]
fn one_verdict_on_an_artefact_brings_the_real_ones_to_the_top() {
    let case = folder("survey");
    let archive = case.join("archive");
    fs::create_dir(&archive).expect("a folder");
    let real = [(7, Planted::Lower), (23, Planted::Moved), (41, Planted::Flat)];
    for i in 0..CUBES {
        let planted = real.iter().find(|(place, _)| *place == i).map_or(Planted::Artefact, |(_, planted)| *planted);
        let name = if planted == Planted::Artefact { format!("cube-{i:02}") } else { format!("real-{i:02}") };
        write(&archive, &name, i as u64, planted);
    }
    fs::write(
        case.join("survey.yaml"),
        "output: out\narchive: {inputs: ['archive/*.hspy']}\npca: {components: [3]}\ntrain: {steps: 60, device: cpu}\n\
         preprocess: {thickness: false}\nscore: {windows: [{name: O K, range_ev: [525, 575], background_ev: [490, 522]}]}\n",
    )
    .expect("a configuration");
    survey(&case, &[]).succeeded().without_panic();
    let first = cubes(&case, "ranking.csv");
    let places = |ranking: &[String]| -> Vec<usize> {
        ["real-07", "real-23", "real-41"]
            .iter()
            .map(|name| ranking.iter().position(|cube| cube == name).expect(name))
            .collect()
    };
    assert!(places(&first).iter().sum::<usize>() > 3, "the artefacts do not lead: {first:?}");

    // All artefacts are one kind, and told as the instrument's.
    let kinds = fs::read_to_string(case.join("out/kinds.csv")).expect("a table");
    let of_first: usize = kinds.lines().nth(1).and_then(|row| row.split(',').nth(3)?.parse().ok()).expect("a kind");
    assert!((45..=47).contains(&of_first) && kinds.lines().count() == 5, "{kinds}");
    let page = fs::read_to_string(case.join("out/ranking.html")).expect("a page");
    assert!(page.contains("rather of the instrument"));

    // One verdict, on the most surprising artefact.
    let judged = first.iter().find(|cube| cube.starts_with("cube")).expect("an artefact");
    fs::write(case.join("verdicts.yaml"), verdict_on(&case, judged)).expect("a file");
    let verdicts = "survey.verdicts=[verdicts.yaml]";
    let ended = survey(&case, &[verdicts]);
    ended.succeeded().without_panic().says("set apart by verdicts");
    let second = cubes(&case, "ranking.csv");
    let mut lead = places(&second);
    lead.sort_unstable();
    let apart = cubes(&case, "set_apart.csv");
    println!("{} cubes set apart; {second:?}", apart.len());
    assert_eq!(lead, [0, 1, 2], "{second:?}");
    assert!(apart.iter().all(|cube| cube.starts_with("cube")), "{apart:?}");
    assert!(apart.len() >= 45, "only {} artefacts are recognised", apart.len());
    let page = fs::read_to_string(case.join("out/ranking.html")).expect("a page");
    assert!(page.contains("Regions set apart by verdicts") && page.contains("a hot channel"));

    // One more of each comes later.
    write(&archive, "later-real", 60, Planted::Higher);
    write(&archive, "later-artefact", 61, Planted::Artefact);
    survey(&case, &[verdicts]).succeeded();
    let third = cubes(&case, "ranking.csv");
    let place = third.iter().position(|cube| cube == "later-real").expect("the new cube");
    assert!(place < 4, "the new one is swallowed: {third:?}");
    assert!(cubes(&case, "set_apart.csv").contains(&"later-artefact".to_owned()), "{third:?}");
}

/// The file that the ranking's page saves after one verdict on the first region of `cube`; its script is run by `pages`.
fn verdict_on(case: &Path, cube: &str) -> String {
    let page = fs::read_to_string(case.join("out/ranking.html")).expect("a page");
    let (_, data) = page.split_once("id=\"verdict-data\" hidden>").expect("what the script knows");
    let data = data.split_once("</div>").expect("its end").0.replace("&quot;", "\"");
    let regions: Vec<Value> = serde_json::from_str(&data).expect("JSON");
    let mut region = regions.into_iter().find(|region| region["cube"] == cube).expect("the cube");
    for (key, value) in [("verdict", "artefact"), ("at", "detector"), ("note", "a hot channel"), ("date", "2026-03-03")]
    {
        region[key] = value.into();
    }
    format!("verdicts:\n- {region}\n")
}
