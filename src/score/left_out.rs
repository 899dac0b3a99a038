//! Left-out recalibration: each block of pixels is judged by a regression and a covariance that have not seen it, nor the
//! blocks around it.
//!
//! Residuals are regressed on the prediction's components, and whitened by the covariance of what is left. Both follow from
//! sums of products over the pixels of each block: those of the whole cube less those of the blocks that are left out.

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::Array2;
use rayon::prelude::*;

use super::discs::Disc;
use super::sample::Sample;
use super::trust::Trust;
use crate::bands::{AT_ONCE, Bands};

/// Blocks of a field are a fifth of its shorter side, within these bounds; those of a scan a sixteenth of it.
const SIDE_PX: [usize; 2] = [3, 6];
const SCAN_PX: [usize; 2] = [2, 12];
/// No more blocks along an axis than this: their sums have to fit the memory.
const MAX_BLOCKS: usize = 24;
/// Ridge of the regression, in pixels of noise.
const RIDGE: f64 = 3.0;
/// The least share of the pixels that a block is judged by, if its guard is to be kept.
const LEAST_SHARE: f64 = 0.45;
/// Bits of a sum of products that f64 holds exactly.
const EXACT_BITS: i32 = 52;

/// The blocks of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blocks {
    side: [usize; 2],
    /// Number of blocks along y and x.
    pub grid: [usize; 2],
}

impl Blocks {
    /// Of a field of `height` x `width` pixels.
    pub fn new(height: usize, width: usize) -> Blocks {
        let at_least = |side: usize, size: usize| side.max(size.div_ceil(MAX_BLOCKS));
        let side = if height == 1 {
            [1, at_least((width / 16).clamp(SCAN_PX[0], SCAN_PX[1]), width)]
        } else {
            let side = ((height.min(width) as f64 / 5.0).round() as usize).clamp(SIDE_PX[0], SIDE_PX[1]);
            [at_least(side, height), at_least(side, width)]
        };
        Blocks { side, grid: [height.div_ceil(side[0]), width.div_ceil(side[1])] }
    }

    pub fn count(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// The block of a pixel.
    pub fn of(&self, y: usize, x: usize) -> usize {
        y / self.side[0] * self.grid[1] + x / self.side[1]
    }

    /// `block` and those within `guard` of it.
    fn around(&self, block: usize, guard: usize) -> impl Iterator<Item = usize> + '_ {
        let [y, x] = [block / self.grid[1], block % self.grid[1]];
        let near = move |i: usize, count: usize| i.saturating_sub(guard)..(i + guard + 1).min(count);
        near(y, self.grid[0]).flat_map(move |y| near(x, self.grid[1]).map(move |x| y * self.grid[1] + x))
    }
}

/// What judges one block.
#[derive(Clone, Debug)]
pub struct Model {
    /// `[coordinates, columns]`: from a pixel's pooled values to its whitened residual.
    judge: DMatrix<f64>,
    /// `[coordinates, coordinates]`, symmetric.
    whitening: DMatrix<f64>,
    /// Sum of the logarithms of the variances.
    log_variance: f64,
    /// Number of directions with more variance than noise.
    pub misfit: usize,
}

impl Model {
    /// A residual `[coordinates]` of the sample, whitened.
    pub fn whitened(&self, residual: &[f64]) -> Vec<f64> {
        (&self.whitening * nalgebra::DVector::from_column_slice(residual)).iter().copied().collect()
    }

    /// The unit direction that a residual `[coordinates]` of the sample has once it is whitened; 0 if it is 0.
    pub fn direction(&self, residual: &[f64]) -> Vec<f64> {
        let whitened = self.whitened(residual);
        let length = whitened.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
        whitened.iter().map(|value| value / length).collect()
    }

    /// Writes the whitened residual of a pixel's values, whole units of `steps`, to `out`.
    fn whiten(&self, values: &[f32], steps: &[f64], out: &mut [f64]) {
        out.fill(0.0);
        for ((&value, step), column) in values.iter().zip(steps).zip(self.judge.column_iter()) {
            let value = f64::from(value) * step;
            out.iter_mut().zip(&column).for_each(|(out, weight)| *out += value * weight);
        }
    }
}

/// A sample pooled over discs of one size, and the sums of its products by block.
pub struct LeftOut {
    pub disc: Disc,
    pub blocks: Blocks,
    first_line: usize,
    width: usize,
    known: usize,
    /// `[pixels, 1 + regressors + coordinates]` of this rank in whole units of `steps`; NaN where ignored.
    values: Vec<f32>,
    steps: Vec<f64>,
    /// Pixels of each disc that count.
    pub counts: Array2<f32>,
    /// `[blocks, columns, columns]`, and the weights of the blocks.
    products: Vec<f64>,
    weights: Vec<f64>,
    total: Vec<f64>,
    total_weight: f64,
    guard: usize,
}

