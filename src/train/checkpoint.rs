//! The whole state of a training in one `.safetensors` file, which any number of ranks can go on from.
//!
//! A checkpoint goes to a temporary name, is synced and renamed; its values carry a checksum, and a damaged one is
//! passed over for the one before, said aloud.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::comm::Comm;
use crate::config::{Config, Invalid, Work};
use crate::cube::Axis;
use crate::model::{Parameters, Spec};
use crate::preprocess::noise::NoiseModel;

/// A trained 3D-CVAE and what it needs to know of its data.
pub struct Model {
    pub spec: Spec,
    pub energy: Axis,
    /// Mean spectrum `[energy]`, sum 1.
    pub mean: Vec<f64>,
    pub noise: NoiseModel,
    pub parameters: Parameters,
}

/// The state between two steps.
pub struct Checkpoint {
    pub model: Model,
    pub first_moment: Vec<f32>,
    pub second_moment: Vec<f32>,
    /// Steps done.
    pub step: usize,
    pub config: Config,
}

/// What is no tensor, as JSON.
const HEADER: &str = "coreloss";
/// SHA-256 of that JSON and of the tensors in their order.
const CHECKSUM: &str = "checksum";

const TENSORS: [&str; 3] = ["parameters", "first_moment", "second_moment"];

/// What is no tensor.
#[derive(Serialize, Deserialize)]
struct Header {
    version: String,
    step: usize,
    spec: Spec,
    energy: Axis,
    mean: Vec<f64>,
    noise: NoiseModel,
    config: Config,
}

impl Checkpoint {
    /// The newest whole checkpoint in `directory`, if there is one.
    ///
    /// # Collective
    /// # Errors
    /// A folder that cannot be read; only damaged checkpoints.
    pub fn newest(comm: &Comm, directory: &Path) -> Result<Option<Checkpoint>> {
        let chosen: Result<Option<PathBuf>> = if comm.is_root() {
            newest_whole(directory)
        } else {
            Ok(None)
        };
        let chosen = comm.agree(chosen)?;
        match comm.broadcast(Some(chosen)) {
            Some(path) => comm.agree(Checkpoint::read(&path)).map(Some),
            None => Ok(None),
        }
    }

    /// Refuses to go on with another model or other data than those of the checkpoint. Rank-local.
    ///
    /// # Errors
    /// [`Invalid`], with the keys that differ.
    pub fn check(&self, config: &Config, energy: &Axis) -> Result<()> {
        let theirs = self.config.with_neutral_keys_of(config, Work::Training);
        let differences = theirs.differences(config);
        if !differences.is_empty() {
            return Err(Invalid(format!(
                "the output holds a training with another configuration ({}): choose another output, or --fresh to \
                 start anew",
                differences.join("; ")
            ))
            .into());
        }
        ensure!(
            self.model.energy == *energy,
            "the checkpoint was trained on {} channels from {:.2} eV and the cubes have {} from {:.2} eV: the files have \
             changed; use --fresh to start anew",
            self.model.energy.size,
            self.model.energy.offset,
            energy.size,
            energy.offset
        );
        Ok(())
    }

