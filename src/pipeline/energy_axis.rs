//! One energy axis for all cubes of a run: the energies of the pixels are aligned, and the axes of the cubes made one.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};

use super::energy_shifts::measure_shifts;
use crate::comm::Comm;
use crate::config::Config;
use crate::cube::Axis;
use crate::results::{EnergySummary, SetAside};
use crate::stream::{Cube, CubeStatistics, SAME_DISPERSION, electron_bound};

/// Cubes that share a model differ in dispersion by this factor at most. Detectors blur by channels, so edges are wider in
/// a coarser cube, which looks like an anomaly. Simulated cubes of 1.25, 0.625 and 0.3125 eV together scored as well as
/// three of 1.25 eV, except for the weak anomaly in the finest (F1 .66 instead of .74). Larger factors were not tried.
const MOST_COARSER: f64 = 4.0;
/// The common energies are at least this share of the energies of every cube.
const LEAST_COMMON: f64 = 0.5;
/// A model's energies may reach beyond those of a cube by this share of a channel: resampling can fill in a little more.
const MOST_BEYOND: f64 = 0.015;

/// What the cubes admitted so far have in common.
struct Common {
    /// The coarsest of their axes, whole.
    axis: Axis,
    /// The energies (eV) that all of them cover.
    low: f64,
    high: f64,
    /// The first cube, which error messages compare others with.
    first: PathBuf,
    first_width: f64,
}

impl Common {
    fn new(cube: &Cube) -> Common {
        let [low, high] = cube.covered();
        Common { axis: cube.asked().clone(), low, high, first: cube.info().path.clone(), first_width: high - low }
    }

    /// Narrows the common energies to those that `cube` covers too.
    ///
    /// # Errors
    /// A cube that has too little in common with those before; names both.
    fn admit(&mut self, cube: &Cube) -> Result<()> {
        let [own_low, own_high] = cube.covered();
        let (low, high) = (self.low.max(own_low), self.high.min(own_high));
        let (mine, own) = (&self.axis, cube.asked());
        let both = || {
            format!(
                "{} has channels of {} eV, {:.2} to {:.2} eV in common with those before, and {} has channels of {} eV, \
                 {own_low:.2} to {own_high:.2} eV: one model needs one energy axis",
                self.first.display(),
                mine.scale,
                self.low,
                self.high,
                cube.info().path.display(),
                own.scale
            )
        };
        let factor = (mine.scale / own.scale).max(own.scale / mine.scale);
        ensure!(
            factor <= MOST_COARSER,
            "{}, and channels more than {MOST_COARSER} times as wide are of another kind; run them apart",
            both()
        );
        ensure!(
            high - low >= LEAST_COMMON * self.first_width.max(own_high - own_low),
            "{}, and these have less than half in common; run them apart, or crop both to one range with \
             archive.energy_range_ev",
            both()
        );
        (self.low, self.high) = (low, high);
        // Narrow channels are joined: wide ones, split, would have correlated noise.
        if own.scale > mine.scale * (1.0 + SAME_DISPERSION) {
            self.axis = own.clone();
        }
        Ok(())
    }

    /// The channels of the coarsest axis within the common energies, each `rebin` of them made one.
    fn axis(&self, rebin: usize) -> Result<Axis> {
        let place = |ev: f64| (ev - self.axis.span()[0]) / self.axis.scale;
        // Axes that differ by rounding alone lose no channel.
        let start = (place(self.low) - 0.01).ceil().max(0.0) as usize;
        let end = ((place(self.high) + 0.01).floor().max(0.0) as usize).min(self.axis.size);
        let axis = self.axis.slice(start.min(end)..end).rebinned(rebin);
        ensure!(
            axis.size > 0,
            "{}: no channel is left of {:.2} to {:.2} eV with preprocess.rebin: {rebin}",
            self.first.display(),
            self.low,
            self.high
        );
        Ok(axis)
    }
}

