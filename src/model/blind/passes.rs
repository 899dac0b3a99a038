//! Prediction of whole scan lines by a blind spot: as many passes as it takes to hide each pixel in the middle of a block.
//!
//! Tiles of lines are anchored on the cube, and see as many lines around them as a prediction depends on: a pixel's
//! prediction never depends on the rank or thread.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use ndarray::{Array2, Array3, ArrayView2, Axis, s};
use rayon::prelude::*;
use tch::{Device, Tensor};

use super::super::line::Line;
use super::hiding::{is_hidden, is_inner, phases};
use super::network::Network;
use super::spec::{Blind, STRIDE};

/// Pixels `[y, x]` of a tile at most.
const TILE: [usize; 2] = [32, 256];
/// Pixels on each side on which a prediction depends, and of the x axis a multiple of the stride.
pub(super) const REACH: [usize; 2] = [10, 44];
/// Pixels beyond the cube, never seen, as in training.
const BORDER: [usize; 2] = [4, 8];
/// Lines that are read at once.
const READ: usize = 8;

/// Runs a trained blind spot over a cube `[y, x, energy]`.
pub struct Passes {
    spec: Blind,
    networks: Vec<Mutex<Network>>,
    device: Device,
    size: [usize; 2],
}

/// What the networks see of some lines.
struct Seen {
    /// The first line.
    top: usize,
    /// Of each fold, `[y, x, components]`.
    features: Vec<Array3<f32>>,
    /// Whether a pixel has electrons, `[y, x]`.
    lit: Array2<bool>,
}

/// A tile in one pass.
struct Pass {
    /// Pixels to predict, `[y, x]`.
    tile: [Range<usize>; 2],
    phase: [usize; 2],
}

/// Predicted pixels `[y, x]`, and how much of each component each holds, end to end.
type Predicted = (Vec<[usize; 2]>, Vec<f32>);

impl Passes {
    /// For a cube of `size` `[y, x]` pixels; `mean` `[energy]` is the training's mean spectrum, sum 1.
    pub fn new(spec: &Blind, values: &Tensor, device: Device, mean: &[f64], size: [usize; 2]) -> Passes {
        let threads = match device {
            Device::Cpu => rayon::current_num_threads(),
            _ => 1,
        };
        let network = || Mutex::new(Network::new(spec, &values.to_device(device), mean, device));
        Passes { spec: spec.clone(), networks: (0..threads).map(|_| network()).collect(), device, size }
    }

    /// The lines that must be read to predict those of `band`.
    pub fn halo(&self, band: &Range<usize>) -> Range<usize> {
        if band.is_empty() {
            return band.clone();
        }
        let tile = |y: usize| y / TILE[0] * TILE[0];
        self.seen_by(&(tile(band.start)..(tile(band.end - 1) + TILE[0]).min(self.size[0])))
    }

    /// The cube's lines that are seen to predict the tile of `lines`.
    fn seen_by(&self, lines: &Range<usize>) -> Range<usize> {
        lines.start.saturating_sub(REACH[0])..(lines.end + REACH[0]).min(self.size[0])
    }

    /// As [`Tiles::reconstruct`](super::super::Tiles::reconstruct).
    pub fn reconstruct<E>(
        &self,
        band: Range<usize>,
        mut read: impl FnMut(Range<usize>) -> Result<Array3<f32>, E>,
        mut emit: impl FnMut(Line) -> Result<(), E>,
    ) -> Result<(), E> {
        let first = band.start / TILE[0] * TILE[0];
        for top in (first..band.end).step_by(TILE[0]) {
            let tile = top..(top + TILE[0]).min(self.size[0]);
            let wanted = tile.start.max(band.start)..tile.end.min(band.end);
            let seen = self.see(&tile, &mut read)?;
            let amounts = self.predict(&tile, &wanted, &seen);
            let codes = self.codes(&tile, &seen);
            for lines in wanted.clone().collect::<Vec<usize>>().chunks(self.networks.len()) {
                let made = lines.par_iter().zip(&self.networks).map(|(&y, network)| {
                    let shares = self.shares(&own(network), y, amounts.index_axis(Axis(0), y - wanted.start));
                    Line { y, shares, latent: codes.index_axis(Axis(0), y - tile.start).to_owned() }
                });
                made.collect::<Vec<Line>>().into_iter().try_for_each(&mut emit)?;
            }
        }
        Ok(())
    }

