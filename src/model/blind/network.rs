//! The layers of the blind spot, whose parameters lie in one flat buffer.

use tch::{Device, Kind, Tensor};

use super::spec::Blind;

/// The smallest and largest logarithm of a latent variance: beyond them the Kullback-Leibler term overflows.
const LOG_VARIANCE: (f64, f64) = (-10.0, 5.0);
/// Shares are the mean spectrum times softplus(1 + x): this sharp, it is 1 + x where that is positive.
pub const SHARPNESS: f64 = 20.0;

/// One or more blind-spot CVAEs whose tensors are views of flat parameters, or of a copy of them on another device.
///
/// Each thread has its own, since gradients are taken with respect to its leaves. All is f32.
pub struct Network {
    spec: Blind,
    device: Device,
    /// Of each fold, in the order of [`Blind::shapes`].
    folds: Vec<Vec<Tensor>>,
    /// 1 / sqrt(mean spectrum), `[energy, 1]`.
    scale: Tensor,
    /// sqrt(mean spectrum), `[1, energy]`.
    root: Tensor,
}

/// What the network makes of a batch of crops.
pub struct Seen {
    /// Latent means, `[batch, latent, y, x / 4]`.
    pub mean: Tensor,
    pub log_variance: Tensor,
    /// How much of each component a pixel's spectrum holds, `[batch, y, x, components]`.
    pub amounts: Tensor,
}

