//! The inputs of a run, opened by all ranks; those that do not open are set aside.

use std::path::Path;

use anyhow::{Result, ensure};

use super::energy_axis;
use super::leave_out::{leave_out, leave_out_real};
use crate::archive::{Source, catalogue};
use crate::comm::Comm;
use crate::config::Config;
use crate::invalid::Invalid;
use crate::results::{SetAside, check_name};
use crate::shared;
use crate::stream::Cube;

/// The cubes of a run.
pub struct Inputs {
    /// To score.
    pub cubes: Vec<Cube>,
    /// To train on, where these are others.
    pub training: Option<Vec<Cube>>,
    pub set_aside: SetAside,
}

/// Lists and opens the inputs; if a stage `learns` from them, `archive.train_without` and `archive.verdicts` are
/// applied.
///
/// # Collective
/// # Errors
/// An empty list; a named input that does not open, has too few energies in common with the first, or has no results in
/// the run that `archive.train_without` names.
pub fn open(comm: &Comm, config: &Config, learns: bool) -> Result<Inputs> {
    let inputs = config.archive.inputs.as_slice();
    let sources = list_inputs(comm, inputs).map_err(|error| match unmade(config, inputs) {
        Some(command) => error.context(format!("`coreloss {command} CONFIG` makes these cubes first")),
        None => error,
    })?;
    open_listed(comm, config, &sources, learns)
}

/// The command that makes the cubes that `inputs` name, if none of them is made yet.
fn unmade(config: &Config, inputs: &[String]) -> Option<&'static str> {
    let made = [
        ("simulate", &config.simulate.dir, config.simulate.cubes.len()),
        ("inject", &config.inject.dir, config.inject.cubes.len()),
    ];
    let is_of = |dir: &Path| inputs.iter().any(|input| Path::new(input).starts_with(dir)) && !dir.exists();
    made.into_iter().find(|(_, dir, count)| *count > 0 && is_of(dir)).map(|(command, ..)| command)
}

/// As [`open`], with `sources` in place of `archive.inputs`.
///
/// # Collective
/// # Errors
/// As [`open`].
pub fn open_listed(comm: &Comm, config: &Config, sources: &[Source], learns: bool) -> Result<Inputs> {
    let mut set_aside = SetAside::default();
    let mut cubes = open_all(comm, config, sources, &mut set_aside)?;
    let mut training = match &config.archive.train_inputs {
        Some(inputs) => {
            let sources = list_inputs(comm, inputs.as_slice())?;
            Some(open_all(comm, config, &sources, &mut set_aside)?)
        }
        None => None,
    };
    if let (Some(earlier), true) = (&config.archive.train_without, learns) {
        let learned = training.as_mut().unwrap_or(&mut cubes);
        leave_out(comm, config, earlier, learned, &mut set_aside)?;
    }
    if !config.archive.verdicts.is_empty() && learns {
        leave_out_real(comm, config, training.as_mut().unwrap_or(&mut cubes))?;
    }
    // From the headers, so that cubes which do not belong together are told before anything is read.
    let rebin = config.preprocess.rebin;
    energy_axis::common(comm, training.as_mut(), &mut cubes, rebin, &mut set_aside)?;
    Ok(Inputs { cubes, training, set_aside })
}

/// The files that the paths and globs `inputs` stand for; root looks.
///
/// # Collective
/// # Errors
/// As [`catalogue`], and files that nodes do not share; they count as bad usage.
pub fn list_inputs(comm: &Comm, inputs: &[String]) -> Result<Vec<Source>> {
    let sources: Vec<Source> =
        comm.from_root(|| catalogue(inputs).map_err(|error| Invalid(format!("{error:#}")).into()))?;
    let paths: Vec<_> = sources.iter().map(|source| source.path.clone()).collect();
    shared::check_inputs(comm, &paths)?;
    Ok(sources)
}

fn open_all(comm: &Comm, config: &Config, sources: &[Source], set_aside: &mut SetAside) -> Result<Vec<Cube>> {
    let mut cubes = Vec::new();
    for source in sources {
        let path = source.path.display().to_string();
        if source.named {
            set_aside.name(path.clone());
        }
        let opened = check_name(&source.id).and_then(|()| Cube::open(source, config));
        match comm.agree(opened) {
            Ok(cube) => {
                for problem in cube.problems().iter().filter(|_| comm.is_root()) {
                    log::warn!("{path}: {problem}");
                }
                cubes.push(cube);
            }
            Err(error) if source.named => return Err(error),
            Err(error) => set_aside.record(comm, path, format!("{error:#}")),
        }
    }
    ensure!(!cubes.is_empty(), "none of the {} inputs can be used: {}", sources.len(), set_aside.reasons());
    Ok(cubes)
}