    /// Reads what the tile of `lines` sees, a few lines at a time.
    fn see<E>(
        &self,
        lines: &Range<usize>,
        read: &mut impl FnMut(Range<usize>) -> Result<Array3<f32>, E>,
    ) -> Result<Seen, E> {
        let rows = self.seen_by(lines);
        let [width, components] = [self.size[1], self.spec.components];
        let mut seen = Seen {
            top: rows.start,
            features: vec![Array3::zeros((rows.len(), width, components)); self.spec.folds],
            lit: Array2::from_elem((rows.len(), width), false),
        };
        for start in rows.clone().step_by(READ) {
            let part = start..(start + READ).min(rows.end);
            let counts = read(part.clone())?;
            let mut read: Vec<ArrayView2<f32>> = counts.outer_iter().collect();
            for (i, some) in read.chunks_mut(self.networks.len()).enumerate() {
                let made =
                    some.par_iter().zip(&self.networks).map(|(line, network)| self.features(&own(network), *line));
                for (j, of_folds) in made.collect::<Vec<Vec<Array2<f32>>>>().into_iter().enumerate() {
                    let y = part.start - rows.start + i * self.networks.len() + j;
                    for (features, of_fold) in seen.features.iter_mut().zip(&of_folds) {
                        features.index_axis_mut(Axis(0), y).assign(of_fold);
                    }
                }
            }
            for (y, line) in counts.outer_iter().enumerate() {
                for (x, spectrum) in line.outer_iter().enumerate() {
                    seen.lit[[part.start - rows.start + y, x]] = spectrum.iter().any(|&u| u > 0.0);
                }
            }
        }
        Ok(seen)
    }

    /// The features `[x, components]` of a line's electrons `[x, energy]`, for each fold.
    fn features(&self, network: &Network, line: ArrayView2<f32>) -> Vec<Array2<f32>> {
        let line = line.as_standard_layout();
        let counts = Tensor::from_slice(line.as_slice().expect("the standard layout is one slice"));
        let counts = counts.view([self.size[1] as i64, -1]).to_device(self.device);
        let of_fold = |fold| to_array(&tch::no_grad(|| network.features(fold, &counts)));
        (0..self.spec.folds).map(of_fold).collect()
    }

    /// Amounts `[lines, x, components]` of the lines that are `wanted` of the tile of `lines`.
    fn predict(&self, lines: &Range<usize>, wanted: &Range<usize>, seen: &Seen) -> Array3<f32> {
        let [height, width] = self.size;
        let mut passes = Vec::new();
        for left in (0..width).step_by(TILE[1]) {
            for y in phases(height).filter(|&phase| wanted.clone().any(|y| is_inner(y, phase, height))) {
                passes.extend(
                    phases(width)
                        .map(|x| Pass { tile: [lines.clone(), left..(left + TILE[1]).min(width)], phase: [y, x] }),
                );
            }
        }
        let count = self.networks.len();
        let predicted = self.networks.par_iter().enumerate().flat_map_iter(|(i, network)| {
            let network = own(network);
            let mine = passes.iter().skip(i).step_by(count);
            let made: Vec<Predicted> = mine.flat_map(|pass| self.pass(&network, pass, seen)).collect();
            made
        });
        let mut amounts = Array3::zeros((wanted.len(), width, self.spec.components));
        for (pixels, values) in predicted.collect::<Vec<Predicted>>() {
            let values = values.chunks(self.spec.components);
            for ([y, x], values) in pixels.into_iter().zip(values).filter(|([y, _], _)| wanted.contains(y)) {
                let values = ArrayView2::from_shape((1, values.len()), values).expect("a pixel's components");
                amounts.slice_mut(s![y - wanted.start..=y - wanted.start, x, ..]).assign(&values);
            }
        }
        amounts
    }

    /// What one pass predicts, by each fold.
    fn pass(&self, network: &Network, pass: &Pass, seen: &Seen) -> Vec<Predicted> {
        let view = View::new(&pass.tile, self.size);
        let hidden =
            |[y, x]: [usize; 2]| is_hidden(y, pass.phase[0], self.size[0]) && is_hidden(x, pass.phase[1], self.size[1]);
        let inner =
            |y: usize, x: usize| is_inner(y, pass.phase[0], self.size[0]) && is_inner(x, pass.phase[1], self.size[1]);
        let [rows, columns] = pass.tile.clone();
        let folds = 0..self.spec.folds;
        let of_fold = folds.map(|fold| {
            let [features, visible] =
                view.input(&seen.features[fold], seen, |at| !hidden(at)).map(|t| t.to_device(self.device));
            let amounts = to_array(&tch::no_grad(|| {
                let amounts = network.see(fold, &features, &visible, None).amounts;
                amounts.reshape([-1, self.spec.components as i64])
            }));
            let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| [y, x]));
            let is_own = |[y, x]: [usize; 2]| inner(y, x) && self.spec.fold_of([y, x], self.size[0]) == fold;
            let pixels: Vec<[usize; 2]> = pixels.filter(|&at| is_own(at)).collect();
            let values = pixels.iter().flat_map(|&at| amounts.row(view.index(at)).to_vec()).collect();
            (pixels, values)
        });
        of_fold.collect()
    }

    /// Latent means `[lines, x, latent]` of the tile of `lines`, of which nothing is hidden.
    fn codes(&self, lines: &Range<usize>, seen: &Seen) -> Array3<f32> {
        let network = own(&self.networks[0]);
        let [width, latent] = [self.size[1], self.spec.latent];
        let mut codes = Array3::zeros((lines.len(), width, latent));
        for left in (0..width).step_by(TILE[1]) {
            let tile = [lines.clone(), left..(left + TILE[1]).min(width)];
            let view = View::new(&tile, self.size);
            let [features, visible] = view.input(&seen.features[0], seen, |_| true).map(|t| t.to_device(self.device));
            let means = tch::no_grad(|| network.encode(0, &features, &visible).0.permute([0, 2, 3, 1]));
            let means = to_array(&means.reshape([-1, latent as i64]));
            for y in lines.clone() {
                for x in tile[1].clone() {
                    let code = means.row(view.code(y, x));
                    codes.slice_mut(s![y - lines.start, x, ..]).assign(&code);
                }
            }
        }
        codes
    }

    /// Shares `[x, energy]` of line `y` for its amounts `[x, components]`.
    fn shares(&self, network: &Network, y: usize, amounts: ArrayView2<f32>) -> Array2<f32> {
        let amounts = amounts.as_standard_layout();
        let amounts = Tensor::from_slice(amounts.as_slice().expect("the standard layout is one slice"));
        let amounts = amounts.view([self.size[1] as i64, -1]).to_device(self.device);
        let of_fold = |fold| to_array(&tch::no_grad(|| network.shares(fold, &amounts)));
        let mut shares = of_fold(0);
        for fold in 1..self.spec.folds {
            let others = of_fold(fold);
            for x in (0..self.size[1]).filter(|&x| self.spec.fold_of([y, x], self.size[0]) == fold) {
                shares.row_mut(x).assign(&others.row(x));
            }
        }
        shares
    }
}