    /// Writes `checkpoints/step-N.safetensors` below `directory`. Rank-local.
    ///
    /// # Errors
    /// A folder that cannot be written, a full disk: the checkpoint before is left as it was.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let folder = directory.join("checkpoints");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("step-{:08}.safetensors", self.step));
        let partial = path.with_extension("safetensors.partial");
        self.write_file(&partial)
            .and_then(|()| Ok(fs::rename(&partial, &path)?))
            .and_then(|()| Ok(File::open(&folder)?.sync_all()?))
            .with_context(|| {
                format!(
                    "cannot write the checkpoint {}: make room or choose another output; the one before is intact",
                    path.display()
                )
            })?;
        Ok(())
    }

    fn write_file(&self, path: &Path) -> Result<()> {
        let tensors = [
            self.model.parameters.values(),
            &self.first_moment[..],
            &self.second_moment[..],
        ];
        let header = serde_json::to_string(&Header {
            version: env!("CARGO_PKG_VERSION").to_string(),
            step: self.step,
            spec: self.model.spec.clone(),
            energy: self.model.energy.clone(),
            mean: self.model.mean.clone(),
            noise: self.model.noise,
            config: self.config.clone(),
        })?;
        let mut file = File::create(path)?;
        file.write_all(&beginning(header, tensors)?)?;
        for values in tensors {
            file.write_all(&to_bytes(values))?;
        }
        file.sync_all()?;
        Ok(())
    }

    /// Reads one checkpoint. Rank-local.
    ///
    /// # Errors
    /// A file that is cut short or damaged.
    pub fn read(path: &Path) -> Result<Checkpoint> {
        let place = || format!("the checkpoint {}", path.display());
        let bytes = fs::read(path).with_context(place)?;
        Checkpoint::from_bytes(&bytes).with_context(place)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Checkpoint> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let text = |name: &str| {
            let texts = metadata.metadata().as_ref();
            let text = texts.and_then(|texts| texts.get(name));
            text.context("it is none of coreloss, or damaged")
        };
        let header = text(HEADER)?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let part = |name: &str| -> Result<&[u8]> { Ok(tensors.tensor(name)?.data()) };
        let [parameters, first_moment, second_moment] = TENSORS;
        let parts = [part(parameters)?, part(first_moment)?, part(second_moment)?];
        ensure!(
            checksum(header, parts.into_iter()) == *text(CHECKSUM)?,
            "it is damaged: its checksum does not hold"
        );
        let header: Header = serde_json::from_str(header)?;
        header.spec.check()?;
        let count = header.spec.parameters();
        ensure!(
            parts.iter().all(|part| part.len() == 4 * count)
                && header.mean.len() == header.spec.energy,
            "it does not hold the model that it names"
        );
        Ok(Checkpoint {
            model: Model {
                parameters: Parameters::from_values(&to_values(parts[0])),
                spec: header.spec,
                energy: header.energy,
                mean: header.mean,
                noise: header.noise,
            },
            first_moment: to_values(parts[1]),
            second_moment: to_values(parts[2]),
            step: header.step,
            config: header.config,
        })
    }
}

/// Removes all checkpoints below `directory` but the last `kept` and the best: that of the lowest of `losses`, which are of
/// steps. Rank-local.
///
/// # Errors
/// A folder that cannot be read, a file that cannot be removed.
pub fn remove_old(directory: &Path, kept: usize, losses: &[(usize, f64)]) -> Result<()> {
    let found = list(&directory.join("checkpoints"))?;
    let loss = |path: &PathBuf| {
        let step = step(path)?;
        let found = losses.iter().rfind(|(of, _)| *of == step)?;
        Some((path.clone(), found.1))
    };
    let best = found.iter().filter_map(loss);
    let best = best.min_by(|a, b| a.1.total_cmp(&b.1));
    let is_best = |path: &PathBuf| best.as_ref().is_some_and(|(best, _)| best == path);
    for path in found.iter().rev().skip(kept).filter(|path| !is_best(path)) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// The step that the name of a checkpoint tells.
fn step(path: &Path) -> Option<usize> {
    let name = path.file_stem()?.to_str()?;
    name.strip_prefix("step-")?.parse().ok()
}

/// All of a checkpoint's file before its tensors.
///
/// By hand: the crate would hold a second copy of everything, or write to a temporary name of its own.
fn beginning(header: String, tensors: [&[f32]; 3]) -> Result<Vec<u8>> {
    let checksum = checksum(&header, tensors.iter().map(|values| to_bytes(values)));
    let texts = [(HEADER, header), (CHECKSUM, checksum)];
    let texts = texts.map(|(name, text)| (name.to_string(), text)).into();
    let mut end = 0;
    let mut places = Vec::new();
    for (name, values) in TENSORS.iter().zip(tensors) {
        let start = end;
        end += 4 * values.len();
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: vec![values.len()],
            data_offsets: (start, end),
        };
        places.push((name.to_string(), info));
    }
    let mut description = serde_json::to_vec(&Metadata::new(Some(texts), places)?)?;
    description.resize(description.len().next_multiple_of(8), b' ');
    let mut bytes = (description.len() as u64).to_le_bytes().to_vec();
    bytes.extend(description);
    Ok(bytes)
}

/// The newest checkpoint that reads, passing over damaged ones with a warning.
fn newest_whole(directory: &Path) -> Result<Option<PathBuf>> {
    let folder = directory.join("checkpoints");
    if !folder.exists() {
        return Ok(None);
    }
    let found = list(&folder)?;
    for path in found.iter().rev() {
        match Checkpoint::read(path) {
            Ok(_) => return Ok(Some(path.clone())),
            Err(error) => log::warn!("{error:#}; trying the one before"),
        }
    }
    ensure!(
        found.is_empty(),
        "no checkpoint in {} is whole: use --fresh to start anew",
        folder.display()
    );
    Ok(None)
}

