//! The layers of the blind spot, and where they lie in its parameters. No tensors here.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::super::floor::floored;
use super::super::shape::{Shape, Start};
use super::hiding::PERIOD;

/// Spectral components between the energy axis and the convolutions, where there are channels enough.
const COMPONENTS: usize = 24;
const CHANNELS: usize = 48;
const LATENT: usize = 16;
/// The least variance of a component that is taken for signal, in units of the noise.
const LEAST_SIGNAL: f64 = 0.05;
/// Columns of pixels for each of the latent map.
pub const STRIDE: usize = 4;

/// A 3D-CVAE that predicts pixels from their surroundings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blind {
    /// Pixels of a patch, `[y, x]`.
    pub patch: [usize; 2],
    /// Channels of the energy axis.
    pub energy: usize,
    /// Latent dimensions of each place of the latent map.
    pub latent: usize,
    /// Spectral components of the first and the last layer.
    pub components: usize,
    /// Channels of the convolutions.
    pub channels: usize,
    /// Networks, each of which is trained without the targets of its own fold of the pixels, and predicts these.
    pub folds: usize,
    /// Pixels along a side of the cells that folds come in.
    #[serde(default = "cell_of_older_models")]
    pub cell: usize,
}

/// Pixels along a side of the cells that held-out pixels come in.
pub const CELL: usize = 6;

fn cell_of_older_models() -> usize {
    CELL
}

/// Principal components of whitened spectra, from which a network starts.
pub struct Basis {
    /// `[energy, components]`, of unit length.
    pub vectors: Vec<f64>,
    /// `[components]`, in units of the noise.
    pub variances: Vec<f64>,
    /// Mean electrons of a pixel.
    pub electrons: f64,
}

impl Blind {
    pub fn new(patch: [usize; 2], energy: usize, latent: Option<usize>) -> Blind {
        let components = COMPONENTS.min(energy.saturating_sub(1));
        Blind { patch, energy, latent: latent.unwrap_or(LATENT), components, channels: CHANNELS, folds: 1, cell: CELL }
    }

    /// # Errors
    /// No layers, or a patch that blocks do not fill.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.latent > 0 && self.components > 0 && self.channels > 0 && self.folds > 0,
            "the 3D-CVAE needs components, channels and latent dimensions"
        );
        let [y, x] = self.patch;
        let fits = |pixels: usize| pixels > 0 && pixels.is_multiple_of(PERIOD);
        ensure!(
            (y == 1 || fits(y)) && fits(x),
            "the 3D-CVAE needs patches of a multiple of {PERIOD} pixels along each side, or of one line, and has {y} x {x}"
        );
        Ok(())
    }

    /// The fold of the pixel `[y, x]` of a cube of `lines`: cells take turns.
    pub fn fold_of(&self, [y, x]: [usize; 2], lines: usize) -> usize {
        match lines {
            1 => x / self.cell % self.folds,
            _ => (y / self.cell * 2 + x / self.cell % 2) % self.folds,
        }
    }

    /// The latent map of a patch, `[latent, y, x]`.
    pub fn code(&self) -> [usize; 3] {
        [self.latent, self.patch[0], self.patch[1] / STRIDE]
    }

    /// The trainable tensors of one network, in the order in which they are applied.
    pub fn shapes(&self) -> Vec<Shape> {
        let (channels, components, latent) = (self.channels, self.components, self.latent);
        let basis = |name: &str| Shape::new(name.into(), &[self.energy, components], Start::FanIn(self.energy));
        let mut shapes = vec![basis("input.basis")];
        let mut push = |name: &str, sizes: [usize; 4], start: Start, bias: usize| {
            shapes.push(Shape::new(format!("{name}.weight"), &sizes, start));
            shapes.push(Shape::new(format!("{name}.bias"), &[bias], Start::Bias));
        };
        let mut convolution = |name: &str, from: usize, to: usize, kernel: [usize; 2]| {
            let [ky, kx] = kernel;
            push(name, [to, ky, kx, from], Start::FanIn(ky * kx * from), to);
        };
        convolution("encoder.0", components + 1, channels, [3, 3]);
        convolution("encoder.1", channels, channels, [3, 5]);
        convolution("encoder.2", channels, channels, [3, 5]);
        convolution("encoder.3", channels, channels, [3, 7]);
        convolution("encoder.4", channels, channels, [3, 7]);
        convolution("encoder.latent", channels, 2 * latent, [1, 1]);
        convolution("decoder.0", latent, channels, [3, 3]);
        // Transposed: `[in, y, x, out]`.
        convolution("decoder.1", channels, channels, [3, 4]);
        convolution("decoder.2", channels, channels, [3, 4]);
        convolution("decoder.3", channels, channels, [3, 3]);
        push("decoder.4", [components, 3, 3, channels], Start::Small, components);
        shapes.push(basis("output.basis"));
        shapes.push(Shape::new("output.log_mean".into(), &[self.energy], Start::LogMean));
        shapes
    }

    /// Puts `basis` in the place of the first and the last layer of one network's `values`; `mean` is the mean spectrum.
    pub fn set_basis(&self, values: &mut [f32], mean: &[f64], basis: &Basis) {
        let count = self.energy * self.components;
        let last = values.len() - self.energy - count;
        let rows = basis.vectors.chunks(self.components).zip(floored(mean));
        for (e, (row, mean)) in rows.enumerate() {
            for (k, (vector, variance)) in row.iter().zip(&basis.variances).enumerate() {
                let place = e * self.components + k;
                let signal = (variance - 1.0).max(LEAST_SIGNAL);
                values[place] = (vector / variance.max(1.0).sqrt()) as f32;
                values[last + place] = (vector * signal.sqrt() / (mean * basis.electrons).sqrt()) as f32;
            }
        }
    }

    /// As [`Spec::flops_per_sample`](super::super::Spec::flops_per_sample).
    pub fn flops_per_sample(&self) -> f64 {
        let pixels = self.patch[0] * self.patch[1];
        let taps = |shape: &Shape| shape.count();
        let shapes = self.shapes();
        let weights = shapes.iter().filter(|shape| shape.sizes.len() == 4);
        // Columns that each convolution computes or, transposed, reads.
        let columns = [1, 2, 4, 4, 4, 4, 4, 4, 2, 1, 1];
        let products: usize = weights.zip(columns).map(|(shape, step)| taps(shape) * pixels / step).sum();
        let spectral = self.energy * self.components * (pixels + pixels / 4);
        6.0 * (products + spectral) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_layer_hold_the_basis() {
        let spec = Blind { components: 2, channels: 3, latent: 2, ..Blind::new([16, 16], 20, None) };
        let mut values = vec![9.0; spec.shapes().iter().map(Shape::count).sum()];
        let vectors: Vec<f64> = (0..40).map(f64::from).collect();
        let basis = Basis { vectors, variances: vec![4.0, 0.5], electrons: 100.0 };
        spec.set_basis(&mut values, &[0.05; 20], &basis);
        // The second channel, the two components.
        assert_eq!(values[2..4], [1.0, 3.0]);
        let last = values.len() - 20 - 40;
        let scale = 5f32.sqrt();
        let expected = [2.0 * 3f32.sqrt() / scale, 3.0 * 0.05f32.sqrt() / scale];
        let found = &values[last + 2..last + 4];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
        assert_eq!([values[40], values[last - 1], values[values.len() - 1]], [9.0; 3]);
    }
}
