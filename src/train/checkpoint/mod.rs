//! The whole state of a training in one `.safetensors` file, from which any number of ranks can go on.
//!
//! A checkpoint is written to a temporary name, synced and renamed. It carries a checksum; a damaged one is skipped with a
//! warning, and the one before is taken.

mod learned_from;
mod left_out;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::course::Course;
use crate::comm::Comm;
use crate::config::{Config, TrainingLength, Work};
use crate::cube::Axis;
use crate::durable;
use crate::invalid::Invalid;
use crate::model::{Parameters, Spec};
use crate::preprocess::noise::NoiseModel;

pub use learned_from::{LearnedFrom, Training};
pub use left_out::LeftOut;

/// A trained 3D-CVAE, and what belongs to it of its data.
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
    pub course: Course,
    /// The weights of the best cycle so far, where another is under way.
    pub best: Option<Vec<f32>>,
    pub config: Config,
    /// The pixels that the model is not trained on.
    pub left_out: LeftOut,
    /// The cubes that it is trained on.
    pub learned_from: LearnedFrom,
}

/// The name of the [`Header`] in the file's metadata.
const HEADER: &str = "coreloss";
/// The name of the SHA-256 of the header and the tensors, in their order.
const CHECKSUM: &str = "checksum";

const TENSORS: [&str; 3] = ["parameters", "first_moment", "second_moment"];
/// Of the best cycle so far, where there is one.
const BEST: &str = "best";

/// All of a checkpoint but its tensors, as JSON.
#[derive(Serialize, Deserialize)]
struct Header {
    version: String,
    step: usize,
    spec: Spec,
    energy: Axis,
    mean: Vec<f64>,
    noise: NoiseModel,
    config: Config,
    /// Missing in older files, like those below.
    #[serde(default)]
    left_out: LeftOut,
    #[serde(default)]
    learned_from: LearnedFrom,
    #[serde(default)]
    course: Course,
    #[serde(default)]
    holds_best: bool,
}

impl Checkpoint {
    /// Gives all folds the weights and moments of the first. Rank-local.
    pub fn follow_first_fold(&mut self) {
        let each = self.model.spec.parameters() / self.model.spec.folds();
        let weights = self.model.parameters.values_mut();
        for values in [weights, &mut self.first_moment, &mut self.second_moment] {
            let (first, others) = values.split_at_mut(each);
            others.chunks_mut(each).for_each(|other| other.copy_from_slice(first));
        }
    }

    /// The newest whole checkpoint in `directory`, if there is one.
    ///
    /// # Collective
    /// # Errors
    /// A folder that cannot be read, or that has only damaged checkpoints.
    pub fn newest(comm: &Comm, directory: &Path) -> Result<Option<Checkpoint>> {
        match comm.from_root(|| newest_whole(directory))? {
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

    /// Whether nothing of a training of `length` is left to do. Rank-local.
    pub fn is_finished(&self, length: TrainingLength) -> bool {
        // Older files know of no course.
        self.course.finished || (self.course == Course::default() && self.step >= length.most)
    }

    /// Writes `checkpoints/step-N.safetensors` below `directory`. Rank-local.
    ///
    /// # Errors
    /// A folder that cannot be written, a full disk: the previous checkpoint stays intact.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let folder = directory.join("checkpoints");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("step-{:08}.safetensors", self.step));
        durable::replace(&path, |file| self.write_to(file))
            .context("a checkpoint is lost, the one before is intact: make room or choose another output")
    }

    fn write_to(&self, file: &mut dyn Write) -> Result<()> {
        let mut tensors = vec![self.model.parameters.values(), &self.first_moment[..], &self.second_moment[..]];
        tensors.extend(self.best.as_deref());
        let header = serde_json::to_string(&Header {
            version: env!("CARGO_PKG_VERSION").to_string(),
            step: self.step,
            spec: self.model.spec.clone(),
            energy: self.model.energy.clone(),
            mean: self.model.mean.clone(),
            noise: self.model.noise,
            config: self.config.clone(),
            left_out: self.left_out.clone(),
            learned_from: self.learned_from.clone(),
            course: self.course.clone(),
            holds_best: self.best.is_some(),
        })?;
        file.write_all(&beginning(header, &tensors)?)?;
        for values in tensors {
            file.write_all(&to_bytes(values))?;
        }
        Ok(())
    }

    /// Reads one checkpoint. Rank-local.
    ///
    /// # Errors
    /// A file that is cut short or damaged.
    pub fn read(path: &Path) -> Result<Checkpoint> {
        let name = || format!("the checkpoint {}", path.display());
        let bytes = fs::read(path).with_context(name)?;
        Checkpoint::from_bytes(&bytes).with_context(name)
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
        let read: Header = serde_json::from_str(header)?;
        let names = TENSORS.iter().chain(read.holds_best.then_some(&BEST));
        let parts = names.map(|name| part(name)).collect::<Result<Vec<&[u8]>>>()?;
        ensure!(checksum(header, parts.iter()) == *text(CHECKSUM)?, "it is damaged: its checksum does not hold");
        let header = read;
        header.spec.check()?;
        let count = header.spec.parameters();
        ensure!(
            parts.iter().all(|part| part.len() == 4 * count) && header.mean.len() == header.spec.energy(),
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
            left_out: header.left_out,
            learned_from: header.learned_from,
            course: header.course,
            best: parts.get(TENSORS.len()).map(|part| to_values(part)),
        })
    }
}

