//! Inputs that have changed since the run in the output folder began: said, and done again.

use std::collections::BTreeSet;

use anyhow::Result;

use super::inputs::{Inputs, list_inputs};
use crate::archive::{Source, stamp};
use crate::comm::Comm;
use crate::config::{Config, Stage};
use crate::cube::Axis;
use crate::invalid::Invalid;
use crate::results::{Start, Summary, cube_path, earlier, folder, is_of};
use crate::stream::Cube;
use crate::train::Training;

/// Whether the inputs are those that the finished run in the output folder scored and learned from, as they were; root looks,
/// and says what is not.
///
/// # Collective
/// # Errors
/// A named input that is gone.
pub fn are_inputs_unchanged(comm: &Comm, config: &Config) -> Result<bool> {
    let scored = list_inputs(comm, config.archive.inputs.as_slice())?;
    let trained = match &config.archive.train_inputs {
        Some(inputs) => list_inputs(comm, inputs.as_slice())?,
        None => Vec::new(),
    };
    comm.from_root(|| {
        let summary = Summary::read(&config.output.dir)?;
        let mut changes = changes_of_scored(config, &summary, &scored)?;
        if let Some(training) = Training::newest(&config.output.dir)
            && training.learned_from.is_known()
        {
            for source in &trained {
                let cube = Cube::open(source, config).ok();
                if let Some(cube) = cube
                    && (!training.learned_from.has(&cube) || training.learned_from.had_another(&cube, config)?)
                {
                    changes.push(format!("{} was not trained on as it is now", source.path.display()));
                }
            }
        }
        for change in &changes {
            log::info!("{change}");
        }
        Ok(changes.is_empty())
    })
}

/// What differs between `sources` and the inputs of `summary`. Rank-local.
fn changes_of_scored(config: &Config, summary: &Summary, sources: &[Source]) -> Result<Vec<String>> {
    let directory = &config.output.dir;
    let mut changes = Vec::new();
    for source in sources {
        let path = source.path.display().to_string();
        if summary.cubes.iter().any(|cube| cube.name == source.id) {
            let cube = Cube::open(source, config);
            if !cube.is_ok_and(|cube| is_of(&cube_path(directory, &source.id), &cube, config).unwrap_or(false)) {
                changes.push(format!("{path} has changed since it was scored"));
            }
            continue;
        }
        let failed = summary.failed_inputs.iter().find(|failed| failed.path == path);
        // What could not be used is tried again when it has changed.
        if failed.is_none_or(|failed| failed.stamp != stamp(&source.path)) {
            changes.push(format!("{path} is new"));
        }
    }
    let listed: BTreeSet<&str> = sources.iter().map(|source| &source.id[..]).collect();
    let gone = summary.cubes.iter().filter(|cube| !listed.contains(&cube.name[..]));
    changes.extend(gone.map(|cube| {
        let results = cube_path(directory, &cube.name);
        format!("{} is no input any more: {} stays, but summary and report leave it out", cube.name, results.display())
    }));
    Ok(changes)
}

/// What follows for a run whose model learned from other cubes than the inputs are now.
#[derive(serde::Serialize, serde::Deserialize)]
enum Verdict {
    /// The model is of these cubes, or there is none.
    Same,
    /// It is kept with its energies, and scores the cubes of these ids too.
    Keep(Axis, BTreeSet<String>),
    /// It is of cubes that are no more, for this reason.
    Anew(String),
}

/// Compares `inputs` with those that the model in the output folder learned from.
///
/// Cubes that were added are scored with it: they are taken out of the training, and the energies of the model, which are
/// returned, are kept. Where cubes have changed that it learned from, or are missing before it is trained, all that the
/// folder holds is set apart, for a new beginning.
///
/// # Collective
/// # Errors
/// A cube that cannot be read any more; an output folder that cannot be written; [`Start::Resume`] where nothing can be
/// resumed.
pub fn settle(comm: &Comm, config: &Config, stage: Stage, start: Start, inputs: &mut Inputs) -> Result<Option<Axis>> {
    let directory = &config.output.dir;
    let learned = inputs.training.as_ref().unwrap_or(&inputs.cubes);
    match comm.from_root(|| judge(config, learned))? {
        Verdict::Same => Ok(None),
        Verdict::Anew(reason) if stage == Stage::Score || stage == Stage::Pca => {
            if comm.is_root() && stage == Stage::Score {
                log::warn!("the model in {} is of other cubes: {reason}", directory.display());
            }
            Ok(None)
        }
        Verdict::Anew(reason) if start == Start::Resume => Err(Invalid(format!(
            "--resume: {reason}: leave --resume out to set what {} holds apart and begin anew",
            directory.display()
        ))
        .into()),
        Verdict::Anew(reason) => {
            comm.on_root(|| {
                let apart = earlier::set_run_apart(directory)?;
                log::warn!("{reason}: the training begins anew; what was found before is in {}", apart.display());
                folder::write_config(config)
            })?;
            Ok(None)
        }
        Verdict::Keep(energy, new) => {
            if comm.is_root() && !new.is_empty() {
                let new: Vec<&str> = new.iter().map(String::as_str).collect();
                log::info!("scored with the model of the other cubes, which has not seen it: {}", new.join(", "));
            }
            if inputs.training.is_none() && !new.is_empty() {
                // The cubes that are trained on keep the marks of what is left out.
                let again = |cube: &Cube| {
                    let info = cube.info();
                    let source = Source { path: info.path.clone(), id: info.id.clone(), named: false };
                    comm.agree(Cube::open(&source, config))
                };
                let all = inputs.cubes.iter().map(again).collect::<Result<Vec<Cube>>>()?;
                let mut learned = std::mem::replace(&mut inputs.cubes, all);
                learned.retain(|cube| !new.contains(&cube.info().id));
                inputs.training = Some(learned);
            } else if let Some(learned) = &mut inputs.training {
                learned.retain(|cube| !new.contains(&cube.info().id));
            }
            Ok(Some(energy))
        }
    }
}

/// Compares the cubes that would be `learned` from with those of the newest checkpoint. Rank-local.
fn judge(config: &Config, learned: &[Cube]) -> Result<Verdict> {
    let Some(training) = Training::newest(&config.output.dir).filter(|training| training.learned_from.is_known())
    else {
        return Ok(Verdict::Same);
    };
    let from = &training.learned_from;
    for cube in learned {
        if from.had_another(cube, config)? {
            return Ok(Verdict::Anew(format!("{} has changed since it was trained on", cube.info().path.display())));
        }
    }
    let now: BTreeSet<&str> = learned.iter().map(|cube| &cube.info().id[..]).collect();
    let mut gone = from.ids().filter(|id| !now.contains(id));
    let gone = gone.next().map(str::to_owned);
    if let (Some(id), false) = (&gone, training.finished) {
        return Ok(Verdict::Anew(format!("{id}, which was trained on, is no input any more")));
    }
    let new: BTreeSet<String> =
        learned.iter().filter(|cube| !from.has(cube)).map(|cube| cube.info().id.clone()).collect();
    // Nothing is left to measure noise and energies by.
    if new.len() == learned.len() {
        return Ok(Verdict::Anew(format!(
            "none of the cubes that the model learned from is left ({})",
            gone.unwrap_or_default()
        )));
    }
    Ok(match (gone, new.is_empty()) {
        (None, true) => Verdict::Same,
        _ => Verdict::Keep(training.energy.clone(), new),
    })
}
