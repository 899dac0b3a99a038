//! The pages that people read: they tell what `summary.json` tells, and a browser uses them as a reader would.

use std::fs;
use std::process::Command;

use ndarray::s;
use serde_json::Value;

use crate::common::case::{Case, LIMIT};
use crate::common::cube::counts;
use crate::common::result::summary;
use crate::common::{ask_python, finish, skip};

/// A finished run of a cube whose edge is higher in a square.
fn finished(name: &str) -> Case {
    let mut cube = counts([12, 14, 200], 6);
    cube.slice_mut(s![4..8, 4..8, 100..]).mapv_inplace(|value| (1.6 * value).round());
    let case = Case::new(name).cube(&cube);
    case.run(2, &[]).succeeded();
    case
}

#[test]
fn the_page_tells_what_the_summary_tells() {
    let case = finished("told");
    let page = fs::read_to_string(case.output(2).join("report.html")).expect("a page");
    let cube = &summary(&case.output(2))["cubes"][0];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("a number: {value}"));
    let regions = cube["regions"].as_array().expect("regions");
    assert!(!regions.is_empty());
    for region in regions {
        let [y, x] = ["y", "x"].map(|axis| number(&region[axis]));
        assert!(page.contains(&format!("y {y:.0}, x {x:.0}")), "{region}");
        assert!(page.contains(&format!("<td class=\"n\">{y:.1}</td><td class=\"n\">{x:.1}</td>")), "{region}");
        assert!(page.contains(&format!("in {} pixels", region["area"])), "{region}");
        if let Some(window) = region["kind"]["window"].as_str() {
            let window = window.replace("edge_", "edge at ").replace("eV", " eV");
            assert!(page.contains(&window), "{region}");
        }
        if region["kind"]["differs"] == "height" && !region["change"].is_null() {
            let [percent, error] = ["percent", "error_percent"].map(|name| number(&region["change"][name]));
            assert!(percent.abs() < 2.0 * error || page.contains(&format!("{:.0} ± ", percent.abs())), "{region}");
        }
        assert!(region["surprise"].as_f64().is_some(), "{region}");
    }
    for (method, scores) in cube["methods"].as_object().expect("methods") {
        for (score, found) in scores.as_object().expect("scores") {
            let row = format!("<td>{method}</td><td>{score}</td>");
            let (_, rest) = page.split_once(&row).unwrap_or_else(|| panic!("no {row}"));
            let row = rest.split_once("</tr>").expect("its end").0;
            assert!(row.contains(&format!("<td class=\"n\">{}</td>", found["flagged"])), "{method} {score}: {row}");
        }
    }
    // Logarithms of odds and next to nothing are not for people.
    for bad in ["0.6931", "e-1", "e-0", "NaN"] {
        let visible = page.split("base64,").map(|part| part.split_once('"').map_or(part, |(_, rest)| rest));
        assert!(visible.skip(1).all(|part| !part.contains(bad)), "{bad}");
    }
    assert!(page.contains("flagged above 50 %"));
}

#[test]
fn a_cube_that_is_gone_costs_only_its_page_to_explore() {
    let case = finished("gone");
    let page = case.output(2).join("cube.explore.html");
    assert!(page.exists());
    fs::remove_file(&page).expect("a page");
    fs::rename(case.path("cube.hspy"), case.path("elsewhere.hspy")).expect("a cube");
    let ended = finish(case.command(1, &["report", "out-2/config.yaml"]), LIMIT);
    ended.succeeded().without_panic().says("no page to explore");
    assert!(!page.exists());
}

#[test]
fn a_reader_explores_and_judges_in_a_browser() {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    if names.iter().all(|name| Command::new(name).arg("--version").output().is_err()) {
        skip("no chromium to look at the pages with (scripts/setup.sh --test installs it)");
        return;
    }
    let case = finished("browser");
    let output = case.output(2);
    let pages = [output.join("report.html"), output.join("cube.explore.html")];
    let Some(found) = ask_python("tests/judges/page_judge.py", &pages) else { return };
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["console"], Value::Array(Vec::new()), "{found}");
    let explored = &found["explore"];
    let at_most =
        |value: &Value, most: f64| assert!(value.as_f64().is_some_and(|value| value <= most), "{value} {found}");
    at_most(&explored["width_400"], 400.0);
    at_most(&explored["width_1300"], 1300.0);
    at_most(&found["report"]["width_400"], 400.0);
    at_most(&explored["click_ms"], 50.0);
    let text = |name: &str| explored[name].as_str().expect("text").to_owned();
    assert!(text("first").starts_with("Region 1"), "{found}");
    assert!(text("clicked").starts_with("Pixel y 3, x 11"), "{found}");
    assert!(text("key").starts_with("Pixel y 4, x 11"), "{found}");
    assert!(text("compared").contains("; pixel y 9, x 9:"), "{found}");
    assert_ne!(explored["window"][0], explored["window"][1], "{found}");
    assert!(text("scale").starts_with("counts in "), "{found}");
    assert!(text("scale_score").contains(" : 1"), "{found}");

    let report = &found["report"];
    assert_eq!(report["before"], "no verdicts yet");
    assert_eq!([&report["after"], &report["again"]], ["save 1 verdict as verdicts.yaml"; 2], "{found}");
    // The program reads what the page saves.
    fs::write(output.join("verdicts.yaml"), report["file"].as_str().expect("a file")).expect("a file");
    let listed = finish(case.command(0, &["verdict", "out-2"]), LIMIT);
    listed.succeeded().without_panic().says("artefact").says("a \"dead\" channel: 7").says("1 verdicts on 1 regions");
    assert!(!listed.stdout.contains("conflict") && !listed.stdout.contains("any more"), "{}", listed.dump());
    let again = case.run(2, &["archive.verdicts=[out-2/verdicts.yaml]", "output=judged"]);
    again.succeeded();
    let page = fs::read_to_string(case.path("judged/report.html")).expect("a page");
    assert!(page.contains("Set apart by verdicts") && page.contains("said of this region"));

    // Another opinion, of a later day, is a conflict.
    let other =
        "verdicts:\n- {cube: cube, region: 1, rows: [4, 7], columns: [4, 7], verdict: real, date: 2999-01-01}\n";
    fs::write(output.join("verdicts (1).yaml"), other).expect("a file");
    let merged = finish(case.command(0, &["verdict", "out-2", "-o", "all.yaml"]), LIMIT);
    merged.succeeded().says("conflict: verdicts.yaml says artefact").says("merged: all.yaml");
    // And a training leaves the real one out.
    let third = case.run(2, &["archive.verdicts=[all.yaml]", "output=real"]);
    third.succeeded().says("64 of 168 pixels are left out of the training");
    finish(case.command(0, &["verdict", "."]), LIMIT).exits(2).says("holds no verdicts*.yaml");
    case.run(1, &["archive.verdicts=[none.yaml]", "output=no"]).exits(2).says("archive.verdicts: none.yaml");
}
