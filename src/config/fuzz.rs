//! Configurations and sweeps with any bytes changed.

use super::{Config, SweepFile};
use crate::fuzz::fuzz;

const TOKENS: [&str; 16] =
    ["[", "]", "{", "}", ": ", "- ", "\n", "&a ", "*a", "<<: ", "!!float ", "|", ".inf", "-1", "1e308", "null"];

fn shipped(folder: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn fuzz_configurations() {
    let mut seeds = shipped("configs");
    seeds.push(Config::default().to_yaml().into_bytes());
    fuzz(seeds, &TOKENS, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let config = Config::parse("fuzz", &text, &[])?;
        // What was accepted is written into the output folder, and read there by the next run.
        let again = Config::parse("again", &config.to_yaml(), &[]).expect("a resolved configuration");
        assert_eq!(again.to_yaml(), config.to_yaml());
        Ok(())
    });
}

#[test]
fn fuzz_sweeps() {
    fuzz(shipped("configs/sweeps"), &TOKENS, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        SweepFile::parse("fuzz", &text)?.expand("fuzz", None, &[])?;
        Ok(())
    });
}
