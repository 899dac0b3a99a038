//! A folder with a cube and a configuration, which is run on 1, 2 and 3 ranks.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ndarray::Array3;

use super::cube::write_hspy;
use super::result::maps;
use super::{Ended, coreloss, files, finish, folder};

/// Of every job. Most need a second.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const RANKS: [usize; 3] = [1, 2, 3];
/// The first map of every result.
const SCORE: &str = "/10_cvae_combined/data";

/// A folder with a configuration of two training steps: these tests do not depend on what the model learns.
pub struct Case {
    pub folder: PathBuf,
}

impl Case {
    #[track_caller]
    pub fn new(name: &str) -> Case {
        let folder = folder(name);
        fs::write(folder.join("run.yaml"), "archive:\n  inputs: [cube.hspy]\ntrain:\n  steps: 2\noutput: out\n")
            .expect("a folder takes a file");
        Case { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn cube(self, values: &Array3<f32>) -> Case {
        write_hspy(&self.path("cube.hspy"), values);
        self
    }

    pub fn command(&self, ranks: usize, arguments: &[&str]) -> Command {
        let mut command = coreloss(ranks, arguments);
        command.current_dir(&self.folder);
        command
    }

    /// `coreloss run` with `--set` for each of `sets`, into an output folder for each number of ranks.
    pub fn run(&self, ranks: usize, sets: &[&str]) -> Ended {
        let output = format!("output=out-{ranks}");
        let mut arguments = vec!["run", "run.yaml", "--set", &output];
        for set in sets {
            arguments.extend(["--set", set]);
        }
        finish(self.command(ranks, &arguments), LIMIT)
    }

    pub fn output(&self, ranks: usize) -> PathBuf {
        self.path(&format!("out-{ranks}"))
    }

    /// The run is refused with `code` on every number of ranks, and says all of `words`.
    pub fn refused(&self, sets: &[&str], code: i32, words: &[&str]) {
        for ranks in RANKS {
            let ended = self.run(ranks, sets);
            ended.exits(code).without_panic();
            words.iter().for_each(|word| _ = ended.says(word));
            let output = self.output(ranks);
            if output.is_dir() {
                let left = [files(&output, ".coreloss.hspy"), files(&output, "summary.json")].concat();
                assert!(left.is_empty(), "a failed run left {left:?}:\n{}", ended.dump());
            }
        }
    }

    /// The run ends with `code` and the same maps on every number of ranks.
    pub fn ends(&self, sets: &[&str], code: i32) {
        for ranks in RANKS {
            self.run(ranks, sets).exits(code).without_panic();
            assert!(
                maps(&self.output(1)) == maps(&self.output(ranks)),
                "{}: maps on {ranks} ranks differ from those on 1",
                self.folder.display()
            );
        }
    }

    /// The default score map of the cube `name`, as `ends` left it.
    pub fn score(&self, name: &str) -> Vec<f64> {
        let bits = &maps(&self.output(1))[&format!("{name}.coreloss.hspy{SCORE}")].1;
        bits.iter().map(|&bits| f64::from_bits(bits)).collect()
    }
}