/// The energies that all cubes have in common, each `rebin` channels made one; cubes with too little in common with the
/// first go to `set_aside`.
///
/// The first cube is that of `training`, or of `cubes` where there is no training list. Rank-local.
///
/// # Errors
/// A named cube that would be set aside; no cube left. Equal on all ranks.
pub fn common(
    comm: &Comm,
    training: Option<&mut Vec<Cube>>,
    cubes: &mut Vec<Cube>,
    rebin: usize,
    set_aside: &mut SetAside,
) -> Result<Axis> {
    let mut common: Option<Common> = None;
    for list in training.into_iter().chain([cubes]) {
        for cube in std::mem::take(list) {
            let admitted = match &mut common {
                Some(common) => common.admit(&cube),
                None => {
                    common = Some(Common::new(&cube));
                    Ok(())
                }
            };
            match admitted {
                Ok(()) => list.push(cube),
                Err(error) => set_aside.push(comm, &cube, error)?,
            }
        }
        ensure!(!list.is_empty(), "none of the inputs can be used: {}", set_aside.reasons());
    }
    common.context("a run has inputs")?.axis(rebin)
}

/// Sets aside the cubes of `lists` that do not hold all energies of a model. Rank-local.
///
/// # Errors
/// A named cube that would be set aside; no cube left. Equal on all ranks.
fn keep_those_that_hold<'l>(
    comm: &Comm,
    axis: &Axis,
    lists: impl Iterator<Item = &'l mut Vec<Cube>>,
    set_aside: &mut SetAside,
) -> Result<()> {
    let [first, last] = axis.span();
    for list in lists {
        for cube in std::mem::take(list) {
            let ([low, high], own) = (cube.covered(), cube.dispersion());
            let beyond = MOST_BEYOND * own;
            let is_fine_enough = own <= axis.scale * (1.0 + SAME_DISPERSION) && axis.scale <= own * MOST_COARSER;
            if is_fine_enough && first >= low - beyond && last <= high + beyond {
                list.push(cube);
                continue;
            }
            let error = anyhow!(
                "{}: its pixels all hold {low:.2} to {high:.2} eV, in channels of {own} eV, and the model in the output \
                 folder is of {first:.2} to {last:.2} eV, in channels of {} eV: run it apart, or all cubes anew with --fresh",
                cube.info().path.display(),
                axis.scale
            );
            set_aside.push(comm, &cube, error)?;
        }
        ensure!(!list.is_empty(), "none of the inputs can be used: {}", set_aside.reasons());
    }
    Ok(())
}

/// Aligns the energies of the pixels of all cubes, and brings all cubes to one axis: that of a `model` that is kept, if any.
///
/// # Collective
/// # Errors
/// A named cube that cannot be aligned or has too little in common with the first; no cube left.
pub fn unify(
    comm: &Comm,
    config: &Config,
    mut training: Option<(&mut Vec<Cube>, &mut CubeStatistics)>,
    (cubes, scored): (&mut Vec<Cube>, &mut CubeStatistics),
    model: Option<&Axis>,
    set_aside: &mut SetAside,
) -> Result<()> {
    let reference = training.as_ref().map_or(&*cubes, |(cubes, _)| &**cubes)[0].dispersion();
    let lists = training.iter_mut().map(|(cubes, statistics)| (&mut **cubes, &**statistics));
    for (list, statistics) in lists.chain([(&mut *cubes, &*scored)]) {
        for mut cube in std::mem::take(list) {
            match align(comm, config, &mut cube, statistics, reference) {
                Ok(()) => list.push(cube),
                Err(error) => set_aside.push(comm, &cube, error)?,
            }
        }
        ensure!(!list.is_empty(), "none of the inputs can be used: {}", set_aside.reasons());
    }
    let trained = training.as_mut().map(|(cubes, _)| &mut **cubes);
    let axis = match model {
        Some(axis) => {
            keep_those_that_hold(comm, axis, trained.into_iter().chain([&mut *cubes]), set_aside)?;
            axis.clone()
        }
        None => common(comm, trained, cubes, config.preprocess.rebin, set_aside)?,
    };
    let lists = training.into_iter().chain([(cubes, scored)]);
    for (list, statistics) in lists {
        for cube in list.iter_mut() {
            cube.conform(&axis);
            if comm.is_root() {
                describe(cube);
            }
        }
        statistics.bound = electron_bound(list, &statistics.noise);
    }
    Ok(())
}

