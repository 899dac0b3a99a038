//! What training tells: a line of `metrics.jsonl` for each step and epoch, a progress bar on a terminal, else log lines.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::comm::Comm;
use crate::config::TrainingLength;
use crate::durable;

/// Between two log lines where there is no terminal to draw a bar on.
const PAUSE: Duration = Duration::from_secs(10);

/// One step, as `metrics.jsonl` holds it.
#[derive(Clone, Debug, Serialize)]
pub struct StepLine {
    pub step: usize,
    /// Of the whole training.
    pub steps: usize,
    pub epoch: usize,
    pub loss: f64,
    pub reconstruction: f64,
    pub kl: f64,
    pub kl_weight: f64,
    pub grad_norm: f64,
    pub learning_rate: f64,
    pub patches_per_s: f64,
}

/// One epoch, as `metrics.jsonl` holds it.
#[derive(Clone, Debug, Serialize)]
pub struct EpochLine {
    pub epoch: usize,
    pub step: usize,
    /// Mean loss of the epoch's steps.
    pub train: f64,
    /// Mean loss of the validation patches.
    pub validation: Option<f64>,
}

/// Root writes; the other ranks hold an empty one.
pub struct Log {
    root: Option<Root>,
}

struct Root {
    path: PathBuf,
    file: BufWriter<File>,
    /// Steps at which epochs ended, with the loss that tells how good the model was.
    epochs: Vec<(usize, f64)>,
    bar: ProgressBar,
    steps: usize,
    told: Instant,
    terminal: bool,
    /// Why a step's line could not be written; [`Log::flush`] tells, where the ranks agree.
    failed: Option<anyhow::Error>,
}

impl Log {
    /// Goes on with `metrics.jsonl` after `step`: what an interrupted run wrote beyond it is taken off.
    ///
    /// Also gives, on root, the losses of the steps of the epoch that was interrupted. Rank-local.
    ///
    /// # Errors
    /// A history that cannot be read, an output that cannot be written.
    pub fn open(comm: &Comm, directory: &Path, step: usize, length: TrainingLength) -> Result<(Log, Vec<f64>)> {
        if !comm.is_root() {
            return Ok((Log { root: None }, Vec::new()));
        }
        let path = directory.join("metrics.jsonl");
        let kept = kept(&path, step)?;
        let epoch_began = step - step % length.steps_per_epoch;
        let losses = kept.lines().filter_map(|line| loss_after(line, epoch_began));
        let losses = losses.collect();
        // A run that is killed again at once keeps its history.
        durable::write(&path, &kept).with_context(|| unwritable(&path))?;
        let file = File::options().append(true).open(&path);
        let file = BufWriter::new(file.with_context(|| unwritable(&path))?);
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(length.steps as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("train {bar:30} {pos}/{len} steps, {eta} left, {msg}")
            .context("the progress bar's template is wrong")?;
        bar.set_style(style);
        bar.set_position(step as u64);
        let log = Log {
            root: Some(Root {
                path,
                file,
                epochs: kept.lines().filter_map(epoch_of).collect(),
                bar,
                steps: length.steps,
                told: Instant::now(),
                terminal,
                failed: None,
            }),
        };
        Ok((log, losses))
    }

    /// Adds the line of a step. Rank-local; [`Log::flush`] tells what could not be written.
    pub fn step(&mut self, line: &StepLine) {
        let Some(root) = &mut self.root else {
            return;
        };
        if let Err(error) = root.write(line) {
            root.failed.get_or_insert(error);
        }
        root.bar.set_position(line.step as u64);
        root.bar.set_message(format!("loss {:.3}", line.loss));
        if !root.terminal && (root.told.elapsed() >= PAUSE || line.step == root.steps) {
            root.told = Instant::now();
            log::info!(
                "epoch={} step={}/{} loss={:.4} recon={:.4} kl={:.4} grad_norm={:.3} patches_per_s={:.0}",
                line.epoch,
                line.step,
                root.steps,
                line.loss,
                line.reconstruction,
                line.kl,
                line.grad_norm,
                line.patches_per_s
            );
        }
    }

    /// Adds the line of an epoch and flushes. Rank-local.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub fn epoch(&mut self, line: &EpochLine) -> Result<()> {
        match &mut self.root {
            Some(root) => {
                root.write(line)?;
                root.epochs.push((line.step, line.validation.unwrap_or(line.train)));
                // Whoever watches the run sees whole epochs.
                self.flush()
            }
            None => Ok(()),
        }
    }