/// The pixels that are seen to predict a tile, with those beyond the cube.
struct View {
    /// The first, `[y, x]`.
    first: [isize; 2],
    /// Their number, `[y, x]`.
    count: [usize; 2],
    /// Of the cube.
    size: [usize; 2],
}

impl View {
    fn new(tile: &[Range<usize>; 2], size: [usize; 2]) -> View {
        let along = |axis: usize| {
            if size[axis] == 1 && axis == 0 {
                return (0, 1);
            }
            let border = BORDER[axis] as isize;
            let first = (tile[axis].start as isize - REACH[axis] as isize).max(-border);
            let end = ((tile[axis].end + REACH[axis]) as isize).min(size[axis] as isize + border);
            (first, (end - first) as usize)
        };
        let ((top, height), (left, width)) = (along(0), along(1));
        View { first: [top, left], count: [height, width.next_multiple_of(STRIDE)], size }
    }

    /// Features `[1, y, x, components]`, and `[1, y, x, 1]` whether they are visible: of the cube, lit, and `shown`.
    fn input(&self, features: &Array3<f32>, seen: &Seen, shown: impl Fn([usize; 2]) -> bool) -> [Tensor; 2] {
        let components = features.dim().2;
        let [height, width] = self.count;
        let mut values = vec![0f32; height * width * components];
        let mut visible = vec![0f32; height * width];
        let places = values.chunks_mut(components).zip(&mut visible).enumerate();
        for (i, (values, visible)) in places {
            let (y, x) = (self.first[0] + (i / width) as isize, self.first[1] + (i % width) as isize);
            let within = |at: isize, axis: usize| (0..self.size[axis] as isize).contains(&at);
            if !within(y, 0) || !within(x, 1) {
                continue;
            }
            let (y, x) = (y as usize, x as usize);
            if seen.lit[[y - seen.top, x]] && shown([y, x]) {
                *visible = 1.0;
                let spectrum = features.slice(s![y - seen.top, x, ..]);
                values.iter_mut().zip(spectrum).for_each(|(value, &feature)| *value = feature);
            }
        }
        let shape = [1, height as i64, width as i64, -1];
        [Tensor::from_slice(&values).view(shape), Tensor::from_slice(&visible).view(shape)]
    }

    /// The place of a pixel of the cube among those that are seen.
    fn index(&self, [y, x]: [usize; 2]) -> usize {
        let along = |at: usize, axis: usize| (at as isize - self.first[axis]) as usize;
        along(y, 0) * self.count[1] + along(x, 1)
    }

    /// The place of a pixel's latent code.
    fn code(&self, y: usize, x: usize) -> usize {
        let along = |at: usize, axis: usize| (at as isize - self.first[axis]) as usize;
        along(y, 0) * (self.count[1] / STRIDE) + along(x, 1) / STRIDE
    }
}

/// Never contended: the lock only lets the compiler know that each network has one user.
fn own(network: &Mutex<Network>) -> MutexGuard<'_, Network> {
    network.lock().expect("no thread panics while it holds a network")
}

/// The values `[rows, columns]` of a tensor on any device.
fn to_array(tensor: &Tensor) -> Array2<f32> {
    let tensor = tensor.to_device(Device::Cpu).contiguous();
    let (rows, columns) = tensor.size2().expect("a matrix");
    let mut values = vec![0f32; (rows * columns) as usize];
    let count = values.len();
    tensor.copy_data(&mut values, count);
    Array2::from_shape_vec((rows as usize, columns as usize), values).expect("as many values as rows times columns")
}
