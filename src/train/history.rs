//! The history of a training: a line of `metrics.jsonl` for each step and epoch, and a progress bar on a terminal or else
//! log lines.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::comm::Comm;
use crate::config::TrainingLength;
use crate::durable;

/// Between two log lines, where there is no terminal for a bar.
const PAUSE: Duration = Duration::from_secs(10);

/// One step, as `metrics.jsonl` holds it.
#[derive(Clone, Debug, Serialize)]
pub struct StepLine {
    pub step: usize,
    /// The last step of the cycle, or of the whole training.
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
    /// Mean loss of the validation patches, in epochs that are judged.
    pub validation: Option<f64>,
}

/// Written by root; empty on the other ranks.
pub struct History {
    root: Option<Root>,
}

struct Root {
    path: PathBuf,
    file: BufWriter<File>,
    /// Of each epoch its last step, and its losses of the validation patches and of the training.
    epochs: Vec<(usize, Option<f64>, f64)>,
    bar: ProgressBar,
    last_logged: Instant,
    terminal: bool,
    /// Why a step's line could not be written. [`History::flush`] returns it, where the ranks agree.
    failed: Option<anyhow::Error>,
}

impl History {
    /// Goes on with `metrics.jsonl` after `step`: what an interrupted run wrote beyond that is removed.
    ///
    /// Also returns, on root, the losses of the interrupted epoch's steps. Rank-local.
    ///
    /// # Errors
    /// A history that cannot be read, an output that cannot be written.
    pub fn open(comm: &Comm, directory: &Path, step: usize, length: TrainingLength) -> Result<(History, Vec<f64>)> {
        if !comm.is_root() {
            return Ok((History { root: None }, Vec::new()));
        }
        let path = directory.join("metrics.jsonl");
        let kept = kept(&path, step)?;
        let epoch_began = step - step % length.steps_per_epoch;
        let losses =
            kept.iter().filter(|(_, line)| line.step > epoch_began).filter_map(|(_, line)| line.loss).collect();
        let epochs = kept.iter().filter_map(|(_, line)| Some((line.step, line.validation, line.train?)));
        let text: String = kept.iter().map(|(text, _)| &text[..]).collect();
        // Replaced as a whole, so that a run killed right here keeps its history.
        durable::write(&path, &text).with_context(|| unwritable(&path))?;
        let file = File::options().append(true).open(&path);
        let file = BufWriter::new(file.with_context(|| unwritable(&path))?);
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(length.steps as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("train {bar:30} {pos}/{len} steps, {eta} left, {msg}")
            .context("the progress bar's template is wrong")?;
        bar.set_style(style);
        bar.set_position(step as u64);
        let history = History {
            root: Some(Root {
                path,
                file,
                epochs: epochs.collect(),
                bar,
                last_logged: Instant::now(),
                terminal,
                failed: None,
            }),
        };
        Ok((history, losses))
    }

    /// Adds the line of a step. Rank-local; [`History::flush`] returns what went wrong.
    pub fn step(&mut self, line: &StepLine) {
        let Some(root) = &mut self.root else {
            return;
        };
        if let Err(error) = root.write(line) {
            root.failed.get_or_insert(error);
        }
        root.bar.set_length(line.steps as u64);
        root.bar.set_position(line.step as u64);
        root.bar.set_message(format!("loss {:.3}", line.loss));
        if !root.terminal && (root.last_logged.elapsed() >= PAUSE || line.step == line.steps) {
            root.last_logged = Instant::now();
            log::info!(
                "epoch={} step={}/{} loss={:.4} recon={:.4} kl={:.4} grad_norm={:.3} patches_per_s={:.0}",
                line.epoch,
                line.step,
                line.steps,
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
    /// As [`History::flush`].
    pub fn epoch(&mut self, line: &EpochLine) -> Result<()> {
        match &mut self.root {
            Some(root) => {
                root.write(line)?;
                root.epochs.push((line.step, line.validation, line.train));
                // So that a run can be watched epoch by epoch.
                self.flush()
            }
            None => Ok(()),
        }
    }

    /// On root, for each epoch that was judged, its last step and its loss: of the validation patches, or where there are none
    /// of the training. Rank-local.
    pub fn epochs(&self) -> Vec<(usize, f64)> {
        let epochs = self.root.as_ref().map_or(&[][..], |root| &root.epochs);
        let is_validated = epochs.iter().any(|(_, validation, _)| validation.is_some());
        let judged = |&(step, validation, train): &(usize, Option<f64>, f64)| match is_validated {
            true => Some((step, validation?)),
            false => Some((step, train)),
        };
        epochs.iter().filter_map(judged).collect()
    }

    /// Writes what is buffered, as is due before a checkpoint. Rank-local.
    ///
    /// # Errors
    /// A full disk, now or since the last flush.
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

/// A line of a step or an epoch, read back.
#[derive(Deserialize)]
struct WrittenLine {
    step: usize,
    /// Of a step.
    loss: Option<f64>,
    /// Of an epoch, as `validation`.
    train: Option<f64>,
    validation: Option<f64>,
}

/// The lines at `path` up to `step`, without those that were cut short; none if there is no such file.
fn kept(path: &Path, step: usize) -> Result<Vec<(String, WrittenLine)>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.with_context(|| {
            format!(
                "cannot read {}, the history of the training: mend its permissions, or move it away to begin a new one",
                path.display()
            )
        })?,
    };
    let lines = text.lines().filter_map(|line| Some((format!("{line}\n"), serde_json::from_str(line).ok()?)));
    Ok(lines.filter(|(_, line): &(String, WrittenLine)| line.step <= step).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_flush_reports_a_full_disk() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut history = History {
            root: Some(Root {
                // Steps fill the buffer at once.
                file: BufWriter::with_capacity(1, full),
                epochs: Vec::new(),
                bar: ProgressBar::hidden(),
                last_logged: Instant::now(),
                terminal: false,
                failed: None,
                path: "/dev/full/metrics.jsonl".into(),
            }),
        };
        history.step(&StepLine {
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
        let message = format!("{:#}", history.flush().unwrap_err());
        assert!(message.contains("cannot write") && message.contains("metrics.jsonl"), "{message}");
    }

    #[test]
    fn only_a_history_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = |step| -> String { kept(&path, step).unwrap().into_iter().map(|(text, _)| text).collect() };
        assert_eq!(text(5), "");
        let lines = "{\"step\":4}\n{\"step\":5,\"loss\":1}\n{\"step\":6}\n{\"st";
        fs::write(&path, lines).unwrap();
        assert_eq!(text(5), "{\"step\":4}\n{\"step\":5,\"loss\":1}\n");
        // What is no text cannot be kept, but is not thrown away either.
        fs::write(&path, [0xff, 0xfe]).unwrap();
        let message = format!("{:#}", kept(&path, 5).err().unwrap());
        assert!(message.contains("metrics.jsonl") && message.contains("move it away"), "{message}");
    }
}
