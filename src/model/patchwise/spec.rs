//! The layers of a 3D-CVAE that rebuilds patches, and the sizes that follow from them. No tensors here.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::super::shape::{Shape, Start};

/// One convolution of the encoder, its arrays `[y, x, energy]`. The decoder mirrors it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    pub out: usize,
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub pad: [usize; 3],
}

/// A 3D-CVAE that rebuilds patches from a latent code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patchwise {
    /// Pixels of a patch, `[y, x]`.
    pub patch: [usize; 2],
    /// Channels of the energy axis.
    pub energy: usize,
    /// Latent dimensions.
    pub latent: usize,
    /// Width of the layer between the convolutions and the latent space.
    pub hidden: usize,
    pub encoder: Vec<Layer>,
}

impl Patchwise {
    /// The layers of the given `widths`; the first has a stride of `first_stride` along energy.
    ///
    /// # Source
    /// Sultanov et al. 2025, arXiv 2412.16200.
    pub fn new(
        size: ([usize; 2], usize),
        latent: usize,
        hidden: usize,
        widths: [usize; 4],
        first_stride: usize,
    ) -> Self {
        let layer = |out, kernel, stride, pad| Layer { out, kernel, stride, pad };
        let (patch, energy) = size;
        Patchwise {
            patch,
            energy,
            latent,
            hidden,
            encoder: vec![
                layer(widths[0], [1, 1, 7], [1, 1, first_stride], [0, 0, 3]),
                layer(widths[1], [3, 3, 5], [1, 1, 2], [1, 1, 2]),
                layer(widths[2], [3, 3, 3], [2, 2, 2], [1, 1, 1]),
                layer(widths[3], [3, 3, 3], [2, 2, 2], [1, 1, 1]),
            ],
        }
    }

    /// # Errors
    /// A layer that makes no sense, or that is larger than what it gets.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.energy >= 16,
            "the 3D-CVAE needs at least 16 energy channels and has {}: widen archive.energy_range_ev",
            self.energy
        );
        ensure!(
            self.latent > 0 && self.hidden > 0 && !self.encoder.is_empty(),
            "the 3D-CVAE needs layers and latent dimensions"
        );
        ensure!(
            self.patch.iter().all(|&pixels| pixels >= 1),
            "the 3D-CVAE needs patches of at least 1 x 1 pixels and has {:?}",
            self.patch
        );
        let mut size = [self.patch[0], self.patch[1], self.energy];
        for (i, layer) in self.encoder.iter().enumerate() {
            for (d, size) in size.iter_mut().enumerate() {
                ensure!(
                    layer.stride[d] > 0 && layer.kernel[d] > layer.pad[d] && layer.out > 0,
                    "layer {} of the 3D-CVAE has a stride of 0, no channels, or more padding than kernel",
                    i + 1
                );
                let Some(steps) = (*size + 2 * layer.pad[d]).checked_sub(layer.kernel[d]) else {
                    bail!(
                        "layer {} of the 3D-CVAE has a kernel of {} for {size} values: take larger patches or more channels",
                        i + 1,
                        layer.kernel[d]
                    );
                };
                *size = steps / layer.stride[d] + 1;
            }
        }
        Ok(())
    }

    /// Sizes `[channels, y, x, energy]` of the input and after each layer of the encoder.
    pub fn sizes(&self) -> Vec<[usize; 4]> {
        let mut sizes = vec![[1, self.patch[0], self.patch[1], self.energy]];
        for layer in &self.encoder {
            let mut next = sizes[sizes.len() - 1];
            for d in 0..3 {
                next[d + 1] = (next[d + 1] + 2 * layer.pad[d] - layer.kernel[d]) / layer.stride[d] + 1;
            }
            next[0] = layer.out;
            sizes.push(next);
        }
        sizes
    }

    /// What the transposed convolution adds at the end, `[y, x, energy]`, to restore the size before layer `i` of the encoder.
    pub fn output_padding(&self, i: usize) -> [i64; 3] {
        let sizes = self.sizes();
        let layer = &self.encoder[i];
        std::array::from_fn(|d| {
            let reached = (sizes[i + 1][d + 1] - 1) * layer.stride[d] + layer.kernel[d] - 2 * layer.pad[d];
            (sizes[i][d + 1] - reached) as i64
        })
    }

    /// The number of values between the convolutions and the hidden layer.
    pub fn flat(&self) -> usize {
        self.sizes()[self.encoder.len()].iter().product()
    }

    /// Pixels of a patch.
    pub fn pixels(&self) -> usize {
        self.patch[0] * self.patch[1]
    }

    /// The trainable tensors, in the order in which they lie in the flat parameters.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes = Vec::new();
        let mut push = |name: String, sizes: Vec<usize>, start: Start, bias: usize| {
            shapes.push(Shape::new(format!("{name}.weight"), &sizes, start));
            shapes.push(Shape::new(format!("{name}.bias"), &[bias], Start::Bias));
        };
        let channels: Vec<usize> = self.sizes().iter().map(|size| size[0]).collect();
        for (i, layer) in self.encoder.iter().enumerate() {
            let [ky, kx, ke] = layer.kernel;
            push(
                format!("encoder.{i}"),
                vec![channels[i + 1], ky, kx, ke, channels[i]],
                Start::FanIn(channels[i] * ky * kx * ke),
                channels[i + 1],
            );
        }
        let (flat, hidden, latent) = (self.flat(), self.hidden, self.latent);
        push("encoder.hidden".into(), vec![hidden, flat], Start::FanIn(flat), hidden);
        push("encoder.latent".into(), vec![2 * latent, hidden], Start::FanIn(hidden), 2 * latent);
        push("decoder.hidden".into(), vec![hidden, latent], Start::FanIn(latent), hidden);
        push("decoder.flat".into(), vec![flat, hidden], Start::FanIn(hidden), flat);
        for (i, layer) in self.encoder.iter().enumerate().rev() {
            let [ky, kx, ke] = layer.kernel;
            let start = match i {
                0 => Start::Small,
                _ => Start::FanIn(channels[i] * ky * kx * ke),
            };
            push(format!("decoder.{i}"), vec![channels[i + 1], ky, kx, ke, channels[i]], start, channels[i]);
        }
        shapes.push(Shape::new("decoder.log_mean".into(), &[self.energy], Start::LogMean));
        shapes
    }

    /// Floating-point operations of one training step per patch: two for each product of a weight, forward, and twice as
    /// many backward, but for the gradient of the input.
    pub fn flops_per_sample(&self) -> f64 {
        let sizes = self.sizes();
        let mut products = (2 * self.flat() + 3 * self.latent) * self.hidden;
        for (i, layer) in self.encoder.iter().enumerate() {
            let [_, y, x, energy] = sizes[i + 1];
            let taps: usize = layer.kernel.iter().product();
            // The encoder's and the decoder's.
            products += 2 * y * x * energy * layer.out * sizes[i][0] * taps;
        }
        6.0 * products as f64
    }
}
