//! `coreloss inject`: every kind of anomaly in a small cube, and a control that must not change.

use std::fs;
use std::path::{Path, PathBuf};

use coreloss::archive::{Options, Reader};
use ndarray::{Array2, Array3, ArrayView1, s};

use crate::common::case::{LIMIT, RANKS};
use crate::common::cube::{counts, write_hspy};
use crate::common::result::datasets;
use crate::common::{folder, mpirun};

const SHAPE: [usize; 3] = [8, 9, 400];
/// Channels of 1 eV from 420 eV; the edge begins at 621 eV.
const ONSET: usize = 201;
const EDGE: &str = "range_ev: [615, 810], background_ev: [540, 612]";
/// The copies: name, kind and amount of the anomaly, and further keys.
const COPIES: [(&str, &str, f64, &str); 8] = [
    ("control", "shift", 0.0, ""),
    ("shift", "shift", 3.2, ""),
    ("between", "shift", 1.5, ", interpolate: true"),
    ("scale", "scale", 0.8, ""),
    ("broaden", "broaden", 12.0, ""),
    ("ratio", "ratio", 0.8, ", split_ev: 660"),
    ("slope", "slope", 0.5, ""),
    ("spike", "spike", 5000.0, ""),
];

fn read(path: &Path) -> (Reader, Array3<f32>) {
    let reader = Reader::open(path, &Options::default()).expect("a copy opens");
    let [rows, columns, channels] = reader.info().shape();
    let values = reader.read(0..rows, 0..columns, 0..channels);
    (reader, values.expect("a copy can be read"))
}

fn truth(path: &Path) -> Array2<u8> {
    let maps = datasets(path);
    let (shape, bits) = maps.values().next().expect("a map");
    let labels = bits.iter().map(|&bits| f64::from_bits(bits) as u8).collect();
    Array2::from_shape_vec((shape[0], shape[1]), labels).expect("a label for each pixel")
}

/// Writes a cube with an edge and a beam energy, and the configuration of all copies.
fn prepare(folder: &Path) -> PathBuf {
    let source = folder.join("cube.hspy");
    write_hspy(&source, &counts(SHAPE, 4));
    let file = hdf5::File::open_rw(&source).expect("a cube opens");
    let place = "Experiments/spectra/metadata/Acquisition_instrument/TEM";
    let group = file.create_group(place).expect("groups");
    let energy = group.new_attr::<f64>().create("beam_energy");
    let written = energy.and_then(|energy| energy.write_scalar(&200.0));
    written.expect("an attribute");
    drop((group, file));
    let mut yaml = "inject:\n  dir: out\n  input: cube.hspy\n  cubes:\n".to_string();
    for (name, kind, amount, more) in COPIES {
        yaml += &format!(
            "    - name: {name}\n      anomalies:\n        - {{kind: {kind}, amount: {amount}, shape: pixel, \
             discs: 6, {EDGE}{more}}}\n"
        );
    }
    fs::write(folder.join("inject.yaml"), yaml).expect("a file");
    source
}

#[test]
fn every_kind_changes_its_own_pixels_and_a_control_none() {
    let folder = folder("kinds");
    let source = prepare(&folder);
    let (_, original) = read(&source);
    let config = folder.join("inject.yaml");
    let mut first = None;
    for ranks in RANKS {
        let sets = [
            format!("inject.input={}", source.display()),
            format!("inject.dir={}", folder.join(ranks.to_string()).display()),
        ];
        let mut arguments = vec!["inject", config.to_str().expect("text")];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        let ended = mpirun(ranks, &arguments, LIMIT);
        ended.succeeded().without_panic();
        let copies = COPIES.map(|(name, ..)| {
            let place = |ending: &str| folder.join(format!("{ranks}/{name}{ending}"));
            (datasets(&place(".hspy")), datasets(&place(".truth.hspy")))
        });
        assert!(*first.get_or_insert_with(|| copies.clone()) == copies, "{ranks} ranks");
    }
    for (name, kind, amount, _) in COPIES {
        let path = folder.join(format!("1/{name}.hspy"));
        let (reader, copy) = read(&path);
        assert_eq!(reader.microscope().beam_energy_kev, Some(200.0), "{name}");
        let truth = truth(&path.with_extension("truth.hspy"));
        assert_eq!(truth.iter().filter(|&&label| label == 1).count(), 6, "{name}");
        assert!(truth.iter().all(|&label| label <= 1), "{name}");
        let mut gained = 0.0;
        for ((y, x), &label) in truth.indexed_iter() {
            let (before, after) = (original.slice(s![y, x, ..]), copy.slice(s![y, x, ..]));
            let is_same = before == after;
            assert_eq!(is_same, label == 0 || amount == 0.0, "{name}: y {y}, x {x}");
            if !is_same {
                check(kind, amount, before, after);
                gained += f64::from(after.slice(s![ONSET..ONSET + 30]).sum());
                gained -= f64::from(before.slice(s![ONSET..ONSET + 30]).sum());
            }
        }
        // A later or broader edge has fewer counts at the onset; so has a steeper background.
        let lower = matches!(kind, "shift" | "broaden" | "slope") && amount > 0.0;
        assert!(if lower { gained < 0.0 } else { gained >= 0.0 }, "{name}: {gained}");
    }
}

