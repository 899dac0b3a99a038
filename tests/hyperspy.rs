//! HyperSpy judges what is written: principal components are equal to its own, and results of odd cubes open as they
//! should. (`demo.rs` has the demonstration's files judged.)

use std::time::Duration;

use crate::common::cube::{counts, write_hspy};
use crate::common::{ask_python, files, folder, mpirun, set, shipped};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn principal_components_equal_hyperspys() {
    let folder = folder("pca");
    let cube = folder.join("cube.hspy");
    // More pixels than channels, and lines that two or three ranks share unevenly.
    write_hspy(&cube, &counts([25, 18, 120], 3));
    for ranks in [1, 2, 3] {
        for poisson in [true, false] {
            let output = folder.join(format!("{ranks}-{poisson}"));
            let mut arguments = vec!["pca".to_string(), shipped("demo.yaml")];
            for (key, value) in [
                ("output", output.display().to_string()),
                ("archive.inputs", format!("[{}]", cube.display())),
                ("preprocess.despike", "false".into()),
                ("preprocess.spatial_mean", "1".into()),
                ("preprocess.gain", "1".into()),
                ("preprocess.vacuum", "false".into()),
                ("pca.components", "[3, 6]".into()),
                ("pca.poisson", poisson.to_string()),
            ] {
                arguments.extend(set(key, value));
            }
            mpirun(ranks, &arguments, LIMIT).succeeded();
            let result = output.join("cube.coreloss.hspy");
            if let Some(said) = ask_python("tests/judges/hyperspy_pca.py", &[&cube, &result]) {
                let poisson = if poisson { "True" } else { "False" };
                assert!(said.contains(&format!("poisson={poisson} components=6")), "{said}");
                print!("{ranks} ranks: {said}");
            }
        }
    }
}

#[test]
fn results_of_odd_cubes_open_in_hyperspy() {
    let folder = folder("odd");
    for (name, shape) in [("pixel", [1, 1, 32]), ("line", [1, 100, 40]), ("narrow", [49, 6, 64])] {
        write_hspy(&folder.join(format!("{name}.hspy")), &counts(shape, 5));
        let mut arguments = vec!["run".to_string(), shipped("demo.yaml")];
        for (key, value) in [
            ("output", folder.join(name).display().to_string()),
            ("archive.inputs", format!("[{}/{name}.hspy]", folder.display())),
            ("train.steps", "2".into()),
            // All signals that a file can have.
            ("output.reconstruction", "window".into()),
        ] {
            arguments.extend(set(key, value));
        }
        mpirun(2, &arguments, LIMIT).succeeded();
    }
    let all = files(&folder, ".hspy");
    assert_eq!(all.len(), 6, "{all:?}");
    ask_python("tests/judges/hyperspy_judge.py", &all);
}
