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
use crate::comm::Comm;
use crate::config::{Config, TrainingLength};
use crate::preprocess::noise::NoiseModel;
use crate::preprocess::prepare::Prepared;
use crate::shard::{Extent, LanePlan, Lines, owned, reflect};
use crate::stream::Cube;

/// The most patches that validation looks at.
const VALIDATION_PATCHES: usize = 64;

/// Where a patch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropOrigin {
    pub cube: usize,
    pub y: usize,
    pub x: usize,
}

/// A fixed part of a global batch, whose gradient is formed as one.
pub struct MicroBatch {
    /// Its index among those of the step.
    pub index: usize,
    pub origins: Vec<CropOrigin>,
    /// Patches `[y, x, energy]` of electrons, 0 in the pixels that training leaves out; none where a GPU holds the lines.
    pub patches: Vec<Array3<f32>>,
    /// Unit normals of the reparameterisation, `[patch, latent]`.
    pub noise: Vec<f32>,
}

/// Where crops come from.
pub struct Crops<'a> {
    cubes: &'a [Cube],
    plan: LanePlan,
    patch: [usize; 2],
    latent: usize,
    seed: u64,
    /// Micro-batches of a step over all ranks, and patches in each.
    micro_batches: usize,
    micro_batch: usize,
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
        let extents: Vec<Extent> = cubes.iter().map(Cube::extent).collect();
        let patch = model.spec.patch;
        let train = &config.train;
        let plan = LanePlan::new(&extents, patch, train.lanes, train.validation);
        let lanes = owned(plan.lanes.len(), comm.rank(), comm.size());
        let mut crops = Crops {
            cubes,
            patch,
            latent: model.spec.latent,
            seed: config.seed,
            noise: model.noise,
            micro_batches: train.global_batch / train.micro_batch,
            micro_batch: train.micro_batch,
            validation: validation_origins(&plan, cubes, patch[1]),
            cached: Vec::new(),
            on_gpu: false,
            lanes,
            plan,
        };
        let cached = crops.fill_cache(config.io.memory_mib << 20);
        comm.agree(cached)?;
        Ok(crops)
    }

    /// Keeps this rank's lines in memory if they take at most half of `memory`, bytes. Rank-local.
    fn fill_cache(&mut self, memory: u64) -> Result<()> {
        let lines = self.plan.lines_read(self.lanes.clone());
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
        let narrow = |cube: &Cube| (0..2).any(|axis| cube.size()[axis] < self.patch[axis]);
        if self.cached.is_empty() || 4 * voxels > memory || self.cubes.iter().any(narrow) {
            return None;
        }
        self.on_gpu = true;
        let trained = self.cached.iter().map(|(lines, prepared)| {
            let cube = &self.cubes[lines.cube];
            let mut counts = prepared.counts.clone();
            for ((y, x), &valid) in prepared.valid.indexed_iter() {
                if !valid || !cube.is_trained_on(lines.rows.start + y, x) {
                    counts.slice_mut(s![y, x, ..]).fill(0.0);
                }
            }
            (lines.clone(), counts)
        });
        Some(trained.collect())
    }

    /// Logs how the work is spread. Rank-local.
    pub fn describe(&self, comm: &Comm, config: &Config, length: TrainingLength) {
        if !comm.is_root() {
            return;
        }
        let micro_batches = self.micro_batches;
        log::info!(
            "steps={} steps_per_epoch={} lanes={} micro_batches={micro_batches} validation_patches={} cached={}",
            length.steps,
            length.steps_per_epoch,
            self.plan.lanes.len(),
            self.validation.len(),
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
                comm.size() * config.train.micro_batch
            );
        }
    }

    /// This rank's part of step `step` (from 0): the micro-batches whose lanes are its own. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn draw(&self, step: usize) -> Result<Vec<MicroBatch>> {
        let lane = |index| self.plan.lane_of(step, index, self.micro_batches);
        (0..self.micro_batches)
            .into_par_iter()
            .filter(|&index| self.lanes.contains(&lane(index)))
            .map(|index| {
                let mut drawn = MicroBatch {
                    index,
                    origins: Vec::with_capacity(self.micro_batch),
                    patches: Vec::with_capacity(self.micro_batch),
                    noise: Vec::with_capacity(self.micro_batch * self.latent),
                };
                for sample in 0..self.micro_batch {
                    let number = ((step * self.micro_batches + index) * self.micro_batch + sample) as u64;
                    // Each sample of the whole training has its own stream of random numbers.
                    let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                    rng.set_stream(number + 1);
                    let (cube, y, x) = self.plan.crop(lane(index), rng.random::<f64>());
                    drawn.noise.extend((0..self.latent).map(|_| -> f32 { StandardNormal.sample(&mut rng) }));
                    let origin = CropOrigin { cube, y, x };
                    drawn.origins.push(origin);
                    if !self.on_gpu {
                        drawn.patches.push(self.counts(origin)?);
                    }
                }
                Ok(drawn)
            })
            .collect()
    }

    /// The number of validation patches.
    pub fn validation_patches(&self) -> usize {
        self.validation.len()
    }

    /// Electrons `[y, x, energy]` of validation patch `i`. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn validation_patch(&self, i: usize) -> Result<Array3<f32>> {
        self.counts(self.validation[i])
    }

    /// Electrons of the patch at an origin, mirrored where the cube is smaller.
    fn counts(&self, CropOrigin { cube, y, x }: CropOrigin) -> Result<Array3<f32>> {
        let source = &self.cubes[cube];
        let [height, width] = source.size();
        let rows = y..(y + self.patch[0]).min(height);
        let columns = x..(x + self.patch[1]).min(width);
        let held = self
            .cached
            .iter()
            .find(|(lines, _)| lines.cube == cube && lines.rows.start <= rows.start && rows.end <= lines.rows.end);
        let (counts, valid) = match held {
            Some((lines, prepared)) => {
                let rows = rows.start - lines.rows.start..rows.end - lines.rows.start;
                let counts = prepared.counts.slice(s![rows.clone(), columns.clone(), ..]);
                (counts.to_owned(), prepared.valid.slice(s![rows, columns]).to_owned())
            }
            None => {
                let prepared = source.window(rows, columns, &self.noise)?;
                (prepared.counts, prepared.valid)
            }
        };
        let (rows, columns, channels) = counts.dim();
        let mut patch = Array3::zeros((self.patch[0], self.patch[1], channels));
        for i in 0..self.patch[0] {
            for j in 0..self.patch[1] {
                let (row, column) = (reflect(i as isize, rows), reflect(j as isize, columns));
                if valid[[row, column]] && source.is_trained_on(y + row, x + column) {
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