impl LeftOut {
    /// Pools the sample over `disc`, without the pixels `left_out`, and sums the products of those with a weight.
    ///
    /// # Collective
    pub fn new(
        sample: &Sample,
        trust: Trust,
        disc: &Disc,
        weights: &Array2<bool>,
        left_out: Option<&Array2<bool>>,
        guard: usize,
    ) -> LeftOut {
        let bands = sample.bands;
        let (lines, width) = bands.shape();
        let regressors = sample.regressors_of(trust);
        let known = 1 + regressors.len();
        let unpooled = |k: usize| {
            let mut map = match k.checked_sub(regressors.len()) {
                None => regressors[k].clone(),
                Some(k) if trust.as_it_is => &sample.counted[k] - &sample.predicted[k],
                Some(k) => sample.counted[k].clone(),
            };
            if let Some(left_out) = left_out {
                map.iter_mut().zip(left_out).filter(|(_, out)| **out).for_each(|(value, _)| *value = f32::NAN);
            }
            map
        };
        let mut columns = Vec::new();
        let mut counts = Array2::zeros((lines, width));
        let all: Vec<usize> = (0..regressors.len() + sample.dimensions()).collect();
        for some in all.chunks(AT_ONCE) {
            let maps: Vec<Array2<f32>> = some.iter().map(|&k| unpooled(k)).collect();
            let (pooled, found) = disc.pooled_each(bands, &maps);
            columns.extend(pooled);
            counts = found;
        }
        // A constant, pooled as the others are: 1 in every pixel, root of the number of pixels in a disc.
        let last = columns.last().expect("there are coordinates");
        let constant = ndarray::Zip::from(last).and(&counts).map_collect(|value, count| match value.is_nan() {
            true => f32::NAN,
            false => count.sqrt(),
        });
        columns.insert(0, constant);
        let steps = steps(bands, &columns);
        let size = columns.len();
        let mut values = vec![f32::NAN; lines * width * size];
        values.par_chunks_mut(width.max(1) * size).enumerate().for_each(|(y, line)| {
            for (k, (column, step)) in columns.iter().zip(&steps).enumerate() {
                for (x, &value) in column.row(y).iter().enumerate() {
                    line[x * size + k] = (f64::from(value) / step).round() as f32;
                }
            }
        });
        let [height, _] = bands.field();
        let mut found = LeftOut {
            disc: disc.clone(),
            blocks: Blocks::new(height, width),
            first_line: bands.own().start,
            width,
            known,
            values,
            steps,
            counts,
            products: Vec::new(),
            weights: Vec::new(),
            total: Vec::new(),
            total_weight: 0.0,
            guard,
        };
        found.sum(bands, weights);
        found
    }

    /// Sums the products of whole units, which f64 holds exactly: their order does not matter.
    ///
    /// # Collective
    fn sum(&mut self, bands: &Bands, weights: &Array2<bool>) {
        let (blocks, size) = (self.blocks, self.steps.len());
        let part = size * size + 1;
        let lines: Vec<usize> = (0..weights.nrows()).collect();
        let of_blocks = |lines: &[usize]| {
            let mut pixels: Vec<Vec<f64>> = vec![Vec::new(); blocks.grid[1]];
            for &y in lines {
                for x in 0..self.width {
                    let pixel = &self.values[(y * self.width + x) * size..][..size];
                    if weights[[y, x]] && !pixel[0].is_nan() {
                        pixels[blocks.of(0, x)].extend(pixel.iter().map(|&value| f64::from(value)));
                    }
                }
            }
            let products = pixels.into_iter().flat_map(|pixels| {
                let number = pixels.len() / size;
                let pixels = Array2::from_shape_vec((number, size), pixels).expect("whole pixels");
                pixels.t().dot(&pixels).into_iter().chain([number as f64]).collect::<Vec<f64>>()
            });
            products.collect::<Vec<f64>>()
        };
        let row_of = |y: &usize| (self.first_line + y) / blocks.side[0];
        let rows: Vec<&[usize]> = lines.chunk_by(|a, b| row_of(a) == row_of(b)).collect();
        let summed: Vec<(usize, Vec<f64>)> =
            rows.par_iter().map(|lines| (row_of(&lines[0]), of_blocks(lines))).collect();
        let mut sums = vec![0i64; blocks.count() * part];
        for (row, found) in summed {
            let sums = &mut sums[row * blocks.grid[1] * part..][..found.len()];
            sums.iter_mut().zip(found).for_each(|(sum, value)| *sum += value as i64);
        }
        bands.comm.sum_i64(&mut sums);
        self.products = vec![0.0; blocks.count() * size * size];
        self.weights = sums.chunks(part).map(|block| block[size * size] as f64).collect();
        for (found, block) in self.products.chunks_mut(size * size).zip(sums.chunks(part)) {
            for i in 0..size {
                for j in i..size {
                    let value = block[i * size + j] as f64 * self.steps[i] * self.steps[j];
                    found[i * size + j] = value;
                    found[j * size + i] = value;
                }
            }
        }
        self.total = vec![0.0; size * size];
        for block in self.products.chunks(size * size) {
            self.total.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
        }
        self.total_weight = self.weights.iter().sum();
    }

