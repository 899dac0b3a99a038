//! Opening the archive on all ranks alike, and setting aside what does not open.

use std::path::Path;

use anyhow::{ensure, Context, Result};
use ndarray::{s, Array2};

use super::{energy, write};
use crate::archive::{catalogue, Source};
use crate::comm::Comm;
use crate::config::{Config, Invalid};
use crate::output::read_signal_f32;
use crate::stream::Cube;

/// Pixels around what was flagged that are left out with it: rims are flagged last.
const MARGIN: usize = 2;

/// The cubes of a run.
pub struct Inputs {
    /// To score.
    pub cubes: Vec<Cube>,
    /// To train on, where these are others.
    pub training: Option<Vec<Cube>>,
    pub set_aside: SetAside,
}

/// Inputs that were passed over, with the reason.
#[derive(Default)]
pub struct SetAside {
    failed: Vec<(String, String)>,
    named: Vec<String>,
}

impl SetAside {
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    /// `(path, reason)` of each.
    pub fn list(&self) -> &[(String, String)] {
        &self.failed
    }

    pub fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.failed.iter().map(|(_, reason)| &reason[..]).collect();
        reasons.join("; ")
    }

    /// Sets `cube` aside after `error`, which all ranks met; an input that was named is an error.
    pub fn push(&mut self, comm: &Comm, cube: &Cube, error: anyhow::Error) -> Result<()> {
        let path = cube.info().path.display().to_string();
        if self.named.contains(&path) {
            return Err(error);
        }
        self.record(comm, path, format!("{error:#}"));
        Ok(())
    }

    /// Sets the input at `path` aside; root says so.
    pub fn record(&mut self, comm: &Comm, path: String, reason: String) {
        if self.failed.iter().any(|(failed, _)| *failed == path) {
            // Met before, as an input that is both scored and trained on.
            return;
        }
        if comm.is_root() {
            log::warn!("set aside: {reason}");
        }
        self.failed.push((path, reason));
    }
}

/// Lists and opens the inputs.
///
/// # Collective
/// # Errors
/// An empty list, a named input that does not open or has too few energies in common with the first.
pub fn open(comm: &Comm, config: &Config) -> Result<Inputs> {
    let sources = list(comm, config.archive.inputs.as_slice())?;
    open_listed(comm, config, &sources)
}

/// As [`open`], with `sources` in place of `archive.inputs`.
///
/// # Collective
/// # Errors
/// As [`open`].
pub fn open_listed(comm: &Comm, config: &Config, sources: &[Source]) -> Result<Inputs> {
    let mut set_aside = SetAside::default();
    let mut cubes = open_all(comm, config, sources, &mut set_aside)?;
    let mut training = match &config.archive.train_inputs {
        Some(inputs) => {
            let sources = list(comm, inputs.as_slice())?;
            Some(open_all(comm, config, &sources, &mut set_aside)?)
        }
        None => None,
    };
    if let Some(earlier) = &config.archive.train_without {
        let mut learned = training.as_mut().unwrap_or(&mut cubes).iter_mut();
        comm.agree(learned.try_for_each(|cube| leave_out(cube, earlier)))?;
    }
    // Before anything is read: what does not belong together is soonest mended.
    let rebin = config.preprocess.rebin;
    energy::common(comm, training.as_mut(), &mut cubes, rebin, &mut set_aside)?;
    Ok(Inputs {
        cubes,
        training,
        set_aside,
    })
}

/// Marks what the run of the folder `earlier` flagged in `cube`, and the pixels around, as not to be trained on. Rank-local.
fn leave_out(cube: &mut Cube, earlier: &Path) -> Result<()> {
    let path = write::result_path(earlier, &cube.info().id);
    let refused = || {
        format!(
            "archive.train_without: {} tells nothing of {}: score it there first, with `output: {}`",
            earlier.display(),
            cube.info().path.display(),
            earlier.display()
        )
    };
    let (_, labels) = read_signal_f32(&path, write::REGIONS).with_context(refused)?;
    let size = cube.ignored.dim();
    ensure!(
        labels.shape() == [size.0, size.1],
        "{}: its map is of {:?} pixels, not {size:?}: it is another cube's",
        refused(),
        labels.shape()
    );
    let untrained = cube
        .untrained
        .get_or_insert_with(|| Array2::from_elem(size, false));
    for (place, _) in labels.indexed_iter().filter(|(_, &label)| label > 0.0) {
        let around =
            |at: usize, size: usize| at.saturating_sub(MARGIN)..(at + MARGIN + 1).min(size);
        let beside = s![around(place[0], size.0), around(place[1], size.1)];
        untrained.slice_mut(beside).fill(true);
    }
    let count = untrained.iter().filter(|&&left_out| left_out).count();
    log::info!(
        "{}: {count} of {} pixels are left out of the training",
        cube.info().path.display(),
        size.0 * size.1
    );
    Ok(())
}

/// The files that `inputs` mean.
///
/// # Collective
/// # Errors
/// As [`catalogue`], as bad usage.
pub fn list(comm: &Comm, inputs: &[String]) -> Result<Vec<Source>> {
    let listed = if comm.is_root() {
        catalogue(inputs).map_err(|error| Invalid(format!("{error:#}")).into())
    } else {
        Ok(Vec::new())
    };
    Ok(comm.broadcast(Some(comm.agree(listed)?)))
}

fn open_all(
    comm: &Comm,
    config: &Config,
    sources: &[Source],
    set_aside: &mut SetAside,
) -> Result<Vec<Cube>> {
    let mut cubes = Vec::new();
    for source in sources {
        let path = source.path.display().to_string();
        if source.named {
            set_aside.named.push(path.clone());
        }
        match comm.agree(Cube::open(source, config)) {
            Ok(cube) => cubes.push(cube),
            Err(error) if source.named => return Err(error),
            Err(error) => set_aside.record(comm, path, format!("{error:#}")),
        }
    }
    ensure!(
        !cubes.is_empty(),
        "none of the {} inputs can be used: {}",
        sources.len(),
        set_aside.reasons()
    );
    Ok(cubes)
}
