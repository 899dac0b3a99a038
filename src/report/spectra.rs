//! The spectra of a cube for its page to explore: read from its file again, binned where they are many.

use std::path::Path;

use anyhow::{Result, ensure};
use ndarray::{Array2, Array3, ArrayView2, s};

use crate::archive::Source;
use crate::config::Config;
use crate::cube::{Axis, CubeInfo};
use crate::output::read_signal_f32;
use crate::preprocess::noise::NoiseModel;
use crate::results::titles::{ENERGY_SHIFT, RECONSTRUCTION};
use crate::results::{is_of, read_json, read_map};
use crate::stream::{Cube, Shifts};

/// Most bytes of single-precision numbers that a page holds of one cube.
const MOST_BYTES: usize = 32 << 20;

/// The spectra of a cube, and as a model has them.
#[derive(Clone, Debug)]
pub struct Spectra {
    /// Mean electrons of each square of `bin` times `bin` pixels, `[y, x, energy]`; NaN where all are ignored.
    pub counts: Array3<f32>,
    pub bin: usize,
    pub model: Modelled,
}

/// How a model has the spectra.
#[derive(Clone, Debug)]
pub enum Modelled {
    /// As `by` reconstructs each of them: binned as the counts are, from the channel `first` on.
    Each { by: String, first: usize, counts: Array3<f32> },
    /// Principal components `[component, energy]`, and their loadings `[y, x, component]`.
    Components { factors: Array2<f32>, loadings: Array3<f32> },
}

impl Spectra {
    /// Reads the cube whose results are at `path` again, with the noise, energies and shifts that it was scored with; its
    /// principal components are `factors` `[energy, component]` and `loadings` `[pixel, component]`. Rank-local.
    ///
    /// # Errors
    /// A cube that is gone, or is another one by now.
    pub fn read(
        config: &Config,
        path: &Path,
        energy: &Axis,
        is_reconstructed: bool,
        (factors, loadings): (ArrayView2<f64>, ArrayView2<f64>),
    ) -> Result<Spectra> {
        let info: CubeInfo = read_json(path, "cube")?;
        let mut cube = Cube::open(&Source { path: info.path.clone(), id: info.id.clone(), named: false }, config)?;
        ensure!(is_of(path, &cube, config)?, "{} has changed since it was scored", info.path.display());
        if let Ok(map) = read_map(path, ENERGY_SHIFT) {
            cube.shifts = Some(Shifts { map, unmeasured: 0, by: String::new() });
        }
        cube.conform(energy);
        let noise: NoiseModel = read_json(path, "noise")?;
        let [height, width, channels] = cube.shape();
        let bin = bin_of([height, width, channels]);
        let mut binned = Binned::new([height, width, channels], bin);
        for rows in (0..height).step_by(bin).map(|row| row..(row + bin).min(height)) {
            let prepared = cube.lines(rows.clone(), &noise)?;
            for ((i, x), _) in prepared.valid.indexed_iter().filter(|(_, valid)| **valid) {
                binned.add(rows.start + i, x, prepared.counts.slice(s![i, x, ..]).iter().copied());
            }
        }
        let counts = binned.means();
        let model = if is_reconstructed {
            let (axes, values) = read_signal_f32(path, RECONSTRUCTION)?;
            let values: Array3<f32> = values.into_dimensionality()?;
            let first = ((axes[2].offset - energy.offset) / energy.scale).round().max(0.0) as usize;
            Modelled::Each { by: "cvae".into(), first, counts: means(&values, bin) }
        } else {
            let shape = (height, width, loadings.ncols());
            let all = loadings.mapv(|loading| loading as f32).into_shape_with_order(shape)?;
            Modelled::Components { factors: factors.t().mapv(|factor| factor as f32), loadings: means(&all, bin) }
        };
        Ok(Spectra { counts, bin, model })
    }
}

/// The least side of the squares that are averaged for a cube of `shape`.
fn bin_of([height, width, channels]: [usize; 3]) -> usize {
    let bytes = |bin: usize| 4 * height.div_ceil(bin) * width.div_ceil(bin) * channels;
    (1..).find(|&bin| bytes(bin) <= MOST_BYTES || bin >= height.max(width)).unwrap_or(1)
}

/// Means over squares of pixels.
struct Binned {
    sums: Array3<f32>,
    pixels: Array2<f32>,
    bin: usize,
}

impl Binned {
    fn new([height, width, channels]: [usize; 3], bin: usize) -> Binned {
        let (rows, columns) = (height.div_ceil(bin), width.div_ceil(bin));
        Binned { sums: Array3::zeros((rows, columns, channels)), pixels: Array2::zeros((rows, columns)), bin }
    }

    fn add(&mut self, y: usize, x: usize, values: impl Iterator<Item = f32>) {
        let (y, x) = (y / self.bin, x / self.bin);
        self.pixels[[y, x]] += 1.0;
        let mut sums = self.sums.slice_mut(s![y, x, ..]);
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }

    /// NaN where nothing was added.
    fn means(mut self) -> Array3<f32> {
        for ((y, x), &pixels) in self.pixels.indexed_iter() {
            self.sums.slice_mut(s![y, x, ..]).mapv_inplace(|sum| sum / pixels);
        }
        self.sums
    }
}

/// The means of `values` `[y, x, _]` over squares of `bin` times `bin` pixels that hold numbers.
fn means(values: &Array3<f32>, bin: usize) -> Array3<f32> {
    let (height, width, depth) = values.dim();
    let mut binned = Binned::new([height, width, depth], bin);
    for (y, x) in ndarray::indices((height, width)) {
        let pixel = values.slice(s![y, x, ..]);
        if pixel.iter().all(|value| value.is_finite()) {
            binned.add(y, x, pixel.iter().copied());
        }
    }
    binned.means()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole_and_what_does_not_is_binned() {
        assert_eq!(bin_of([64, 64, 1024]), 1);
        assert_eq!(bin_of([64, 64, 2048]), 1);
        assert_eq!(bin_of([65, 64, 2048]), 2);
        assert_eq!(bin_of([1024, 1024, 2048]), 16);
        assert_eq!(bin_of([1, 1, 1 << 30]), 1);
    }

    #[test]
    fn bins_are_means_of_the_pixels_that_count() {
        let mut values = Array3::from_shape_fn((3, 2, 2), |(y, x, e)| (4 * y + 2 * x + e) as f32);
        values.slice_mut(s![0, 1, ..]).fill(f32::NAN);
        values.slice_mut(s![2, .., ..]).fill(f32::NAN);
        let found = means(&values, 2);
        assert_eq!(found.dim(), (2, 1, 2));
        // The pixels (0, 0), (1, 0) and (1, 1).
        assert!((found[[0, 0, 1]] - 13.0 / 3.0).abs() < 1e-6 && found[[1, 0, 0]].is_nan());
        assert_eq!(means(&values, 1).slice(s![1, .., ..]), values.slice(s![1, .., ..]));
    }
}
