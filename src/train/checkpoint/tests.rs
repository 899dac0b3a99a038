//! Whole checkpoints read back to the bit; damaged ones are refused.

use super::*;
use crate::config::Auto;
use crate::fuzz::fuzz;
use crate::model::{Layer, Patchwise};

fn checkpoint(step: usize) -> Checkpoint {
    let spec = Spec::new(&crate::config::Model::default(), 32).unwrap();
    let count = spec.parameters();
    Checkpoint {
        model: Model {
            energy: Axis::energy_loss(400.3, 0.1, 32),
            mean: vec![1.0 / 32.0; 32],
            noise: NoiseModel::with_gain(1.3),
            parameters: Parameters::initial(&spec, &[1.0 / 32.0; 32], step as u64),
            spec,
        },
        first_moment: vec![0.25; count],
        second_moment: vec![1e-9; count],
        step,
        course: Course::default(),
        best: (step % 2 == 1).then(|| vec![0.5; count]),
        config: Config::default(),
        left_out: LeftOut::default(),
        learned_from: LearnedFrom::default(),
    }
}

#[test]
fn a_checkpoint_reads_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let written = checkpoint(7);
    written.write(folder.path()).unwrap();
    let path = newest_whole(folder.path()).unwrap().unwrap();
    let read = Checkpoint::read(&path).unwrap();
    assert_eq!(read.step, 7);
    assert_eq!(read.model.parameters.values(), written.model.parameters.values());
    assert_eq!(read.second_moment, written.second_moment);
    assert_eq!((read.course, read.best), (written.course, written.best));
    assert_eq!(read.model.energy, written.model.energy);
    assert_eq!(read.config, written.config);
    assert_eq!(read.left_out, written.left_out);
}

#[test]
fn folds_follow_the_first() {
    let mut written = checkpoint(0);
    if let Spec::Blind(spec) = &mut written.model.spec {
        spec.folds = 4;
    }
    let each = written.model.spec.parameters() / 4;
    let values: Vec<f32> = (0..4 * each).map(|i| i as f32).collect();
    written.model.parameters = Parameters::from_values(&values);
    (written.first_moment, written.second_moment) = (values.clone(), values.clone());
    written.follow_first_fold();
    for found in [written.model.parameters.values(), &written.first_moment, &written.second_moment] {
        assert!(found.chunks(each).all(|fold| fold == &values[..each]));
    }
}

#[test]
fn an_older_checkpoint_leaves_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(6).write(folder.path()).unwrap();
    let path = newest_whole(folder.path()).unwrap().unwrap();
    let bytes = fs::read(&path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let header = metadata.metadata().as_ref().unwrap()[HEADER].clone();
    let mut header: serde_json::Value = serde_json::from_str(&header).unwrap();
    for missing in ["left_out", "course", "holds_best"] {
        assert!(header.as_object_mut().unwrap().remove(missing).is_some());
    }
    let written = checkpoint(6);
    let values = [written.model.parameters.values(), &written.first_moment, &written.second_moment];
    let mut before = beginning(header.to_string(), &values).unwrap();
    values.iter().for_each(|values| before.extend(to_bytes(values)));
    let read = Checkpoint::from_bytes(&before).unwrap();
    read.left_out.check(&LeftOut::default()).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_skipped_and_old_ones_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    for step in 1..=3 {
        checkpoint(step).write(folder.path()).unwrap();
        remove_old(folder.path(), step, 2, &[]).unwrap();
    }
    let files = list(&folder.path().join("checkpoints")).unwrap();
    assert_eq!(files.len(), 2);
    let mut bytes = fs::read(&files[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&files[1], &bytes).unwrap();
    assert_eq!(newest_whole(folder.path()).unwrap(), Some(files[0].clone()));
    fs::write(&files[0], &bytes[..100]).unwrap();
    assert!(newest_whole(folder.path()).is_err());
}

#[test]
fn the_best_is_kept_beside_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let losses = [(1, 0.5), (2, 0.3), (3, 0.4), (4, 0.6), (6, 0.3001)];
    for step in 1..=6 {
        checkpoint(step).write(folder.path()).unwrap();
        let known: Vec<_> = losses.into_iter().filter(|loss| loss.0 <= step).collect();
        remove_old(folder.path(), step, 2, &known).unwrap();
    }
    let files = list(&folder.path().join("checkpoints")).unwrap();
    let steps: Vec<_> = files.iter().filter_map(|path| step_of(path)).collect();
    assert_eq!(steps, [2, 5, 6]);
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut whole = checkpoint(7);
    // A small model: its description is most of the file.
    whole.config.archive.inputs = crate::config::OneOrMany::One("a.hspy".into());
    whole.write(folder.path()).unwrap();
    let path = newest_whole(folder.path()).unwrap().unwrap();
    let bytes = fs::read(&path).unwrap();
    let described = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let damaged = folder.path().join("damaged.safetensors");
    let offsets = (0..described).step_by(61).chain([described, bytes.len() - 1]);
    for (i, offset) in offsets.enumerate() {
        let mut copy = bytes.clone();
        copy[offset] ^= 1 << (i % 8);
        fs::write(&damaged, &copy).unwrap();
        let read = Checkpoint::read(&damaged);
        assert!(read.is_err(), "bit {} of byte {offset}", i % 8);
    }
}

#[test]
fn fuzz_checkpoints() {
    let spec = Spec::Patchwise(Patchwise {
        patch: [4, 4],
        energy: 16,
        latent: 1,
        hidden: 1,
        encoder: vec![Layer { out: 1, kernel: [1; 3], stride: [4, 4, 16], pad: [0; 3] }],
    });
    let count = spec.parameters();
    let mut small = checkpoint(7);
    small.model.parameters = Parameters::initial(&spec, &[1.0 / 16.0; 16], 1);
    small.model.mean = vec![1.0 / 16.0; 16];
    small.model.spec = spec;
    small.first_moment = vec![0.25; count];
    small.second_moment = vec![1e-9; count];
    small.best = None;
    let folder = tempfile::tempdir().unwrap();
    small.write(folder.path()).unwrap();
    let path = newest_whole(folder.path()).unwrap().unwrap();
    let whole = fs::read(path).unwrap();
    fuzz(vec![whole.clone()], &["__metadata__", "parameters"], |bytes| Checkpoint::from_bytes(bytes).map(|_| ()));
    // And with a checksum that holds.
    let (_, metadata) = SafeTensors::read_metadata(&whole).unwrap();
    let header = metadata.metadata().as_ref().unwrap()[HEADER].clone();
    let values = [small.model.parameters.values(), &small.first_moment, &small.second_moment];
    let tokens = ["[", "{", "null", "-1", "1e308", "18446744073709551615", ","];
    fuzz(vec![header.into_bytes()], &tokens, |bytes| {
        let header = String::from_utf8_lossy(bytes).into_owned();
        let mut file = beginning(header, &values)?;
        values.iter().for_each(|values| file.extend(to_bytes(values)));
        Checkpoint::from_bytes(&file).map(|_| ())
    });
}

#[test]
fn another_learning_rate_is_refused_by_name() {
    let held = checkpoint(1);
    let mut config = Config::default();
    config.io.memory_mib = 4096;
    held.check(&config, &held.model.energy).unwrap();
    config.train.learning_rate = Auto::Given(1.0);
    let message = held.check(&config, &held.model.energy).unwrap_err().to_string();
    assert!(message.contains("train.learning_rate"), "{message}");
}
