//! What people use beside `run`: the report in a browser, `export`, `status`, `init`, `config`, `completions`, and a
//! HyperSpy session that works with the results.

use std::fs;
use std::path::Path;
use std::process::Command;

use ndarray::s;
use serde_json::Value;

use crate::common::case::{Case, LIMIT};
use crate::common::cube::counts;
use crate::common::{Ended, ask_python, files, finish, skip, without_open_files};

/// A finished run of a cube with a region that is unlike the rest.
fn finished(name: &str) -> Case {
    let mut cube = counts([12, 14, 200], 6);
    cube.slice_mut(s![4..8, 4..8, 100..]).mapv_inplace(|value| (1.6 * value).round());
    let case = Case::new(name).cube(&cube);
    case.run(2, &["output.reconstruction=window"]).succeeded();
    case
}

fn said(case: &Case, arguments: &[&str]) -> Ended {
    let ended = finish(case.command(0, arguments), LIMIT);
    ended.without_panic();
    ended
}

#[test]
fn results_are_exported_told_and_gone_on_with() {
    let case = finished("tools");
    let output = case.output(2);
    let status = said(&case, &["status", "out-2", "--json"]);
    let status: Value = serde_json::from_str(&status.succeeded().stdout).expect("JSON");
    assert_eq!(status["state"], "finished", "{status}");
    assert_eq!((&status["step"], &status["cubes_scored"]), (&2.into(), &1.into()), "{status}");
    said(&case, &["status", "out-2"]).succeeded().says("finished, 1 cubes scored");
    said(&case, &["status", "."]).exits(2).says("holds no run");

    said(&case, &["export", "out-2", "-o", "tables"]).exits(2).says("--csv");
    said(&case, &["export", "run.yaml", "--csv"]).exits(2).says("run.yaml holds no results");
    let every = ["export", "out-2", "--csv", "--npy", "--png", "--nexus", "--zspy", "-o", "tables"];
    let exported = said(&case, &every);
    assert!(exported.succeeded().stdout.lines().count() > 20);
    assert!(files(&case.path("tables"), ".partial").is_empty());
    let result = output.join("cube.coreloss.hspy");
    if let Some(found) = ask_python("tests/judges/export_judge.py", &[&result, &case.path("tables/cube")]) {
        // HyperSpy prints warnings to stdout.
        let last = found.lines().last().unwrap_or_default();
        let found: Value = serde_json::from_str(last).expect("JSON");
        assert!(found["regions"].as_u64() > Some(0), "{found}");
    }
    ask_python("tests/judges/hyperspy_session.py", &[&case.path("cube.hspy"), &result]);
    ask_python("scripts/tensorboard_events.py", &[&output]);
    ask_python("tests/judges/tensorboard_judge.py", &[&output]);
    in_browser(&output.join("report.html"), &case.folder);
}

