//! The whole state of a training in one `.safetensors` file, which any number of ranks can go on from.
//!
//! A checkpoint goes to a temporary name, is synced and renamed; its values carry a checksum, and a damaged one is
//! passed over for the one before, said aloud.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::comm::Comm;
use crate::config::{Config, Invalid};
use crate::cube::Axis;
use crate::model::{Parameters, Spec};
use crate::preprocess::noise::NoiseModel;

/// Checkpoints that are kept: the last, and one in case it is damaged.
const KEPT: usize = 2;

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

/// What is no tensor.
#[derive(Serialize, Deserialize)]
struct Header {
    version: String,
    checksum: String,
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
        let mut theirs = self.config.clone();
        // These may change: where results go, how they are shared out and what is done with the model later.
        theirs.output = config.output.clone();
        theirs.io = config.io.clone();
        theirs.comm = config.comm.clone();
        theirs.pca = config.pca.clone();
        theirs.score = config.score.clone();
        theirs.simulate = config.simulate.clone();
        theirs.preprocess.thickness = config.preprocess.thickness;
        theirs.survey = config.survey.clone();
        theirs.train.checkpoint_epochs = config.train.checkpoint_epochs;
        theirs.train.device = config.train.device;
        if config.archive.train_inputs.is_some() {
            theirs.archive.inputs = config.archive.inputs.clone();
        }
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

    /// Writes `checkpoints/step-N.safetensors` below `directory` and removes those that are too old. Rank-local.
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
        let mut older = list(&folder)?;
        older.retain(|other| *other < path);
        for path in older.iter().rev().skip(KEPT - 1) {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    fn write_file(&self, path: &Path) -> Result<()> {
        let tensors = [
            ("parameters", self.model.parameters.values()),
            ("first_moment", &self.first_moment[..]),
            ("second_moment", &self.second_moment[..]),
        ];
        let header = Header {
            version: env!("CARGO_PKG_VERSION").to_string(),
            checksum: checksum(tensors.iter().map(|(_, values)| to_bytes(values))),
            step: self.step,
            spec: self.model.spec.clone(),
            energy: self.model.energy.clone(),
            mean: self.model.mean.clone(),
            noise: self.model.noise,
            config: self.config.clone(),
        };
        let metadata = HashMap::from([("coreloss".to_string(), serde_json::to_string(&header)?)]);
        // By hand: the crate would hold a second copy of everything, or write to a temporary name of its own.
        let mut end = 0;
        let places = tensors.map(|(name, values)| {
            let start = end;
            end += 4 * values.len();
            let info = TensorInfo {
                dtype: Dtype::F32,
                shape: vec![values.len()],
                data_offsets: (start, end),
            };
            (name.to_string(), info)
        });
        let mut description = serde_json::to_vec(&Metadata::new(Some(metadata), places.into())?)?;
        description.resize(description.len().next_multiple_of(8), b' ');
        let mut file = File::create(path)?;
        file.write_all(&(description.len() as u64).to_le_bytes())?;
        file.write_all(&description)?;
        for (_, values) in tensors {
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
        let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(place)?;
        let header = metadata
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get("coreloss"))
            .with_context(|| format!("{} is none of coreloss", place()))?;
        let header: Header = serde_json::from_str(header).with_context(place)?;
        let tensors = SafeTensors::deserialize(&bytes).with_context(place)?;
        let part =
            |name: &str| -> Result<&[u8]> { Ok(tensors.tensor(name).with_context(place)?.data()) };
        let parts = [
            part("parameters")?,
            part("first_moment")?,
            part("second_moment")?,
        ];
        if checksum(parts.into_iter()) != header.checksum {
            bail!("{} is damaged: its checksum does not hold", place());
        }
        header.spec.check().with_context(place)?;
        let count = header.spec.parameters();
        ensure!(
            parts.iter().all(|part| part.len() == 4 * count)
                && header.mean.len() == header.spec.energy,
            "{} does not hold the model that it names",
            place()
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

fn checksum(parts: impl Iterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hash = Sha256::new();
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
        }
        let files = list(&folder.path().join("checkpoints")).unwrap();
        assert_eq!(files.len(), KEPT);
        let mut bytes = fs::read(&files[1]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&files[1], &bytes).unwrap();
        assert_eq!(newest_whole(folder.path()).unwrap(), Some(files[0].clone()));
        fs::write(&files[0], &bytes[..100]).unwrap();
        assert!(newest_whole(folder.path()).is_err());
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
