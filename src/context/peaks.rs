//! The strongest plane wave in maps of a field.

use std::f64::consts::TAU;
use std::sync::Arc;

use rustfft::num_complex::{Complex32, Complex64};
use rustfft::{Fft, FftPlanner};

use super::line_offsets::LineOffsets;

/// How many times finer than a field's own the frequencies are that are looked at.
const FINER: usize = 2;
/// Rows of a pixel that lines are laid on where they are not in their places.
const ROWS: usize = 2;
/// Halvings of the step between frequencies, to place a peak.
const HALVINGS: usize = 5;

/// The power spectra of maps of one size.
pub struct Spectra {
    size: [usize; 2],
    /// Of the transform.
    length: [usize; 2],
    along: [Arc<dyn Fft<f32>>; 2],
    /// Along y, on rows of a part of a pixel.
    along_rows: Arc<dyn Fft<f32>>,
}

impl Spectra {
    /// Of maps of `size` `[y, x]` pixels.
    pub fn new(size: [usize; 2]) -> Spectra {
        let length = size.map(|n| if n == 1 { 1 } else { smooth(FINER * n) });
        let mut planner = FftPlanner::new();
        let along = length.map(|n| planner.plan_fft_forward(n));
        Spectra { size, length, along, along_rows: planner.plan_fft_forward(ROWS * length[0]) }
    }

    /// The frequency `[y, x]`, waves a pixel, that the `maps` `[y, x]`, whose lines have these `offsets`, together hold most
    /// power of. Rank-local.
    pub fn strongest(&self, maps: &[Vec<f64>], offsets: &LineOffsets) -> [f64; 2] {
        let [height, width] = self.length;
        let mut power = vec![0f32; height * width];
        // Two real maps at once, as real and imaginary parts.
        for pair in maps.chunks(2) {
            let transformed = self.transform(&pair[0], pair.get(1).map_or(&[], |map| map), offsets);
            for (sum, value) in power.iter_mut().zip(&transformed) {
                *sum += value.norm_sqr();
            }
        }
        // The power of a frequency and of its opposite together is that of the maps; half of the plane holds all.
        let opposite = |i: usize, n: usize| (n - i) % n;
        let mut best = (f32::NEG_INFINITY, [0, 0]);
        for y in 0..height {
            for x in 0..=width / 2 {
                let sum = power[y * width + x] + power[opposite(y, height) * width + opposite(x, width)];
                if sum > best.0 {
                    best = (sum, [y, x]);
                }
            }
        }
        let start = [0, 1].map(|axis| signed(best.1[axis], self.length[axis]) / self.length[axis] as f64);
        self.placed(maps, offsets, start)
    }

    /// `[y, x]` of the transform, padded with zeros.
    fn transform(&self, real: &[f64], imaginary: &[f64], offsets: &LineOffsets) -> Vec<Complex32> {
        let ([rows, columns], [height, width]) = (self.size, self.length);
        let mut lines = vec![Complex32::default(); rows * width];
        for (i, &value) in real.iter().enumerate() {
            let other = imaginary.get(i).copied().unwrap_or_default();
            lines[i / columns * width + i % columns] = Complex32::new(value as f32, other as f32);
        }
        self.along[1].process(&mut lines);
        if !offsets.are_none() {
            return self.transform_along_y(lines, offsets);
        }
        let mut turned = vec![Complex32::default(); height * width];
        for (y, line) in lines.chunks(width).enumerate() {
            for (x, &value) in line.iter().enumerate() {
                turned[x * height + y] = value;
            }
        }
        self.along[0].process(&mut turned);
        let mut transformed = vec![Complex32::default(); height * width];
        for (x, column) in turned.chunks(height).enumerate() {
            for (y, &value) in column.iter().enumerate() {
                transformed[y * width + x] = value;
            }
        }
        transformed
    }

    /// The transform along y of `lines` that are transformed along x. Each lies on the two rows next to it.
    ///
    /// # Source
    /// Gridding with a triangle, whose transform is divided by: Jackson et al., IEEE Trans. Med. Imaging 10 (1991) 473.
    fn transform_along_y(&self, lines: Vec<Complex32>, offsets: &LineOffsets) -> Vec<Complex32> {
        let [height, width] = self.length;
        let rows = ROWS * height;
        let mut turned = vec![Complex32::default(); rows * width];
        for (y, line) in lines.chunks(width).enumerate() {
            let [down, right] = offsets.of(y);
            let at = ROWS as f64 * (y as f64 + down);
            let (row, share) = (at.floor().rem_euclid(rows as f64) as usize, (at - at.floor()) as f32);
            for (x, value) in line.iter().enumerate() {
                let frequency = signed(x, width) / width as f64;
                let moved = Complex64::cis(-TAU * frequency * right);
                let value = *value * Complex32::new(moved.re as f32, moved.im as f32);
                turned[x * rows + row] += value * (1.0 - share);
                turned[x * rows + (row + 1) % rows] += value * share;
            }
        }
        self.along_rows.process(&mut turned);
        let mut transformed = vec![Complex32::default(); height * width];
        for y in 0..height {
            let frequency = signed(y, height);
            let row = frequency.rem_euclid(rows as f64) as usize;
            let half = std::f64::consts::PI * frequency / rows as f64;
            let response = if half == 0.0 { 1.0 } else { (half.sin() / half).powi(2) };
            for x in 0..width {
                transformed[y * width + x] = turned[x * rows + row] / response as f32;
            }
        }
        transformed
    }