/// Opens the page in a browser: it is complete, its pictures decode, and nothing is on the console.
fn in_browser(page: &Path, folder: &Path) {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let Some(browser) = names.iter().find(|name| Command::new(name).arg("--version").output().is_ok()) else {
        skip("no chromium to look at the report with (scripts/setup.sh --test installs it)");
        return;
    };
    let open = |page: &Path| {
        let mut command = Command::new("timeout");
        command.args(["60", browser, "--headless", "--no-sandbox", "--disable-gpu"]);
        command.args(["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"]);
        command.arg(format!("--user-data-dir={}", folder.join("browser").display()));
        command.arg(format!("file://{}", page.display()));
        let output = without_open_files(command.env_remove("LD_LIBRARY_PATH")).output().expect("a browser starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let (dom, log) = open(page);
    assert!(dom.contains("</html>"), "{log}");
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");

    // The same page with a script, for which its security policy must go. The script counts the pictures and those that
    // cannot be decoded, and points at the first map and the first chart.
    let looking = r#"<script>
        const sources = [...document.querySelectorAll("image, img")].map(e => e.href?.baseVal ?? e.src);
        const broken = sources.map(source => {
            const picture = new Image();
            picture.src = source;
            return new Promise(answer => {
                picture.onload = () => answer(0);
                picture.onerror = () => answer(1);
            });
        });
        const pointed = what => {
            const box = what.getBoundingClientRect();
            const at = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true };
            what.dispatchEvent(new MouseEvent("mousemove", at));
            return document.querySelector(".readout").textContent;
        };
        pointed(document.querySelector("image"));
        Promise.all(broken).then(broken => setTimeout(() => {
            const words = ["image", "svg.chart"].map(what => pointed(document.querySelector(what)));
            document.title = [broken.reduce((a, b) => a + b, 0), broken.length, ...words].join("|");
        }, 1000));
    </script>"#;
    let policy = "http-equiv=\"Content-Security-Policy\"";
    let looked = folder.join("looked.html");
    let seen = |page: &str| -> Vec<String> {
        assert!(page.contains(policy));
        let page = page.replace(policy, "");
        let page = page.replace("</body>", &format!("{looking}</body>"));
        fs::write(&looked, page).expect("a page is written");
        let (dom, log) = open(&looked);
        let title = dom.split_once("<title>").expect("a title").1;
        let title = title.split_once("</title>").expect("its end").0;
        assert!(title.contains('|'), "{title} {log}");
        title.split('|').map(str::to_owned).collect()
    };
    let whole = fs::read_to_string(page).expect("the page");
    let found = seen(&whole);
    let pictures: usize = found[1].parse().expect("a number");
    assert!(found[0] == "0" && pictures > 3, "{found:?}");
    // Such as "y 5, x 5: 12.3" and "energy loss (eV) 512.3".
    let value = found[2].rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    assert!(found[2].starts_with("y ") && value.is_some(), "{found:?}");
    assert!(found[3].starts_with("energy loss (eV) "), "{found:?}");
    // A broken picture is noticed.
    let hurt = whole.replacen("base64,iVBOR", "base64,iVBAR", 1);
    assert_eq!(seen(&hurt)[..2], ["1".to_owned(), found[1].clone()]);
}

#[test]
fn a_second_training_leaves_out_what_the_first_run_flagged() {
    let case = finished("again");
    let again = |earlier: &str, output: &str| {
        let sets = [format!("archive.train_without={earlier}"), format!("output={output}")];
        let arguments = ["run", "run.yaml", "--set", &sets[0], "--set", &sets[1]];
        finish(case.command(2, &arguments), LIMIT)
    };
    let second = again("out-2", "second");
    second.succeeded();
    let told = second.stderr.lines().find(|line| line.contains("left out of the training"));
    let count = told.and_then(|line| line.split(": ").last()?.split(' ').next()?.parse().ok());
    // At most the block of 4 x 4 pixels and two around it.
    let regions: usize = 8 + 1;
    assert!(count.is_some_and(|count: usize| (regions..=64).contains(&count)), "{told:?}");
    let first = fs::read(case.output(2).join("metrics.jsonl")).expect("metrics");
    assert_ne!(first, fs::read(case.path("second/metrics.jsonl")).expect("metrics"));
    again("nowhere", "third").exits(1).says("nowhere tells nothing of");
}

#[test]
fn configurations_are_written_shown_and_explained() {
    let case = Case::new("configurations").cube(&counts([10, 10, 200], 7));
    said(&case, &["init", "cube.hspy"]).succeeded().says("cube.yaml");
    said(&case, &["init", "cube.hspy"]).exits(2).says("cube.yaml exists");
    let written = fs::read_to_string(case.path("cube.yaml")).expect("a configuration");
    for words in ["# windows:", "range_ev: [", "inputs: [\"cube.hspy\"]", "Found: gain"] {
        assert!(written.contains(words), "{words:?} is not in\n{written}");
    }
    let set = ["--set", "train.steps=2", "--set", "output=out-1"];
    let run = [&["run", "cube.yaml"][..], &set].concat();
    finish(case.command(1, &run), LIMIT).succeeded();
    // The windows that it proposes in comments are valid.
    let proposed: String = written
        .lines()
        .map(|line| line.replace("  # windows:", "  windows:").replace("  #   - {", "    - {"))
        .filter(|line| line.trim() != "windows: auto")
        .collect::<Vec<_>>()
        .join("\n");
    fs::write(case.path("proposed.yaml"), proposed).expect("a file");
    said(&case, &["config", "proposed.yaml"]).succeeded().says("range_ev");

    said(&case, &["config", "--set", "seed=7"]).succeeded().says("seed: 7");
    let explained = said(&case, &["config", "--explain", "train.steps"]);
    explained.succeeded().says("train.steps (default: auto)");
    said(&case, &["config", "--explain", "train.stepz"]).exits(2).says("train.steps");
    said(&case, &["config", "--explain"]).succeeded().says("score.windows");
    for (shell, words) in [("bash", "complete"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        said(&case, &["completions", shell]).succeeded().says(words);
    }
    let help = said(&case, &["--help"]);
    help.succeeded().says("coreloss init cube.dm4");
}
