//! The patches that training draws, at random, and the lines that they are cut from.
//!
//! A crop is a function of the seed and of its number in the whole training. Ranks, threads and interruptions change
//! nothing.

use std::ops::Range;

use anyhow::Result;
use ndarray::{Array3, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::checkpoint::Model;
use super::micro_batch::{CropOrigin, MicroBatch};
use super::targets::{Asked, Targets};
use crate::comm::Comm;
use crate::config::{Config, Pace, TrainingLength};
use crate::model::Spec;
use crate::preprocess::noise::NoiseModel;
use crate::preprocess::prepare::Prepared;
use crate::shard::{Extent, LanePlan, Lines, owned, reflect};
use crate::stream::Cube;

/// The most patches that validation looks at.
const VALIDATION_PATCHES: usize = 64;

/// Where crops come from.
pub struct Crops<'a> {
    cubes: &'a [Cube],
    plan: LanePlan,
    patch: [usize; 2],
    /// Numbers of a patch's latent code.
    code: usize,
    seed: u64,
    pace: Pace,
    /// Of a blind spot.
    targets: Option<Targets>,
    /// Pixels around each cube from which patches may begin, `[y, x]`.
    borders: Vec<[usize; 2]>,
    noise: NoiseModel,
    /// Lanes of this rank.
    lanes: Range<usize>,
    /// This rank's lines, prepared, where they fit the memory that the configuration allows.
    cached: Vec<(Lines, Prepared)>,
    validation: Vec<CropOrigin>,
    /// Whether a GPU holds the lines.
    on_gpu: bool,
}

impl<'a> Crops<'a> {
    /// # Collective
    /// # Errors
    /// Unreadable data.
    pub fn new(comm: &Comm, config: &Config, cubes: &'a [Cube], model: &Model) -> Result<Self> {
        let spec = &model.spec;
        let (patch, train) = (spec.patch(), &config.train);
        let targets = match spec {
            Spec::Blind(spec) => Some(Targets::new(spec, train.validation)),
            Spec::Patchwise(_) => None,
        };
        let border = |cube: &Cube| targets.as_ref().map_or([0; 2], |targets| targets.border(cube.size()));
        let borders: Vec<[usize; 2]> = cubes.iter().map(border).collect();
        let extents = cubes.iter().zip(&borders).map(|(cube, border)| cube.extent().with_border(*border));
        let extents: Vec<Extent> = extents.collect();
        // A blind spot keeps cells for validation, not lines.
        let validation = if targets.is_some() { 0.0 } else { train.validation };
        let plan = LanePlan::new(&extents, patch, train.lanes, validation);
        let lanes = owned(plan.lanes.len(), comm.rank(), comm.size());
        let mut crops = Crops {
            cubes,
            patch,
            code: spec.code().iter().product(),
            seed: config.seed,
            noise: model.noise,
            pace: config.pace(),
            validation: match &targets {
                Some(targets) => targets.validation(cubes.iter().zip(&borders)),
                None => validation_origins(&plan, cubes, patch[1]),
            },
            cached: Vec::new(),
            on_gpu: false,
            targets,
            borders,
            lanes,
            plan,
        };
        let cached = crops.fill_cache(config.io.memory_mib << 20);
        comm.agree(cached)?;
        Ok(crops)
    }

    /// Keeps this rank's lines in memory if they take at most half of `memory`, bytes. Rank-local.
    fn fill_cache(&mut self, memory: u64) -> Result<()> {
        let mut lines = self.plan.lines_read(self.lanes.clone());
        for run in &mut lines {
            let ([border, _], [height, _]) = (self.borders[run.cube], self.cubes[run.cube].size());
            let within = |row: usize| row.saturating_sub(border).min(height);
            run.rows = within(run.rows.start)..within(run.rows.end);
        }
        let voxels: usize = lines
            .iter()
            .map(|run| run.rows.len() * self.cubes[run.cube].size()[1] * self.cubes[run.cube].energy.size)
            .sum();
        if voxels as u64 * 4 > memory / 2 {
            return Ok(());
        }
        for run in lines {
            let cube = &self.cubes[run.cube];
            let prepared = cube.lines_to_keep(run.rows.clone(), &self.noise)?;
            self.cached.push((run, prepared));
        }
        Ok(())
    }