    /// The peak near the frequency `start`, between those of the transform.
    fn placed(&self, maps: &[Vec<f64>], offsets: &LineOffsets, start: [f64; 2]) -> [f64; 2] {
        let mut at = start;
        let mut step = self.length.map(|n| if n == 1 { 0.0 } else { 0.5 / n as f64 });
        for _ in 0..HALVINGS {
            let around = |axis: usize| [-1.0, 0.0, 1.0].map(|i| at[axis] + i * step[axis]);
            let (ys, xs) = (around(0), around(1));
            let mut power = [[0.0; 3]; 3];
            for map in maps {
                for (j, &x) in xs.iter().enumerate() {
                    let along_x = wave(x, self.size[1]);
                    let lines = map
                        .chunks(self.size[1])
                        .map(|line| line.iter().zip(&along_x).map(|(&value, phase)| phase * value).sum::<Complex64>());
                    let lines: Vec<Complex64> = lines.collect();
                    for (i, &y) in ys.iter().enumerate() {
                        let along_y = (0..self.size[0]).map(|line| {
                            let [down, right] = offsets.of(line);
                            Complex64::cis(-TAU * (y * (line as f64 + down) + x * right))
                        });
                        let sum: Complex64 = lines.iter().zip(along_y).map(|(a, b)| a * b).sum();
                        power[i][j] += sum.norm_sqr();
                    }
                }
            }
            let mut best = [1, 1];
            for (i, row) in power.iter().enumerate() {
                for (j, &value) in row.iter().enumerate() {
                    if value > power[best[0]][best[1]] {
                        best = [i, j];
                    }
                }
            }
            at = [ys[best[0]], xs[best[1]]];
            step = step.map(|step| step / 2.0);
        }
        at
    }
}

/// The index of a frequency of `count`, the upper half below 0.
fn signed(index: usize, count: usize) -> f64 {
    index as f64 - if index > count / 2 { count as f64 } else { 0.0 }
}

/// exp(-i tau frequency n) for each n below `count`.
fn wave(frequency: f64, count: usize) -> Vec<Complex64> {
    (0..count).map(|n| Complex64::cis(-TAU * frequency * n as f64)).collect()
}

/// The least number from `n` on whose prime factors are 2, 3 and 5.
fn smooth(n: usize) -> usize {
    let is_smooth = |mut n: usize| {
        for factor in [2, 3, 5] {
            while n.is_multiple_of(factor) {
                n /= factor;
            }
        }
        n == 1
    };
    (n..).find(|&n| is_smooth(n)).expect("there is a power of 2")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::line_offsets::LineSums;

    #[test]
    fn a_wave_is_found_where_it_is() {
        for (size, [fy, fx]) in [([48, 60], [0.21, 0.0837]), ([33, 31], [-0.1312, 0.247]), ([1, 90], [0.0, 0.1333])] {
            let [height, width] = size;
            let mut moved = LineOffsets::none(height);
            if height > 1 {
                let sums = |line: usize| LineSums {
                    gradients: [1e6, 0.0, 1e6],
                    left: [1e6 * (line as f64 * 0.3).sin(), 1.2e6 * (line as f64 * 0.2).cos()],
                };
                moved = moved.improved(&(0..height).map(sums).collect::<Vec<_>>(), 1.0);
            }
            for offsets in [LineOffsets::none(height), moved] {
                let maps: Vec<Vec<f64>> = (0..3)
                    .map(|k| {
                        let at = |i: usize| {
                            let [down, right] = offsets.of(i / width);
                            TAU * (fy * ((i / width) as f64 + down) + fx * ((i % width) as f64 + right))
                        };
                        (0..height * width).map(|i| (at(i) + f64::from(k)).cos()).collect()
                    })
                    .collect();
                let found = Spectra::new(size).strongest(&maps, &offsets);
                let off = |axis: usize, wanted: f64| {
                    let difference = (found[axis] - wanted).rem_euclid(1.0);
                    difference.min(1.0 - difference) * size[axis] as f64
                };
                let opposite = off(0, -fy) < 0.05 && off(1, -fx) < 0.05;
                assert!(opposite || off(0, fy) < 0.05 && off(1, fx) < 0.05, "{size:?} {found:?}");
                assert!(
                    found.iter().all(|f| f.abs() <= 0.51),
                    "no alias, which lines out of place would tell apart: {found:?}"
                );
            }
        }
    }

    #[test]
    fn lengths_are_products_of_small_primes() {
        assert_eq!([1, 7, 96, 97, 258].map(smooth), [1, 8, 96, 100, 270]);
    }
}
