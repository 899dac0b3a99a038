//! The patches that training draws: which, and from where they are read.
//!
//! A crop is a function of the seed and of its number in the whole training, so that ranks, threads and interruptions
//! change nothing.

use std::ops::Range;

use anyhow::Result;
use ndarray::{Array2, Array3, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::Model;
use crate::comm::Comm;
use crate::config::{Config, TrainingLength};
use crate::preprocess::noise::NoiseModel;
use crate::preprocess::prepare::Prepared;
use crate::shard::{Extent, LanePlan, Lines, owned, reflect};
use crate::stream::Cube;

/// Most patches that validation looks at.
const VALIDATION_PATCHES: usize = 64;

/// Where a patch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropOrigin {
    pub cube: usize,
    pub y: usize,
    pub x: usize,
}

/// A fixed part of a global batch, whose gradient is formed at once.
pub struct MicroBatch {
    /// Its place among those of the step.
    pub slot: usize,
    pub places: Vec<CropOrigin>,
    /// Patches `[y, x, energy]` of electrons, 0 in the pixels that training leaves out; none where a GPU cuts them itself.
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
    slots: usize,
    micro_batch: usize,
    noise: NoiseModel,
    /// Lanes of this rank.
    lanes: Range<usize>,
    /// This rank's lines, prepared, where they fit the memory that the configuration gives.
    cached: Vec<(Lines, Prepared)>,
    validation: Vec<(usize, usize, usize)>,
    /// Whether a GPU has the lines.
    handed_over: bool,
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
            slots: train.global_batch / train.micro_batch,
            micro_batch: train.micro_batch,
            validation: validation_places(&plan, cubes, patch[1]),
            cached: Vec::new(),
            handed_over: false,
            lanes,
            plan,
        };
        let cached = crops.fill_cache(config.io.memory_mib << 20);
        comm.agree(cached)?;
        Ok(crops)
    }

    /// Keeps this rank's lines in memory where they take at most half of what is allowed. Rank-local.
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

    /// This rank's lines, electrons `[y, x, energy]`, 0 where training does not look, if they are in memory, take at most
    /// `room` bytes and no patch reaches beyond its cube. From then on patches are drawn as places alone. Rank-local.
    pub fn hand_over(&mut self, room: usize) -> Option<Vec<(Lines, Array3<f32>)>> {
        let voxels: usize = self.cached.iter().map(|(_, held)| held.counts.len()).sum();
        let narrow = |cube: &Cube| (0..2).any(|axis| cube.size()[axis] < self.patch[axis]);
        if self.cached.is_empty() || 4 * voxels > room || self.cubes.iter().any(narrow) {
            return None;
        }
        self.handed_over = true;
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

    /// Says how the work is spread. Rank-local.
    pub fn describe(&self, comm: &Comm, config: &Config, length: TrainingLength) {
        if !comm.is_root() {
            return;
        }
        let slots = config.train.global_batch / config.train.micro_batch;
        log::info!(
            "steps={} steps_per_epoch={} lanes={} micro_batches={slots} validation_patches={} cached={}",
            length.steps,
            length.steps_per_epoch,
            self.plan.lanes.len(),
            self.validation.len(),
            !self.cached.is_empty()
        );
        if self.validation.is_empty() && config.train.validation > 0.0 {
            log::info!("validation is off: the archive is too small to set lines apart");
        }
        if comm.size() > slots.min(self.plan.lanes.len()) {
            log::warn!(
                "{} ranks share {slots} micro-batches from {} lanes: some idle while training; raise \
                 train.global_batch to {} and train.learning_rate by the square root of that factor",
                comm.size(),
                self.plan.lanes.len(),
                comm.size() * config.train.micro_batch
            );
        }
    }

    /// What this rank works on at `step`: the micro-batches whose lanes are its own. Rank-local.
    pub fn draw(&self, step: usize) -> Result<Vec<MicroBatch>> {
        let lane = |slot| self.plan.lane_of(step, slot, self.slots);
        (0..self.slots)
            .into_par_iter()
            .filter(|&slot| self.lanes.contains(&lane(slot)))
            .map(|slot| {
                let mut drawn = MicroBatch {
                    slot,
                    places: Vec::with_capacity(self.micro_batch),
                    patches: Vec::with_capacity(self.micro_batch),
                    noise: Vec::with_capacity(self.micro_batch * self.latent),
                };
                for sample in 0..self.micro_batch {
                    let number = ((step * self.slots + slot) * self.micro_batch + sample) as u64;
                    // One stream of random numbers for each sample of the whole training.
                    let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                    rng.set_stream(number + 1);
                    let (cube, y, x) = self.plan.crop(lane(slot), rng.random::<f64>());
                    drawn.noise.extend((0..self.latent).map(|_| -> f32 { StandardNormal.sample(&mut rng) }));
                    drawn.places.push(CropOrigin { cube, y, x });
                    if !self.handed_over {
                        drawn.patches.push(self.counts(cube, y, x)?);
                    }
                }
                Ok(drawn)
            })
            .collect()
    }

    /// Number of patches that validation looks at.
    pub fn validation_patches(&self) -> usize {
        self.validation.len()
    }

    /// Validation patch `i`, without noise. Rank-local.
    pub fn validation_patch(&self, i: usize) -> Result<Array3<f32>> {
        let (cube, y, x) = self.validation[i];
        self.counts(cube, y, x)
    }

    /// Electrons of the patch at `y`, `x`, mirrored where the cube is smaller.
    fn counts(&self, cube: usize, y: usize, x: usize) -> Result<Array3<f32>> {
        let source = &self.cubes[cube];
        let [height, width] = source.size();
        let rows = y..(y + self.patch[0]).min(height);
        let columns = x..(x + self.patch[1]).min(width);
        let held = self
            .cached
            .iter()
            .find(|(lines, _)| lines.cube == cube && lines.rows.start <= rows.start && rows.end <= lines.rows.end);
        let window = match held {
            Some((lines, prepared)) => {
                let rows = rows.start - lines.rows.start..rows.end - lines.rows.start;
                Window {
                    counts: prepared.counts.slice(s![rows.clone(), columns.clone(), ..]).to_owned(),
                    valid: prepared.valid.slice(s![rows, columns.clone()]).to_owned(),
                }
            }
            None => {
                let prepared = source.window(rows.clone(), columns.clone(), &self.noise)?;
                Window { counts: prepared.counts, valid: prepared.valid }
            }
        };
        Ok(self.mirror(source, window, y, x))
    }

    fn mirror(&self, cube: &Cube, window: Window, y: usize, x: usize) -> Array3<f32> {
        let (rows, columns, channels) = window.counts.dim();
        let mut patch = Array3::zeros((self.patch[0], self.patch[1], channels));
        for i in 0..self.patch[0] {
            for j in 0..self.patch[1] {
                let (row, column) = (reflect(i as isize, rows), reflect(j as isize, columns));
                if window.valid[[row, column]] && cube.is_trained_on(y + row, x + column) {
                    patch.slice_mut(s![i, j, ..]).assign(&window.counts.slice(s![row, column, ..]));
                }
            }
        }
        patch
    }
}

struct Window {
    counts: Array3<f32>,
    valid: Array2<bool>,
}

/// Patches side by side along the validation blocks, thinned out evenly.
fn validation_places(plan: &LanePlan, cubes: &[Cube], width: usize) -> Vec<(usize, usize, usize)> {
    let places: Vec<(usize, usize, usize)> = plan
        .validation
        .iter()
        .flat_map(|block| {
            let last = cubes[block.cube].size()[1].saturating_sub(width);
            (0..=last).step_by(width).map(|x| (block.cube, block.rows.start, x))
        })
        .collect();
    let kept = places.len().min(VALIDATION_PATCHES);
    (0..kept).map(|i| places[i * places.len() / kept]).collect()
}