/// Aligns the energies of the pixels of a lone `cube`, and brings it to the widest of the axes `models` that suits it.
/// Gives the index of that axis.
///
/// # Collective
/// # Errors
/// As [`align`]; no axis that suits, with the energies of the cube and of the models.
pub fn choose_model(
    comm: &Comm,
    config: &Config,
    cube: &mut Cube,
    statistics: &CubeStatistics,
    models: &[&Axis],
) -> Result<usize> {
    let (own, rebin) = (cube.dispersion(), config.preprocess.rebin);
    align(comm, config, cube, statistics, own)?;
    let covered = cube.covered();
    let width = |i: usize| models[i].span()[1] - models[i].span()[0];
    let widest = (0..models.len())
        .filter(|&i| suits(models[i], covered, own, rebin))
        .min_by(|&a, &b| width(b).total_cmp(&width(a)));
    let told = |axis: &Axis| {
        let [low, high] = axis.span();
        let (size, scale) = (axis.size, axis.scale);
        format!("{size} channels of {scale} eV, {low:.2} to {high:.2} eV")
    };
    let chosen = widest.with_context(|| {
        let models: Vec<String> = models.iter().map(|axis| told(axis)).collect();
        format!(
            "{}: its pixels all hold {:.2} to {:.2} eV, in channels of {own} eV, and no model is of that ({}; \
             preprocess.rebin: {rebin}): narrow archive.energy_range_ev until all cubes hold it whatever their shifts, \
             or train a model on cubes like this one",
            cube.info().path.display(),
            covered[0],
            covered[1],
            models.join("; ")
        )
    })?;
    cube.conform(models[chosen]);
    if comm.is_root() {
        describe(cube);
    }
    Ok(chosen)
}

/// Whether a model of the energies `axis` can score a cube that covers `[low, high]` (eV) in channels of `dispersion` eV,
/// each `rebin` of them made one.
fn suits(axis: &Axis, [low, high]: [f64; 2], dispersion: f64, rebin: usize) -> bool {
    let (first, last) = (axis.span()[0], axis.span()[1]);
    let beyond = MOST_BEYOND * dispersion;
    (axis.scale / (dispersion * rebin as f64) - 1.0).abs() <= SAME_DISPERSION
        && first >= low - beyond
        && last <= high + beyond
        && last - first >= LEAST_COMMON * (high - low)
}

/// Measures how far the energies of each pixel of `cube` are off. A cube of another dispersion than `reference` is not
/// judged by the noise of the others.
///
/// # Collective
/// # Errors
/// As [`measure_shifts`].
pub fn align(comm: &Comm, config: &Config, cube: &mut Cube, statistics: &CubeStatistics, reference: f64) -> Result<()> {
    if !cube.has_dispersion(reference) {
        cube.use_own_noise();
    }
    cube.shifts = measure_shifts(comm, config, cube, statistics)?;
    Ok(())
}

/// Logs what a user may not expect of the energies.
fn describe(cube: &Cube) {
    let summary = EnergySummary::of(cube);
    let id = &cube.info().id;
    if (summary.dispersion_ev / summary.recorded_dispersion_ev - 1.0).abs() > 1e-9 {
        log::info!(
            "{id}: {} channels of {} eV become {} of {} eV",
            cube.asked().size,
            summary.recorded_dispersion_ev,
            cube.energy.size,
            summary.dispersion_ev
        );
    }
    for [low, high] in &summary.left_out_ev {
        log::info!(
            "{id}: {low:.2} to {high:.2} eV are left out, {:.1} of its channels: not measured in every pixel of every cube",
            (high - low) / summary.recorded_dispersion_ev
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_suits_what_holds_all_its_energies() {
        let model = Axis::energy_loss(500.0, 2.0, 100);
        let whole = model.span();
        let suits = |[low, high]: [f64; 2], dispersion, rebin| {
            suits(&model, [whole[0] + low, whole[1] + high], dispersion, rebin)
        };
        assert!(suits([0.0, 0.0], 2.0, 1) && suits([-3.0, 5.0], 2.0, 1) && suits([0.01, 0.0], 2.0, 1));
        // A channel is missing; as many channels, but elsewhere.
        assert!(!suits([2.0, 0.0], 2.0, 1) && !suits([2.0, 2.0], 2.0, 1));
        // Wider channels than the cube's are for `preprocess.rebin`.
        assert!(suits([0.0, 0.0], 1.0, 2) && !suits([0.0, 0.0], 1.0, 1) && !suits([0.0, 0.0], 4.0, 1));
        assert!(!suits([-150.0, 150.0], 2.0, 1));
    }
}