    /// Number of values that residuals are regressed on, the constant among them.
    pub fn num_known(&self) -> usize {
        self.known
    }

    /// Number of coordinates.
    pub fn dimensions(&self) -> usize {
        self.steps.len() - self.known
    }

    /// What `block` is judged by: the pixels beyond its guard. Rank-local.
    ///
    /// # Source
    /// Ridge regression; eigenvalues of a covariance from few pixels are taken back to those of a spiked model, Baik &
    /// Silverstein, J. Multivar. Anal. 97 (2006) 1382.
    pub fn model(&self, block: usize) -> Model {
        let size = self.steps.len();
        let kept =
            |guard: usize| self.total_weight - self.blocks.around(block, guard).map(|b| self.weights[b]).sum::<f64>();
        let guard = (1..=self.guard).rev().find(|&guard| kept(guard) >= LEAST_SHARE * self.total_weight).unwrap_or(0);
        let weight = kept(guard).max(1.0);
        let mut rest = DMatrix::from_column_slice(size, size, &self.total);
        for near in self.blocks.around(block, guard) {
            rest -= DMatrix::from_column_slice(size, size, &self.products[near * size * size..][..size * size]);
        }
        let (known, pixels) = (self.known, self.disc.pixels() as f64);
        let dimensions = size - known;
        let own = rest.view((0, 0), (known, known)).into_owned();
        let with = rest.view((0, known), (known, dimensions)).into_owned();
        let mut normal = own.clone();
        normal[(0, 0)] += 1e-6 * weight;
        (1..known).for_each(|k| normal[(k, k)] += RIDGE * pixels);
        let regression = match normal.cholesky() {
            Some(factors) => factors.solve(&with),
            None => DMatrix::zeros(known, dimensions),
        };
        let cross = with.tr_mul(&regression);
        let others = rest.view((known, known), (dimensions, dimensions)) - &cross - cross.transpose();
        let covariance = (others + regression.tr_mul(&(own * &regression))) / weight;
        let eigen = SymmetricEigen::new((&covariance + covariance.transpose()) * 0.5);
        let ratio = dimensions as f64 * pixels / weight;
        let edge = (1.0 + ratio.sqrt()).powi(2);
        let variance = |value: f64| {
            let sum = value + 1.0 - ratio;
            if value > edge { 0.5 * (sum + (sum * sum - 4.0 * value).max(0.0).sqrt()) } else { 1.0 }
        };
        let variances = eigen.eigenvalues.map(variance);
        let scaled = DMatrix::from_fn(dimensions, dimensions, |i, k| eigen.eigenvectors[(i, k)] / variances[k].sqrt());
        let whitening = scaled * eigen.eigenvectors.transpose();
        let mut judge = DMatrix::zeros(dimensions, size);
        judge.view_mut((0, 0), (dimensions, known)).copy_from(&-(&whitening * regression.transpose()));
        judge.view_mut((0, known), (dimensions, dimensions)).copy_from(&whitening);
        Model {
            judge,
            whitening,
            log_variance: variances.iter().map(|v| v.ln()).sum(),
            misfit: variances.iter().filter(|&&v| v > 1.0).count(),
        }
    }

    /// The models of the blocks that this rank has pixels of, by block. Rank-local.
    pub fn models(&self) -> Vec<Option<Model>> {
        let lines = self.counts.nrows();
        let rows = match lines {
            0 => 0..0,
            _ => self.first_line / self.blocks.side[0]..(self.first_line + lines - 1) / self.blocks.side[0] + 1,
        };
        let width = self.blocks.grid[1];
        let own = rows.start * width..rows.end * width;
        (0..self.blocks.count()).into_par_iter().map(|block| own.contains(&block).then(|| self.model(block))).collect()
    }

