//! Reconstruction of whole scan lines, by overlapping tiles that are blended so that no tile grid shows.
//!
//! Tiles lie every half patch, anchored on the cube, and so do the batches in which they are computed: a pixel's
//! reconstruction never depends on the rank or thread.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;

use ndarray::{Array2, Array3, ArrayView3, ArrayViewMut3, Axis, s};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::super::line::Line;
use super::network::Network;
use super::spec::Patchwise;
use crate::preprocess::whiten::whiten;
use crate::shard::reflect;

/// The size of a batch of tiles is fixed, since another may be rounded differently. On a CPU its tiles side by side would
/// span this many columns at most: there are fewer tiles where they are larger, so that every thread gets some.
const COLUMNS_ON_CPU: usize = 96;
const TILES_ON_GPU: usize = 32;

/// Runs a trained network over a cube `[y, x, energy]`.
pub struct Tiles {
    spec: Patchwise,
    networks: Vec<Mutex<Network>>,
    device: Device,
    mean: Vec<f32>,
    size: [usize; 2],
    rows: Vec<usize>,
    columns: Vec<usize>,
}

/// One reconstructed tile, which begins at column `left`: shares `[y, x, energy]` and its latent mean.
struct Tile {
    left: usize,
    shares: Array3<f32>,
    latent: Vec<f32>,
}

/// Weighted sums over the tiles that cover a scan line.
struct Blend {
    y: usize,
    shares: Array2<f32>,
    latent: Array2<f32>,
    weight: Vec<f32>,
}

impl Tiles {
    /// For a cube of `size` `[y, x]` pixels; `mean` `[energy]` is the training's mean spectrum, sum 1.
    pub fn new(spec: &Patchwise, values: &Tensor, device: Device, mean: &[f64], size: [usize; 2]) -> Tiles {
        let threads = match device {
            Device::Cpu => rayon::current_num_threads(),
            _ => 1,
        };
        let values = values.to_device(device);
        Tiles {
            spec: spec.clone(),
            networks: (0..threads).map(|_| Mutex::new(Network::new(spec, &values, device, Kind::Float))).collect(),
            device,
            mean: mean.iter().map(|&m| m as f32).collect(),
            size,
            rows: origins(size[0], spec.patch[0]),
            columns: origins(size[1], spec.patch[1]),
        }
    }

    /// The lines that must be read to reconstruct `band`: those of all tiles that touch it.
    pub fn halo(&self, band: &Range<usize>) -> Range<usize> {
        match (self.tile_rows(band).first(), self.tile_rows(band).last()) {
            (Some(first), Some(last)) => *first..(last + self.spec.patch[0]).min(self.size[0]),
            _ => band.clone(),
        }
    }

    /// Origins of the tile rows that touch `band`.
    fn tile_rows(&self, band: &Range<usize>) -> Vec<usize> {
        self.rows
            .iter()
            .copied()
            .filter(|&y| !band.is_empty() && y < band.end && y + self.spec.patch[0] > band.start)
            .collect()
    }

    /// Reconstructs the lines of `band`, in order, and passes each to `emit`.
    ///
    /// `read` returns the electrons `[y, x, energy]` of a range of the cube's lines. Rank-local.
    ///
    /// # Errors
    /// Those of `read` and `emit`.
    pub fn reconstruct<E>(
        &self,
        band: Range<usize>,
        mut read: impl FnMut(Range<usize>) -> Result<Array3<f32>, E>,
        mut emit: impl FnMut(Line) -> Result<(), E>,
    ) -> Result<(), E> {
        let height = self.spec.patch[0];
        let tile_rows = self.tile_rows(&band);
        let mut open: VecDeque<Blend> = VecDeque::new();
        let mut next = band.start;
        for (i, &top) in tile_rows.iter().enumerate() {
            let lines = top..(top + height).min(self.size[0]);
            let counts = read(lines.clone())?;
            while next < band.end.min(lines.end) {
                open.push_back(self.blend(next));
                next += 1;
            }
            let batches = self.batches();
            // As many batches at a time as there are networks: a wide cube has too many tiles to hold at once.
            for batches in batches.chunks(self.networks.len()) {
                let tiles = self.tiles(counts.view(), batches);
                open.par_iter_mut().for_each(|blend| self.add(blend, top, &tiles));
            }
            let done = tile_rows.get(i + 1).copied().unwrap_or(band.end);
            while open.front().is_some_and(|blend| blend.y < done) {
                let blend = open.pop_front().expect("a front was just seen");
                emit(blend.finish())?;
            }
        }
        Ok(())
    }

    /// The tiles of `batches`, one batch per network, from the lines `[<= patch y, x, energy]` of their row.
    fn tiles(&self, counts: ArrayView3<f32>, batches: &[&[usize]]) -> Vec<Tile> {
        let tiles = batches.par_iter().zip(&self.networks).map(|(columns, network)| {
            // Never contended: the lock only lets the compiler know that each network has one user.
            let network = network.lock().expect("no thread panics while it holds a network");
            self.run(&network, counts, columns)
        });
        tiles.collect::<Vec<Vec<Tile>>>().into_iter().flatten().collect()
    }