    /// The loss of the validation patches, or where there are none of the training, at the end of each epoch: its step
    /// and the loss, on root. Rank-local.
    pub fn epochs(&self) -> &[(usize, f64)] {
        self.root.as_ref().map_or(&[], |root| &root.epochs)
    }

    /// Brings to the file what was written, as a checkpoint must find it. Rank-local.
    ///
    /// # Errors
    /// A full disk, met now or since the last time.
    pub fn flush(&mut self) -> Result<()> {
        if let Some(error) = self.root.as_mut().and_then(|root| root.failed.take()) {
            return Err(error);
        }
        match &mut self.root {
            Some(root) => (root.file.flush()).with_context(|| unwritable(&root.path)),
            None => Ok(()),
        }
    }
}

impl Root {
    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        (self.file.write_all(text.as_bytes())).with_context(|| unwritable(&self.path))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn unwritable(path: &Path) -> String {
    format!("cannot write {}: make room, mend its permissions or choose another `output`", path.display())
}

/// The lines at `path` up to `step`; none where there is no such file.
fn kept(path: &Path, step: usize) -> Result<String> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.with_context(|| {
            format!(
                "cannot read {}, the history of the training: mend its permissions, or move it away to begin a new one",
                path.display()
            )
        })?,
    };
    let lines = text.lines();
    Ok(lines
        .filter(|line| step_of(line).is_some_and(|written| written <= step))
        .flat_map(|line| [line, "\n"])
        .collect())
}

/// The loss in the line of a step after `step`.
fn loss_after(line: &str, step: usize) -> Option<f64> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_later = line.get("step")?.as_u64()? as usize > step;
    is_later.then_some(line.get("loss")?.as_f64()?)
}

/// The step and the loss in the line of an epoch.
fn epoch_of(line: &str) -> Option<(usize, f64)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let train = line.get("train")?.as_f64()?;
    let validation = line.get("validation").and_then(|loss| loss.as_f64());
    Some((line.get("step")?.as_u64()? as usize, validation.unwrap_or(train)))
}

/// The step of a line; none where the line was cut short.
fn step_of(line: &str) -> Option<usize> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(line.get("step")?.as_u64()? as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_by_the_next_flush() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut log = Log {
            root: Some(Root {
                // Steps fill the buffer at once.
                file: BufWriter::with_capacity(1, full),
                epochs: Vec::new(),
                bar: ProgressBar::hidden(),
                steps: 9,
                told: Instant::now(),
                terminal: false,
                failed: None,
                path: "/dev/full/metrics.jsonl".into(),
            }),
        };
        log.step(&StepLine {
            step: 1,
            steps: 9,
            epoch: 1,
            loss: 1.0,
            reconstruction: 1.0,
            kl: 0.0,
            kl_weight: 1.0,
            grad_norm: 1.0,
            learning_rate: 0.1,
            patches_per_s: 1.0,
        });
        let message = format!("{:#}", log.flush().unwrap_err());
        assert!(message.contains("cannot write") && message.contains("metrics.jsonl"), "{message}");
    }

    #[test]
    fn only_a_history_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(kept(&path, 5).unwrap(), "");
        let lines = "{\"step\":4}\n{\"step\":5,\"loss\":1}\n{\"step\":6}\n{\"st";
        fs::write(&path, lines).unwrap();
        assert_eq!(kept(&path, 5).unwrap(), "{\"step\":4}\n{\"step\":5,\"loss\":1}\n");
        // What is no text cannot be kept: it is not thrown away either.
        fs::write(&path, [0xff, 0xfe]).unwrap();
        let message = format!("{:#}", kept(&path, 5).unwrap_err());
        assert!(message.contains("metrics.jsonl") && message.contains("move it away"), "{message}");
    }
}
