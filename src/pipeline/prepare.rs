//! The first phase: inputs opened, measured, and brought to one energy axis.

use anyhow::{Result, bail};

use super::averaged::check_averaged;
use super::changes;
use super::energy_axis;
use super::inputs::{self, Inputs};
use super::run::Run;
use crate::archive::Source;
use crate::results::{SetAside, Start, folder};
use crate::stream::{Cube, CubeStatistics, measure_statistics};

/// The cubes of a run, ready to be learned from and scored.
pub struct Prepared {
    /// To score.
    pub cubes: Vec<Cube>,
    /// To train on, where these are others.
    pub training: Option<Vec<Cube>>,
    /// Of the cubes to train on.
    pub statistics: CubeStatistics,
    pub set_aside: SetAside,
}

impl Prepared {
    /// Opens `sources`, or the inputs of the configuration, and measures noise, vacuum and energy shifts.
    ///
    /// # Collective
    /// # Errors
    /// Inputs that are missing, damaged or do not belong together, unless they can be set aside.
    pub fn open(run: &mut Run, sources: Option<&[Source]>, start: Start) -> Result<Prepared> {
        let (comm, config) = (run.comm, run.config);
        let learns = run.stage.learns(config);
        let mut inputs = match sources {
            Some(sources) => inputs::open_listed(comm, config, sources, learns)?,
            None => inputs::open(comm, config, learns)?,
        };
        check_averaged(comm, inputs.cubes.iter().chain(inputs.training.iter().flatten()), config)?;
        // Not before the inputs are open: a mistyped name must not cost results.
        let energy = match start {
            Start::Fresh => {
                folder::clear(comm, config)?;
                None
            }
            _ => changes::settle(comm, config, run.stage, start, &mut inputs)?,
        };
        let Inputs { mut cubes, mut training, mut set_aside } = inputs;
        let mut measured = |cubes: &mut Vec<Cube>| {
            let found = measure_statistics(comm, cubes, config, |cube, error| set_aside.push(comm, cube, error))?;
            if cubes.is_empty() {
                bail!("none of the inputs can be used: {}", set_aside.reasons());
            }
            Ok(found)
        };
        let mut scored = measured(&mut cubes)?;
        let mut trained_on = training.as_mut().map(&mut measured).transpose()?;
        let lists = (training.as_mut().zip(trained_on.as_mut()), (&mut cubes, &mut scored));
        energy_axis::unify(comm, config, lists.0, lists.1, energy.as_ref(), &mut set_aside)?;
        run.clock.lap("prepare");
        Ok(Prepared { cubes, training, statistics: trained_on.unwrap_or(scored), set_aside })
    }

    /// The cubes to learn from.
    pub fn learned_from(&self) -> &[Cube] {
        self.training.as_deref().unwrap_or(&self.cubes)
    }
}