/// Removes all checkpoints up to `step` but the last `kept` and the best, the one of lowest loss among `losses` (step, loss).
/// Those of later steps were skipped as damaged, and will be written anew. Rank-local.
///
/// # Errors
/// A folder that cannot be read, a file that cannot be removed.
pub fn remove_old(directory: &Path, step: usize, kept: usize, losses: &[(usize, f64)]) -> Result<()> {
    let mut found = list(&directory.join("checkpoints"))?;
    found.retain(|path| step_of(path).is_some_and(|of| of <= step));
    let loss = |path: &PathBuf| {
        let step = step_of(path)?;
        losses.iter().rfind(|(of, _)| *of == step).map(|(_, loss)| *loss)
    };
    let judged = found.iter().filter_map(|path| Some((path, loss(path)?)));
    let best = judged.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(path, _)| path);
    for path in found.iter().rev().skip(kept).filter(|&path| Some(path) != best) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// The step in the name of a checkpoint; none for another file. Rank-local.
pub fn step_of(path: &Path) -> Option<usize> {
    let name = path.file_stem()?.to_str()?;
    name.strip_prefix("step-")?.parse().ok()
}

/// All of a checkpoint's file before its tensors.
///
/// The crate's own writers would hold a second copy of everything, or choose the temporary name themselves.
fn beginning(header: String, tensors: &[&[f32]]) -> Result<Vec<u8>> {
    let checksum = checksum(&header, tensors.iter().map(|values| to_bytes(values)));
    let texts = [(HEADER, header), (CHECKSUM, checksum)];
    let texts = texts.map(|(name, text)| (name.to_string(), text)).into();
    let mut end = 0;
    let mut infos = Vec::new();
    for (name, values) in TENSORS.iter().chain([&BEST]).zip(tensors) {
        let start = end;
        end += 4 * values.len();
        let info = TensorInfo { dtype: Dtype::F32, shape: vec![values.len()], data_offsets: (start, end) };
        infos.push((name.to_string(), info));
    }
    let mut description = serde_json::to_vec(&Metadata::new(Some(texts), infos)?)?;
    description.resize(description.len().next_multiple_of(8), b' ');
    let mut bytes = (description.len() as u64).to_le_bytes().to_vec();
    bytes.extend(description);
    Ok(bytes)
}

/// The newest checkpoint that is whole; damaged ones are skipped with a warning.
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
    ensure!(found.is_empty(), "no checkpoint in {} is whole: use --fresh to start anew", folder.display());
    Ok(None)
}

/// Checkpoints in `folder`, oldest first.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn checksum(header: &str, parts: impl Iterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hash = Sha256::new_with_prefix(header);
    parts.for_each(|part| hash.update(part));
    format!("{:x}", hash.finalize())
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * values.len());
    for value in values {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

fn to_values(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
