use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use ndarray::Array2;

use super::contents::{Cube, Report};
use super::example;
use super::explore;
use super::frame::assert_self_contained;
use super::page::MOST_CUBES;
use super::verdict;
use super::write::{file_stem, write};
use crate::results::FailedInput;

fn written(report: &Report, cubes: &[Cube]) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), report, given(cubes)).unwrap();
    let page = fs::read_to_string(directory.path().join("report.html")).unwrap();
    (directory, page)
}

fn given(cubes: &[Cube]) -> impl Iterator<Item = Result<Cube>> + '_ {
    cubes.iter().cloned().map(Ok)
}

#[test]
fn a_full_report_is_self_contained_and_whole() {
    let (report, cubes) = (example::report(), example::cubes());
    let (directory, page) = written(&report, &cubes);
    // For looking at it in a browser.
    if let Ok(kept) = std::env::var("CORELOSS_REPORT_EXAMPLE") {
        write(Path::new(&kept), &report, given(&cubes)).unwrap();
    }
    assert_self_contained(&page, &[verdict::SCRIPT]);
    assert!(page.trim_end().ends_with("</html>"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.contains(&"session__sto-01.cvae.combined.png".into()), "{names:?}");
    assert!(names.iter().all(|name| !name.ends_with(".partial")));
    let maps: usize = cubes.iter().map(|cube| cube.maps.len()).sum();
    let explored = "session__sto-01.explore.html";
    assert!(names.contains(&explored.into()), "{names:?}");
    assert_eq!(names.len(), maps + 2);
    let explored = fs::read_to_string(directory.path().join(explored)).unwrap();
    assert_self_contained(&explored, &[explore::SCRIPT]);
    assert!(explored.contains("href=\"report.html#cube-0\"") && page.contains("sto-01.explore.html#region-1"));
    // What a verdict sets apart is told with its reason, and does not lead.
    assert!(page.contains("Set apart by verdicts") && page.contains("like region 1 of another"));
}

#[test]
fn hostile_words_stay_words() {
    let hostile = "</title><script>alert('1')</script>\"><img onerror=x>&";
    let mut report = example::report();
    report.title = hostile.into();
    report.version = hostile.into();
    report.config_yaml = hostile.into();
    report.facts = vec![(hostile.into(), hostile.into())];
    report.failed_inputs = vec![FailedInput { path: hostile.into(), reason: hostile.into(), stamp: String::new() }];
    let mut cubes = example::cubes();
    let cube = &mut cubes[0];
    cube.name = hostile.into();
    cube.pixel_size = Some((1.0, hostile.into()));
    cube.windows[0].0 = hostile.into();
    cube.maps[0].method = "<script>".into();
    cube.maps[0].score = "<img>".into();
    // Ids come from file names: a slash in one is a folder, and the PNG's name has none.
    let (directory, page) = written(&report, &cubes);
    assert_self_contained(&page, &[verdict::SCRIPT]);
    assert!(!page.contains("onerror=x>"));
    assert!(page.contains("&lt;script&gt;alert('1')"));
    assert!(fs::read_dir(directory.path()).unwrap().all(|entry| entry.unwrap().path().is_file()));
}

#[test]
fn nothing_at_all_is_a_page_too() {
    let (_directory, page) = written(&Report::default(), &[]);
    assert_self_contained(&page, &[verdict::SCRIPT]);
    assert!(page.contains("No cube was scored"));
}

#[test]
fn odd_maps_are_drawn() {
    for shape in [(1, 1), (1, 100), (49, 6), (700, 2)] {
        for value in [f32::NAN, 0.0, 1.0, f32::INFINITY] {
            let mut report = example::report();
            report.loss.clear();
            let odd = example::blank("odd", shape, value);
            let (_directory, page) = written(&report, &[odd]);
            assert_self_contained(&page, &[verdict::SCRIPT]);
        }
    }
}

#[test]
fn non_finite_figures_are_drawn() {
    let mut report = example::report();
    for point in &mut report.loss {
        point.train = f64::NAN;
        point.validation = Some(f64::INFINITY);
    }
    report.steps[3].kl = f64::NAN;
    let mut cubes = example::cubes();
    let cube = &mut cubes[0];
    cube.mean_spectrum.fill(f64::NAN);
    cube.scree = vec![0.0, -1.0, f64::NAN];
    cube.components[0].factor.fill(f64::NAN);
    cube.edges[0].1 = f64::NAN;
    cube.region_spectra.as_mut().unwrap().row_mut(0).fill(f32::INFINITY);
    cube.maps[0].found.threshold = Some(f32::NAN);
    cube.windows[0].1 = [f64::NAN, f64::NAN];
    let (_directory, page) = written(&report, &cubes);
    assert_self_contained(&page, &[verdict::SCRIPT]);
    // Not in the pictures, whose base64 may hold any three letters.
    let words = page.split("base64,").map(|part| part.split_once('"').map_or(part, |(_, rest)| rest));
    assert!(words.clone().count() > 10 && words.skip(1).all(|part| !part.contains("NaN")));
}

#[test]
fn a_large_archive_stays_a_page() {
    let cubes: Vec<Cube> = (0..MOST_CUBES + 60).map(|i| example::blank(&format!("cube{i}"), (4, 4), 1.0)).collect();
    let (_directory, page) = written(&example::report(), &cubes);
    assert!(page.contains("cube99"));
    assert!(page.len() < 4_000_000, "{}", page.len());
}

#[test]
fn a_map_of_another_shape_is_refused_by_name() {
    let mut cubes = example::cubes();
    cubes[0].labels = Array2::zeros((2, 2));
    let directory = tempfile::tempdir().unwrap();
    let refused = write(directory.path(), &example::report(), given(&cubes)).unwrap_err();
    let message = format!("{refused:#}");
    assert!(message.contains("session/sto-01") && message.contains("(2, 2)"), "{message}");
}

#[test]
fn stems_have_no_folders_and_never_collide() {
    let long = "x".repeat(400);
    let mut taken = HashSet::new();
    let stems = ["a/b", "a__b", &long, "../c"].map(|name| file_stem(name, &mut taken));
    assert_eq!((stems[0].as_str(), stems[3].as_str()), ("a__b", "..__c"));
    assert!(stems[1].starts_with("a__b-"));
    assert!(stems.iter().all(|stem| stem.len() < 200));
}