    /// This rank's lines for a GPU to hold: electrons `[y, x, energy]`, 0 where training does not look. From then on only
    /// the origins of patches are drawn. `None` if the lines are not cached or take more than `memory` bytes, or if a patch
    /// reaches beyond its cube. Rank-local.
    pub fn lines_for_gpu(&mut self, memory: usize) -> Option<Vec<(Lines, Array3<f32>)>> {
        let voxels: usize = self.cached.iter().map(|(_, held)| held.counts.len()).sum();
        let narrow = |(cube, border): (&Cube, &[usize; 2])| {
            (0..2).any(|axis| cube.size()[axis] + 2 * border[axis] < self.patch[axis])
        };
        if self.cached.is_empty() || 4 * voxels > memory || self.cubes.iter().zip(&self.borders).any(narrow) {
            return None;
        }
        self.on_gpu = true;
        let trained = self.cached.iter().map(|(lines, prepared)| {
            let (cube, [above, left]) = (&self.cubes[lines.cube], self.borders[lines.cube]);
            let (rows, columns, channels) = prepared.counts.dim();
            let mut counts = Array3::zeros((rows + 2 * above, columns + 2 * left, channels));
            for ((y, x), &valid) in prepared.valid.indexed_iter() {
                if valid && cube.is_trained_on(lines.rows.start + y, x) {
                    let spectrum = prepared.counts.slice(s![y, x, ..]);
                    counts.slice_mut(s![above + y, left + x, ..]).assign(&spectrum);
                }
            }
            // Counted from the border, as patches are.
            (Lines { cube: lines.cube, rows: lines.rows.start..lines.rows.end + 2 * above }, counts)
        });
        Some(trained.collect())
    }

    /// Logs how the work is spread. Rank-local.
    pub fn describe(&self, comm: &Comm, config: &Config, length: TrainingLength) {
        if !comm.is_root() {
            return;
        }
        let micro_batches = self.pace.micro_batches();
        log::info!(
            "steps={} steps_per_epoch={} lanes={} micro_batches={micro_batches} validation_patches={} cached={}",
            length.steps,
            length.steps_per_epoch,
            self.plan.lanes.len(),
            self.validation_patches(),
            !self.cached.is_empty()
        );
        if self.validation.is_empty() && config.train.validation > 0.0 {
            log::info!("validation is off: the archive is too small to set lines apart");
        }
        if comm.size() > micro_batches.min(self.plan.lanes.len()) {
            log::warn!(
                "{} ranks share {micro_batches} micro-batches from {} lanes: some idle while training; raise \
                 train.global_batch to {} and train.learning_rate by the square root of that factor",
                comm.size(),
                self.plan.lanes.len(),
                comm.size() * self.pace.micro_batch
            );
        }
    }