/// Checks that a kind of anomaly changed a spectrum `[energy]` only as it may.
fn check(kind: &str, amount: f64, before: ArrayView1<f32>, after: ArrayView1<f32>) {
    let changed: Vec<usize> = (0..before.len()).filter(|&e| before[e] != after[e]).collect();
    let gained = |channels: std::ops::Range<usize>| channels.map(|e| f64::from(after[e] - before[e])).sum::<f64>();
    // `slope` changes the spectrum from its background window on, all other kinds the edge only.
    let start = if kind == "slope" { 120 } else { ONSET - 6 };
    assert!(changed[0] >= start, "{kind}: channel {}", changed[0]);
    match kind {
        "spike" => {
            assert_eq!(changed.len(), 1);
            assert!((gained(changed[0]..changed[0] + 1) - amount).abs() < 0.1);
        }
        // The edge has 150 counts at its onset and falls by a factor e in 100 channels.
        "scale" => assert!((3000.0..15_000.0).contains(&gained(ONSET..391)), "{}", gained(ONSET..391)),
        "ratio" => assert!(gained(ONSET..235) > 5.0 * gained(246..391).abs()),
        "slope" => assert!(after.iter().zip(before).all(|(after, before)| after <= before)),
        _ => (),
    }
}

#[test]
fn what_cannot_be_injected_is_refused_in_words() {
    let folder = folder("refused");
    let source = prepare(&folder);
    for (anomaly, words) in [
        ("{kind: oxygen, amount: -0.3, edge_ev: 532}", "give `scale`"),
        ("{kind: scale, amount: 1, shape: pixel, edge_ev: 1000}", "no edge within 15 eV of `edge_ev` 1000"),
        (
            "{kind: scale, amount: 1, shape: pixel, range_ev: [3000, 3100], background_ev: [2000, 2100]}",
            "`range_ev` [3000.0, 3100.0] holds 0 channels",
        ),
    ] {
        let yaml = format!(
            "inject:\n  dir: {}\n  input: {}\n  cubes:\n    - {{name: a, anomalies: [{anomaly}]}}\n",
            folder.join("out").display(),
            source.display()
        );
        let config = folder.join("refused.yaml");
        fs::write(&config, yaml).expect("a file");
        let ended = mpirun(2, &["inject", config.to_str().expect("text")], LIMIT);
        assert_ne!(ended.code(), 0, "{}", ended.dump());
        ended.says(words).without_panic();
        assert!(!folder.join("out/a.hspy").exists());
    }
}

#[test]
fn a_measured_cube_is_never_written_over() {
    let folder = folder("over");
    let source = prepare(&folder);
    let before = fs::read(&source).expect("a cube");
    fs::write(folder.join("notes.hspy"), "no copy").expect("a file");
    let inject = |input: &str, name: &str, ranks: usize| {
        let yaml = format!(
            "inject:\n  dir: {0}\n  input: {0}/{input}\n  cubes:\n    - {{name: {name}, anomalies: [{{kind: scale, \
             amount: 0.8, shape: pixel, {EDGE}}}]}}\n",
            folder.display()
        );
        let config = folder.join("over.yaml");
        fs::write(&config, yaml).expect("a file");
        mpirun(ranks, &["inject", config.to_str().expect("text")], LIMIT)
    };
    for ranks in RANKS {
        let told = inject("cube.hspy", "cube", ranks);
        told.exits(2).says("written over itself").without_panic();
        let told = inject("cube.hspy", "notes", ranks);
        told.exits(2).says("is no copy with anomalies").without_panic();
        // An existing copy is made anew.
        inject("cube.hspy", "copy", ranks).succeeded();
        let told = inject("cubes.hspy", "copy", ranks);
        told.exits(2).says("cubes.hspy: no such file").without_panic();
    }
    assert!(before == fs::read(&source).expect("a cube"));
}