    /// The whitened residual `[pixels, coordinates]` of each of this rank's pixels, by what judges its block; NaN where
    /// ignored. Rank-local.
    pub fn residuals(&self, models: &[Option<Model>]) -> Residuals {
        self.judged(|y, x| models[self.blocks.of(y, x)].as_ref().expect("a model for each block of the band"))
    }

    /// The same by one model for all. Rank-local.
    pub fn residuals_by(&self, model: &Model) -> Residuals {
        self.judged(|_, _| model)
    }

    /// The residuals along a direction that depends on the block. Rank-local.
    pub fn along<'d>(&self, residuals: &Residuals, direction: impl Fn(usize) -> &'d [f64] + Sync) -> Vec<f32> {
        let dot = |(i, pixel): (usize, &[f32])| {
            let direction = direction(self.blocks.of(self.first_line + i / self.width, i % self.width));
            pixel.iter().zip(direction).map(|(&value, d)| f64::from(value) * d).sum::<f64>() as f32
        };
        residuals.values.par_chunks(residuals.dimensions).enumerate().map(dot).collect()
    }

    fn judged<'m>(&self, model: impl Fn(usize, usize) -> &'m Model + Sync) -> Residuals {
        let (size, dimensions) = (self.steps.len(), self.dimensions());
        let mut values = vec![f32::NAN; self.counts.len() * dimensions];
        let mut likelihood = vec![f32::NAN; self.counts.len()];
        let lines =
            values.par_chunks_mut((self.width * dimensions).max(1)).zip(likelihood.par_chunks_mut(self.width.max(1)));
        lines.enumerate().for_each(|(y, (line, likelihood))| {
            let mut whitened = vec![0.0; dimensions];
            for (x, out) in line.chunks_mut(dimensions).enumerate() {
                let pixel = &self.values[(y * self.width + x) * size..][..size];
                if pixel[0].is_nan() {
                    continue;
                }
                let model = model(self.first_line + y, x);
                model.whiten(pixel, &self.steps, &mut whitened);
                let square: f64 = whitened.iter().map(|v| v * v).sum();
                likelihood[x] = (-0.5 * square - 0.5 * model.log_variance) as f32;
                out.iter_mut().zip(&whitened).for_each(|(out, &value)| *out = value as f32);
            }
        });
        Residuals { dimensions, values, likelihood }
    }
}

/// Whitened residuals of this rank's pixels.
pub struct Residuals {
    pub dimensions: usize,
    /// `[pixels, coordinates]`, NaN where ignored.
    pub values: Vec<f32>,
    /// The log likelihood of each pixel, but for a constant; NaN where ignored.
    pub likelihood: Vec<f32>,
}

impl Residuals {
    /// The residuals along `direction`.
    pub fn along(&self, direction: &[f64]) -> Vec<f32> {
        let dot = |pixel: &[f32]| pixel.iter().zip(direction).map(|(&v, d)| f64::from(v) * d).sum::<f64>() as f32;
        self.values.par_chunks(self.dimensions).map(dot).collect()
    }

    /// Squared lengths.
    pub fn squares(&self) -> Vec<f32> {
        let square = |pixel: &[f32]| pixel.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() as f32;
        self.values.par_chunks(self.dimensions).map(square).collect()
    }
}

/// For each column a power of two: in whole units of it the products of any two, summed over all pixels, are exact in f64.
///
/// # Collective
fn steps(bands: &Bands, columns: &[Array2<f32>]) -> Vec<f64> {
    let bits = (bands.num_valid.max(1) as f64).log2().ceil() as i32;
    let largest = |column: &Array2<f32>| {
        column.iter().filter(|v| v.is_finite()).fold(1e-6, |most, v| f64::max(most, f64::from(v.abs())))
    };
    let mut steps: Vec<f64> = columns.iter().map(largest).collect();
    bands.comm.max_each_f64(&mut steps);
    steps.iter_mut().for_each(|step| *step = 2f64.powi((step.log2().ceil() as i32 + 1) - (EXACT_BITS - bits) / 2));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_field_and_have_neighbours() {
        let blocks = Blocks::new(96, 50);
        assert_eq!((blocks.side, blocks.grid), ([6, 6], [16, 9]));
        assert_eq!(blocks.of(95, 49), 16 * 9 - 1);
        assert_eq!(blocks.around(0, 1).collect::<Vec<_>>(), [0, 1, 9, 10]);
        assert_eq!(blocks.around(10, 1).count(), 9);
        let scan = Blocks::new(1, 200);
        assert_eq!((scan.side, scan.grid), ([1, 12], [1, 17]));
        let large = Blocks::new(4000, 1000);
        assert!(large.count() <= MAX_BLOCKS * MAX_BLOCKS && large.of(3999, 999) < large.count());
    }
}