    /// This rank's part of step `step` (from 0): the micro-batches whose lanes are its own. The networks of the folds are still
    /// `together`, or each has targets of its own. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn draw(&self, step: usize, together: bool) -> Result<Vec<MicroBatch>> {
        let asked = if together { Asked::Any } else { Asked::Trained };
        let (micro_batches, micro_batch) = (self.pace.micro_batches(), self.pace.micro_batch);
        let lane = |index| self.plan.lane_of(step, index, micro_batches);
        (0..micro_batches)
            .into_par_iter()
            .filter(|&index| self.lanes.contains(&lane(index)))
            .map(|index| {
                let mut drawn = MicroBatch {
                    index,
                    origins: Vec::with_capacity(micro_batch),
                    patches: Vec::with_capacity(micro_batch),
                    noise: Vec::with_capacity(micro_batch * self.code),
                    hidden: self.targets.as_ref().map(|targets| match together {
                        true => targets.none(0),
                        false => targets.none(step * micro_batches + index),
                    }),
                };
                for sample in 0..micro_batch {
                    let number = ((step * micro_batches + index) * micro_batch + sample) as u64;
                    // Each sample of the whole training has its own stream of random numbers.
                    let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                    rng.set_stream(number + 1);
                    let (cube, y, x) = self.plan.crop(lane(index), rng.random::<f64>());
                    drawn.noise.extend((0..self.code).map(|_| -> f32 { StandardNormal.sample(&mut rng) }));
                    let origin = CropOrigin { cube, y, x };
                    drawn.origins.push(origin);
                    if let (Some(targets), Some(hidden)) = (&self.targets, &mut drawn.hidden) {
                        let phase = [(); 2].map(|()| rng.random_range(0..targets.period()));
                        targets.hide(hidden, sample, phase, |at| self.place(origin, at), asked);
                    }
                    if !self.on_gpu {
                        drawn.patches.push(self.counts(origin)?);
                    }
                }
                Ok(drawn)
            })
            .collect()
    }

    /// The cube's pixel `[y, x]` that is the pixel `at` of the patch at an origin, and the number of the cube's lines; none
    /// beyond the cube.
    fn place(&self, origin: CropOrigin, at: [usize; 2]) -> Option<([usize; 2], usize)> {
        let (size, border) = (self.cubes[origin.cube].size(), self.borders[origin.cube]);
        let along = |axis: usize, first: usize| {
            (first + at[axis]).checked_sub(border[axis]).filter(|&pixel| pixel < size[axis])
        };
        Some(([along(0, origin.y)?, along(1, origin.x)?], size[0]))
    }

    /// The number of validation patches.
    pub fn validation_patches(&self) -> usize {
        self.validation.len() * self.targets.as_ref().map_or(1, Targets::views)
    }

    /// Validation patch `i`, as a micro-batch of its own; of a blind spot its targets are the pixels that are `trained` on, or
    /// those that are not. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn validation_patch(&self, i: usize, trained: bool) -> Result<MicroBatch> {
        // Of a blind spot, each patch is looked at in several phases, and by each fold.
        let views = self.targets.as_ref().map_or(1, Targets::views);
        let origin = self.validation[i / views];
        let mut batch = MicroBatch {
            index: i,
            origins: vec![origin],
            patches: vec![self.counts(origin)?],
            noise: Vec::new(),
            hidden: None,
        };
        if let Some(targets) = &self.targets {
            let (phase, fold) = targets.view(i % views);
            let asked = if trained { Asked::Trained } else { Asked::Own };
            let mut hidden = targets.none(fold);
            targets.hide(&mut hidden, 0, phase, |at| self.place(origin, at), asked);
            batch.hidden = Some(hidden);
        }
        Ok(batch)
    }

    /// Electrons of the patch at an origin. Where the cube ends, patches that are rebuilt are mirrored, and those of a blind
    /// spot go on with zeros.
    fn counts(&self, CropOrigin { cube, y, x }: CropOrigin) -> Result<Array3<f32>> {
        let (source, border) = (&self.cubes[cube], self.borders[cube]);
        let size = source.size();
        let first = [y as isize - border[0] as isize, x as isize - border[1] as isize];
        let covered = |axis: usize| {
            let end = first[axis] + self.patch[axis] as isize;
            first[axis].max(0) as usize..(end.max(0) as usize).min(size[axis])
        };
        let (rows, columns) = (covered(0), covered(1));
        let mut patch = Array3::zeros((self.patch[0], self.patch[1], source.energy.size));
        if rows.is_empty() || columns.is_empty() {
            return Ok(patch);
        }
        let held = self
            .cached
            .iter()
            .find(|(lines, _)| lines.cube == cube && lines.rows.start <= rows.start && rows.end <= lines.rows.end);
        let (counts, valid) = match held {
            Some((lines, prepared)) => {
                let rows = rows.start - lines.rows.start..rows.end - lines.rows.start;
                let counts = prepared.counts.slice(s![rows.clone(), columns.clone(), ..]);
                (counts.to_owned(), prepared.valid.slice(s![rows, columns.clone()]).to_owned())
            }
            None => {
                let prepared = source.window(rows.clone(), columns.clone(), &self.noise)?;
                (prepared.counts, prepared.valid)
            }
        };
        let (height, width, _) = counts.dim();
        let along = |i: usize, axis: usize, from: usize, count: usize| match &self.targets {
            Some(_) => usize::try_from(first[axis] + i as isize - from as isize).ok().filter(|&at| at < count),
            None => Some(reflect(i as isize, count)),
        };
        for i in 0..self.patch[0] {
            for j in 0..self.patch[1] {
                let places = (along(i, 0, rows.start, height), along(j, 1, columns.start, width));
                let (Some(row), Some(column)) = places else { continue };
                if valid[[row, column]] && source.is_trained_on(rows.start + row, columns.start + column) {
                    patch.slice_mut(s![i, j, ..]).assign(&counts.slice(s![row, column, ..]));
                }
            }
        }
        Ok(patch)
    }
}

/// Patches side by side along the validation blocks, thinned out evenly.
fn validation_origins(plan: &LanePlan, cubes: &[Cube], width: usize) -> Vec<CropOrigin> {
    let origins: Vec<CropOrigin> = plan
        .validation
        .iter()
        .flat_map(|block| {
            let last = cubes[block.cube].size()[1].saturating_sub(width);
            (0..=last).step_by(width).map(|x| CropOrigin { cube: block.cube, y: block.rows.start, x })
        })
        .collect();
    let kept = origins.len().min(VALIDATION_PATCHES);
    (0..kept).map(|i| origins[i * origins.len() / kept]).collect()
}
