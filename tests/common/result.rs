//! The contents of an output folder, for comparison to the bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::files;

/// For the path of each dataset its shape, and the bits of every value as f64.
pub type Datasets = BTreeMap<String, (Vec<usize>, Vec<u64>)>;

/// `summary.json`.
pub fn summary(output: &Path) -> Value {
    let path = output.join("summary.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("summary.json is JSON")
}

/// `summary.json` without the fields that depend on the machine and the time.
pub fn findings(output: &Path) -> Value {
    let mut summary = summary(output);
    let fields = summary.as_object_mut().expect("a summary has fields");
    for machine in ["timings_s", "peak_rss_mib", "ranks", "threads"] {
        assert!(fields.remove(machine).is_some(), "the summary has no {machine}");
    }
    summary
}

/// The lines of `metrics.jsonl` without the speed.
pub fn metrics(output: &Path) -> Vec<Value> {
    let path = output.join("metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        value.as_object_mut().expect("a line has fields").remove("patches_per_s");
        value
    };
    text.lines().map(line).collect()
}

/// The file name of the newest checkpoint, and its tensors (weights and both moments) as bytes.
pub fn weights(output: &Path) -> (String, BTreeMap<String, Vec<u8>>) {
    let found = files(&output.join("checkpoints"), ".safetensors");
    let path = found.last().unwrap_or_else(|| panic!("no checkpoint in {}", output.display()));
    let bytes = fs::read(path).expect("a checkpoint can be read");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a checkpoint is whole");
    let tensors = tensors.tensors().into_iter().map(|(name, tensor)| (name, tensor.data().to_vec())).collect();
    (path.file_name().expect("a name").to_string_lossy().into_owned(), tensors)
}

/// Every dataset below `Experiments` in every result file.
pub fn maps(output: &Path) -> Datasets {
    let mut found = BTreeMap::new();
    for path in files(output, ".coreloss.hspy") {
        let name = path.strip_prefix(output).expect("below it").display().to_string();
        found.extend(datasets(&path).into_iter().map(|(place, data)| (name.clone() + &place, data)));
    }
    assert!(!found.is_empty(), "{} holds no results", output.display());
    found
}

/// Every dataset below `Experiments` of one file.
pub fn datasets(path: &Path) -> Datasets {
    let file = hdf5::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut found = BTreeMap::new();
    walk(&file.group("Experiments").expect("experiments"), "", &mut found);
    found
}

fn walk(group: &hdf5::Group, place: &str, found: &mut Datasets) {
    for name in group.member_names().expect("a group lists its members") {
        let place = format!("{place}/{name}");
        if let Ok(inner) = group.group(&name) {
            walk(&inner, &place, found);
        } else if let Ok(dataset) = group.dataset(&name) {
            // An f64 holds every type that is written without loss.
            let values = dataset.read_raw::<f64>().unwrap_or_else(|e| panic!("{place}: {e}"));
            let bits = values.into_iter().map(f64::to_bits).collect();
            found.insert(place, (dataset.shape(), bits));
        }
    }
}

/// Fails where two output folders differ in anything that does not depend on the machine and the time.
pub fn assert_equal(one: &Path, other: &Path) {
    let place = || format!("{} and {}", one.display(), other.display());
    let (a, b) = (metrics(one), metrics(other));
    for (i, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!(a == b, "{}: line {} of metrics.jsonl:\n{a}\n{b}", place(), i + 1);
    }
    assert_eq!(a.len(), b.len(), "{}: lines of metrics.jsonl", place());
    assert!(weights(one) == weights(other), "{}: the checkpoints differ", place());
    let (a, b) = (maps(one), maps(other));
    let names = |maps: &Datasets| maps.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b), "{}: datasets", place());
    for (name, values) in &a {
        let differ = values.1.iter().zip(&b[name].1).filter(|(a, b)| a != b).count();
        assert!(*values == b[name], "{}: {name} {:?}: {differ} values differ", place(), values.0);
    }
    let (a, b) = (findings(one), findings(other));
    assert!(a == b, "{}: summary.json:\n{a:#}\n{b:#}", place());
}