    /// Electrons `[y, x, energy]` of the tile that begins at column `left`, mirrored where the cube is smaller.
    fn patch(&self, counts: ArrayView3<f32>, left: usize) -> Array3<f32> {
        let [height, width] = self.spec.patch;
        let mut patch = Array3::zeros((height, width, self.spec.energy));
        for (y, mut line) in patch.outer_iter_mut().enumerate() {
            let y = reflect(y as isize, counts.dim().0);
            for (x, mut spectrum) in line.outer_iter_mut().enumerate() {
                let x = reflect((left + x) as isize, self.size[1]);
                spectrum.assign(&counts.slice(s![y, x, ..]));
            }
        }
        patch
    }

    /// Origins of a row's tiles, by batch: two batches at least where they are not of one tile, on which libtorch is slow,
    /// and as even as can be.
    fn batches(&self) -> Vec<&[usize]> {
        let most = match self.device {
            Device::Cpu => (COLUMNS_ON_CPU / self.spec.patch[1]).max(3),
            _ => TILES_ON_GPU,
        };
        let tiles = self.columns.len();
        let count = tiles.div_ceil(most).max((tiles / 2).min(2));
        let start = |batch| batch * tiles / count;
        (0..count).map(|batch| &self.columns[start(batch)..start(batch + 1)]).collect()
    }

    fn run(&self, network: &Network, counts: ArrayView3<f32>, columns: &[usize]) -> Vec<Tile> {
        let spec = &self.spec;
        let ([height, width], energy) = (spec.patch, spec.energy);
        let size = height * width * energy;
        let mut input = vec![0f32; columns.len() * size];
        for (tile, &left) in input.chunks_mut(size).zip(columns) {
            let patch = self.patch(counts, left);
            let tile = ArrayViewMut3::from_shape(patch.dim(), tile).expect("a tile's size");
            whiten(patch.view(), &self.mean, tile);
        }
        let shape = [columns.len(), 1, height, width, energy].map(|n| n as i64);
        tch::no_grad(|| {
            let input = Tensor::from_slice(&input).view(shape).to_device(self.device);
            let (latent, _) = network.encode(&input);
            let shares = network.decode(&latent).softmax(-1, Kind::Float).to_device(Device::Cpu).contiguous();
            let latent = latent.to_device(Device::Cpu).contiguous();
            (0..columns.len())
                .map(|i| {
                    let mut values = vec![0f32; size];
                    shares.get(i as i64).copy_data(&mut values, size);
                    let mut codes = vec![0f32; spec.latent];
                    latent.get(i as i64).copy_data(&mut codes, spec.latent);
                    Tile {
                        left: columns[i],
                        shares: Array3::from_shape_vec((height, width, energy), values)
                            .expect("a tile has the patch's size"),
                        latent: codes,
                    }
                })
                .collect()
        })
    }

    fn blend(&self, y: usize) -> Blend {
        let columns = self.size[1];
        Blend {
            y,
            shares: Array2::zeros((columns, self.spec.energy)),
            latent: Array2::zeros((columns, self.spec.latent)),
            weight: vec![0.0; columns],
        }
    }

    /// Adds the tiles of the row at `top` to one line.
    fn add(&self, blend: &mut Blend, top: usize, tiles: &[Tile]) {
        let [height, width] = self.spec.patch;
        if blend.y < top || blend.y >= top + height {
            return;
        }
        let line = blend.y - top;
        for tile in tiles {
            let left = tile.left;
            for x in left..(left + width).min(self.size[1]) {
                let weight = pyramid(line, height) * pyramid(x - left, width);
                let share = tile.shares.slice(s![line, x - left, ..]);
                let mut sum = blend.shares.index_axis_mut(Axis(0), x);
                sum.scaled_add(weight, &share);
                for (sum, code) in blend.latent.row_mut(x).iter_mut().zip(&tile.latent) {
                    *sum += weight * code;
                }
                blend.weight[x] += weight;
            }
        }
    }
}

impl Blend {
    fn finish(mut self) -> Line {
        for (x, &weight) in self.weight.iter().enumerate() {
            self.shares.row_mut(x).mapv_inplace(|v| v / weight);
            self.latent.row_mut(x).mapv_inplace(|v| v / weight);
        }
        Line { y: self.y, shares: self.shares, latent: self.latent }
    }
}

/// Weight of pixel `i` of `size` along one side of a tile: 1 at the borders, rising to the middle.
fn pyramid(i: usize, size: usize) -> f32 {
    (i.min(size - 1 - i) + 1) as f32
}

/// Where tiles of `patch` begin on an axis of `size`: every half patch, and one that ends with the axis.
fn origins(size: usize, patch: usize) -> Vec<usize> {
    let last = size.saturating_sub(patch);
    let mut origins: Vec<usize> = (0..last).step_by((patch / 2).max(1)).collect();
    origins.push(last);
    origins
}
