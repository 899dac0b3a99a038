//! The second phase: the network trained, or read from the last checkpoint, and the linear baselines fitted.

use anyhow::{Result, bail};

use super::linear_fit::LinearFit;
use super::prepare::Prepared;
use super::run::Run;
use crate::config::{PcaFit, Stage};
use crate::preprocess::noise::NoiseModel;
use crate::stream::{CubeStatistics, electron_bound};
use crate::train::{Checkpoint, Model, Outcome, train};

/// What a run has learned before it scores.
pub struct Learned {
    /// The network; none where only the linear methods score.
    pub model: Option<Model>,
    /// The linear baselines, where they are fitted to the training cubes.
    pub baselines: Option<LinearFit>,
    /// The noise model that every cube is scored with.
    pub noise: NoiseModel,
}

impl Learned {
    /// Learns from the cubes of `prepared`; `None` after a signal.
    ///
    /// # Collective
    /// # Errors
    /// No model to score with; a training that fails; unreadable data.
    pub fn from(run: &mut Run, prepared: &Prepared) -> Result<Option<Learned>> {
        let (config, stage) = (run.config, run.stage);
        let model = match stage {
            Stage::Pca => None,
            _ => match model(run, prepared)? {
                Some(model) => Some(model),
                None => return Ok(None),
            },
        };
        let noise = model.as_ref().map_or(prepared.statistics.noise, |model| model.noise);
        run.clock.lap("train");
        let baselines = if stage != Stage::Train && config.pca.fit != PcaFit::Cube {
            let cubes = prepared.learned_from();
            let statistics = CubeStatistics { noise, bound: electron_bound(cubes, &noise) };
            Some(LinearFit::to_training(run.comm, config, cubes, &statistics)?)
        } else {
            None
        };
        run.clock.lap("pca");
        Ok(Some(Learned { model, baselines, noise }))
    }
}

/// The network: trained now, or of the newest checkpoint for [`Stage::Score`]. `None` after a signal.
///
/// # Collective
fn model(run: &Run, prepared: &Prepared) -> Result<Option<Model>> {
    let (comm, config, directory) = (run.comm, run.config, &run.config.output.dir);
    let cubes = prepared.learned_from();
    if run.stage == Stage::Score {
        let Some(checkpoint) = Checkpoint::newest(comm, directory)? else {
            bail!("{} holds no trained model to score with: run `coreloss train` first", directory.display());
        };
        checkpoint.check(config, &cubes[0].energy)?;
        return Ok(Some(checkpoint.model));
    }
    match train(comm, config, cubes, &prepared.statistics, directory, run.stop)? {
        Outcome::Finished(model) => Ok(Some(*model)),
        Outcome::Stopped => Ok(None),
    }
}