impl Network {
    /// With the parameters `values` `[parameters]` f32, whose memory is shared if it is on `device`; `mean` is the mean
    /// spectrum, sum 1.
    pub fn new(spec: &Blind, values: &Tensor, mean: &[f64], device: Device) -> Network {
        let values = values.to_device(device);
        let shapes = spec.shapes();
        let mut offset = 0;
        let mut network = || {
            let leaves = shapes.iter().map(|shape| {
                let count = shape.count() as i64;
                let leaf = values.narrow(0, offset, count).view(&shape.sizes[..]);
                offset += count;
                leaf.detach().set_requires_grad(true)
            });
            leaves.collect()
        };
        let folds = (0..spec.folds).map(|_| network()).collect();
        let mean: Vec<f64> = super::super::floor::floored(mean).collect();
        let tensor = |values: Vec<f32>, shape: [i64; 2]| Tensor::from_slice(&values).view(shape).to_device(device);
        let energy = spec.energy as i64;
        Network {
            spec: spec.clone(),
            device,
            folds,
            scale: tensor(mean.iter().map(|m| (1.0 / m.sqrt()) as f32).collect(), [energy, 1]),
            root: tensor(mean.iter().map(|m| m.sqrt() as f32).collect(), [1, energy]),
        }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// The components of whitened spectra, `[..., components]`, for electrons `[..., energy]`; 0 where there are none.
    ///
    /// Whitened is `(u - U m) / sqrt(U m)`: the difference is taken after the product with the basis, which is cheaper.
    pub fn features(&self, fold: usize, counts: &Tensor) -> Tensor {
        let basis = &self.folds[fold][0];
        let root = total(counts).sqrt();
        let along_mean = self.root.matmul(basis);
        counts.matmul(&(basis * &self.scale)) / root.clamp_min(1e-3) - root * along_mean
    }

    /// Encodes and decodes `features` `[batch, y, x, components]`, of which only those that are `visible` `[batch, y, x, 1]`
    /// are seen; x is a multiple of 4.
    ///
    /// `noise` `[batch, latent, y, x / 4]` is the unit normal of the reparameterisation; without it the latent mean is
    /// decoded.
    /// # Source
    /// Kingma & Welling 2014, sec. 2.4; the blind spot: Krull et al. 2019, arXiv 1811.10980.
    pub fn see(&self, fold: usize, features: &Tensor, visible: &Tensor, noise: Option<&Tensor>) -> Seen {
        let (mean, log_variance) = self.encode(fold, features, visible);
        let code = match noise {
            Some(noise) => &mean + (&log_variance * 0.5).exp() * noise,
            None => mean.shallow_clone(),
        };
        Seen { amounts: self.decode(fold, &code), mean, log_variance }
    }

    /// Latent means and logarithms of variances, as [`Seen`] holds them.
    pub fn encode(&self, fold: usize, features: &Tensor, visible: &Tensor) -> (Tensor, Tensor) {
        let layers = Layers(&self.folds[fold]);
        // Channels stay last in memory.
        let input = Tensor::cat(&[features * visible, visible.shallow_clone()], -1).permute([0, 3, 1, 2]);
        let mut x = layers.convolution(0, &input, [1, 1], [1, 1]).gelu("none");
        for i in [1, 2] {
            let shorter = x.avg_pool2d([1, 2], [1, 2], [0, 0], false, true, None::<i64>);
            x = layers.convolution(i, &x, [1, 2], [1, 2]).gelu("none") + shorter;
        }
        for i in [3, 4] {
            x = layers.convolution(i, &x, [1, 1], [1, 3]).gelu("none") + x;
        }
        let latent = layers.convolution(5, &x, [1, 1], [0, 0]);
        let size = self.spec.latent as i64;
        let (mean, log_variance) = (latent.narrow(1, 0, size), latent.narrow(1, size, size));
        (mean, log_variance.clamp(LOG_VARIANCE.0, LOG_VARIANCE.1))
    }

    /// Amounts `[batch, y, x, components]` for latent codes `[batch, latent, y, x / 4]`.
    fn decode(&self, fold: usize, code: &Tensor) -> Tensor {
        let layers = Layers(&self.folds[fold]);
        let mut x = layers.convolution(6, code, [1, 1], [1, 1]).gelu("none");
        for i in [7, 8] {
            x = layers.transposed(i, &x).gelu("none");
        }
        let x = layers.convolution(9, &x, [1, 1], [1, 1]).gelu("none");
        layers.convolution(10, &x, [1, 1], [1, 1]).permute([0, 2, 3, 1])
    }

    /// The basis of the last layer `[energy, components]`, and the logarithm of the mean spectrum `[energy]`.
    pub fn output(&self, fold: usize) -> [&Tensor; 2] {
        let leaves = &self.folds[fold];
        [&leaves[leaves.len() - 2], &leaves[leaves.len() - 1]]
    }

    /// Shares `[n, energy]` of the electrons for amounts `[n, components]`, each pixel's sum 1.
    pub fn shares(&self, fold: usize, amounts: &Tensor) -> Tensor {
        let [basis, log_mean] = self.output(fold);
        let bent = ((amounts.matmul(&basis.tr()) + 1.0) * SHARPNESS).softplus();
        let shares = bent * log_mean.exp();
        &shares / total(&shares).clamp_min(1e-12)
    }

    /// Writes the gradient of the scalar `loss` of `fold` to `gradient` `[parameters]` f32, on any device; it is 0 for the
    /// other folds.
    pub fn gradient(&self, fold: usize, loss: &Tensor, gradient: &Tensor) {
        let leaves = &self.folds[fold];
        let parts = Tensor::run_backward(&[loss], leaves, false, false);
        let each = gradient.size()[0] / self.folds.len() as i64;
        let mut offset = fold as i64 * each;
        tch::no_grad(|| {
            if self.folds.len() > 1 {
                let _ = gradient.shallow_clone().zero_();
            }
            for (part, leaf) in parts.iter().zip(leaves) {
                let count = leaf.numel() as i64;
                gradient.narrow(0, offset, count).view(&leaf.size()[..]).copy_(part);
                offset += count;
            }
        });
    }
}

/// The sum over the last axis, which stays.
pub fn total(x: &Tensor) -> Tensor {
    x.sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)
}

/// The parameters of one network.
struct Layers<'a>(&'a [Tensor]);

impl Layers<'_> {
    /// Weight and bias of convolution `i`, with the weight's last axis second, as libtorch has it.
    fn of(&self, i: usize) -> (Tensor, &Tensor) {
        // The input's basis comes first.
        (self.0[1 + 2 * i].permute([0, 3, 1, 2]), &self.0[2 + 2 * i])
    }

    fn convolution(&self, i: usize, x: &Tensor, stride: [i64; 2], pad: [i64; 2]) -> Tensor {
        let (weight, bias) = self.of(i);
        x.conv2d(&weight, Some(bias), stride, pad, [1i64, 1], 1)
    }

    /// Twice as many columns.
    fn transposed(&self, i: usize, x: &Tensor) -> Tensor {
        let (weight, bias) = self.of(i);
        x.conv_transpose2d(&weight, Some(bias), [1i64, 2], [1i64, 1], [0i64, 0], 1, [1i64, 1])
    }
}