/// Checkpoints in `folder`, oldest first.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn checksum(header: &str, parts: impl Iterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hash = Sha256::new_with_prefix(header);
    parts.for_each(|part| hash.update(part));
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * values.len());
    for value in values {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

fn to_values(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::fuzz;
    use crate::model::Layer;

    fn checkpoint(step: usize) -> Checkpoint {
        let spec = Spec::new(&crate::config::Model::default(), 32).unwrap();
        let count = spec.parameters();
        Checkpoint {
            model: Model {
                energy: Axis {
                    name: "Energy loss".into(),
                    units: "eV".into(),
                    scale: 0.1,
                    offset: 400.3,
                    size: 32,
                    navigate: false,
                },
                mean: vec![1.0 / 32.0; 32],
                noise: NoiseModel::with_gain(1.3),
                parameters: Parameters::initial(&spec, &[1.0 / 32.0; 32], step as u64),
                spec,
            },
            first_moment: vec![0.25; count],
            second_moment: vec![1e-9; count],
            step,
            config: Config::default(),
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
        assert_eq!(
            read.model.parameters.values(),
            written.model.parameters.values()
        );
        assert_eq!(read.second_moment, written.second_moment);
        assert_eq!(read.model.energy, written.model.energy);
        assert_eq!(read.config, written.config);
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        for step in 1..=3 {
            checkpoint(step).write(folder.path()).unwrap();
            remove_old(folder.path(), 2, &[]).unwrap();
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
            remove_old(folder.path(), 2, &known).unwrap();
        }
        let files = list(&folder.path().join("checkpoints")).unwrap();
        let steps: Vec<_> = files.iter().filter_map(|path| step(path)).collect();
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
        let places = (0..described)
            .step_by(61)
            .chain([described, bytes.len() - 1]);
        for (i, place) in places.enumerate() {
            let mut copy = bytes.clone();
            copy[place] ^= 1 << (i % 8);
            fs::write(&damaged, &copy).unwrap();
            let read = Checkpoint::read(&damaged);
            assert!(read.is_err(), "bit {} of byte {place}", i % 8);
        }
    }

    #[test]
    fn fuzz_checkpoints() {
        let spec = Spec {
            patch: [4, 4],
            energy: 16,
            latent: 1,
            hidden: 1,
            encoder: vec![Layer {
                out: 1,
                kernel: [1; 3],
                stride: [4, 4, 16],
                pad: [0; 3],
            }],
        };
        let count = spec.parameters();
        let mut small = checkpoint(7);
        small.model.parameters = Parameters::initial(&spec, &[1.0 / 16.0; 16], 1);
        small.model.mean = vec![1.0 / 16.0; 16];
        small.model.spec = spec;
        small.first_moment = vec![0.25; count];
        small.second_moment = vec![1e-9; count];
        let folder = tempfile::tempdir().unwrap();
        small.write(folder.path()).unwrap();
        let path = newest_whole(folder.path()).unwrap().unwrap();
        let whole = fs::read(path).unwrap();
        fuzz(
            vec![whole.clone()],
            &["__metadata__", "parameters"],
            |bytes| Checkpoint::from_bytes(bytes).map(|_| ()),
        );
        // And with a checksum that holds.
        let (_, metadata) = SafeTensors::read_metadata(&whole).unwrap();
        let header = metadata.metadata().as_ref().unwrap()[HEADER].clone();
        let values = [
            small.model.parameters.values(),
            &small.first_moment,
            &small.second_moment,
        ];
        let tokens = ["[", "{", "null", "-1", "1e308", "18446744073709551615", ","];
        fuzz(vec![header.into_bytes()], &tokens, |bytes| {
            let header = String::from_utf8_lossy(bytes).into_owned();
            let mut file = beginning(header, values)?;
            values
                .iter()
                .for_each(|values| file.extend(to_bytes(values)));
            Checkpoint::from_bytes(&file).map(|_| ())
        });
    }

    #[test]
    fn another_learning_rate_is_refused_by_name() {
        let held = checkpoint(1);
        let mut config = Config::default();
        config.io.memory_mib = 4096;
        held.check(&config, &held.model.energy).unwrap();
        config.train.learning_rate = 1.0;
        let message = held
            .check(&config, &held.model.energy)
            .unwrap_err()
            .to_string();
        assert!(message.contains("train.learning_rate"), "{message}");
    }
}
