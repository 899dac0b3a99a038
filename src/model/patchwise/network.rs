//! The layers, whose parameters lie in one flat buffer.

use tch::{Device, Kind, Tensor};

use super::convolution::Convolution;
use super::spec::Patchwise;

/// The smallest and largest logarithm of a latent variance: beyond them the Kullback-Leibler term overflows.
const LOG_VARIANCE: (f64, f64) = (-10.0, 5.0);

/// A 3D-CVAE whose tensors are views of flat parameters, or of a copy of them on another device or of another kind.
///
/// Each thread has its own, since gradients are taken with respect to its leaves. Latent codes and logits are f32 even where
/// layers are bf16, which near the mean spectrum's logarithms has steps of 3 %.
pub struct Network {
    spec: Patchwise,
    device: Device,
    kind: Kind,
    flat: Tensor,
    /// `[energy]`, the last of the parameters.
    log_mean: Tensor,
    /// All parameters in order, those of layers in `kind`.
    leaves: Vec<Tensor>,
    convolutions: Vec<Convolution>,
}

/// Index of a layer's weights in [`Patchwise::shapes`]; its bias comes next.
struct LayerIndex(usize);

impl Network {
    /// With the parameters `values` `[parameters]` f32, whose memory is shared if it is on `device` and `kind` is f32.
    pub fn new(spec: &Patchwise, values: &Tensor, device: Device, kind: Kind) -> Network {
        let values = values.to_device(device);
        let (flat, energy) = (values.to_kind(kind), spec.energy as i64);
        let log_mean = values.narrow(0, values.size()[0] - energy, energy);
        let mut offset = 0;
        let mut leaves: Vec<Tensor> = spec
            .shapes()
            .iter()
            .map(|shape| {
                let count: i64 = shape.sizes.iter().product();
                let leaf = flat.narrow(0, offset, count).view(&shape.sizes[..]);
                offset += count;
                leaf.detach().set_requires_grad(true)
            })
            .collect();
        let last = leaves.len() - 1;
        // A view where the layers are f32, else a copy.
        let log_mean = match kind {
            Kind::Float => log_mean,
            _ => log_mean.copy(),
        };
        leaves[last] = log_mean.detach().set_requires_grad(true);
        Network {
            convolutions: (0..spec.encoder.len()).map(|i| Convolution::new(spec, i)).collect(),
            spec: spec.clone(),
            device,
            kind,
            flat,
            log_mean,
            leaves,
        }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// The copy of the parameters in the kind of the layers; `None` where the layers are f32 and share them.
    pub fn layers(&self) -> Option<&Tensor> {
        (self.kind != Kind::Float).then_some(&self.flat)
    }

    /// Takes over `log_mean` from new `values` `[parameters]`, for whoever has updated [`layers`](Self::layers): it is f32
    /// whatever the layers are. Does nothing where all memory is shared.
    pub fn refresh_log_mean(&self, values: &Tensor) {
        if self.kind != Kind::Float {
            let energy = self.log_mean.size()[0];
            let last = values.narrow(0, values.size()[0] - energy, energy);
            tch::no_grad(|| self.log_mean.shallow_clone().copy_(&last));
        }
    }

    /// Latent mean and logarithm of the variance, `[batch, latent]` each, for `input` `[batch, 1, y, x, energy]`.
    pub fn encode(&self, input: &Tensor) -> (Tensor, Tensor) {
        // `[batch, y, x, energy, channels]` between the layers.
        let mut x = input.to_kind(self.kind).squeeze_dim(1).unsqueeze(-1);
        for (i, convolution) in self.convolutions.iter().enumerate() {
            let (weight, bias) = self.weight_and_bias(self.encoder(i));
            x = convolution.encode(&x, weight, bias);
        }
        let flat = x.reshape([input.size()[0], -1]);
        let hidden = self.linear(&flat, self.hidden(0)).relu_();
        let latent = self.linear(&hidden, self.hidden(1)).to_kind(Kind::Float);
        let size = self.spec.latent as i64;
        let (mean, log_variance) = (latent.narrow(1, 0, size), latent.narrow(1, size, size));
        (mean, log_variance.clamp(LOG_VARIANCE.0, LOG_VARIANCE.1))
    }

    /// Logits over energy, `[batch, y, x, energy]`, for latent codes `[batch, latent]`.
    pub fn decode(&self, latent: &Tensor) -> Tensor {
        let sizes = self.spec.sizes();
        let layers = self.spec.encoder.len();
        let inner = sizes[layers].map(|n| n as i64);
        let latent = latent.to_kind(self.kind);
        let hidden = self.linear(&latent, self.hidden(2)).relu_();
        let mut x = self.linear(&hidden, self.hidden(3)).relu_().view([
            latent.size()[0],
            inner[1],
            inner[2],
            inner[3],
            inner[0],
        ]);
        for (i, convolution) in self.convolutions.iter().enumerate().rev() {
            let (weight, bias) = self.weight_and_bias(self.decoder(i));
            x = convolution.decode(&x, weight, bias, i > 0);
        }
        // One channel is left.
        x.squeeze_dim(-1) + &self.leaves[self.leaves.len() - 1]
    }

    /// Writes the gradient of the scalar `loss` to `gradient` `[parameters]` f32, on any device.
    pub fn gradient(&self, loss: &Tensor, gradient: &Tensor) {
        let parts = Tensor::run_backward(&[loss], &self.leaves, false, false);
        let mut offset = 0;
        tch::no_grad(|| {
            for (part, leaf) in parts.iter().zip(&self.leaves) {
                let count = leaf.numel() as i64;
                gradient.narrow(0, offset, count).view(&leaf.size()[..]).copy_(part);
                offset += count;
            }
        });
    }

    fn encoder(&self, i: usize) -> LayerIndex {
        LayerIndex(2 * i)
    }

    /// The four linear layers: to hidden, to latent, from latent, from hidden.
    fn hidden(&self, i: usize) -> LayerIndex {
        LayerIndex(2 * (self.spec.encoder.len() + i))
    }

    /// The mirror image of the encoder's layer `i`. The decoder's layers lie in the order in which they are applied.
    fn decoder(&self, i: usize) -> LayerIndex {
        let layers = self.spec.encoder.len();
        LayerIndex(2 * (layers + 4 + layers - 1 - i))
    }

    fn weight_and_bias(&self, layer: LayerIndex) -> (&Tensor, &Tensor) {
        (&self.leaves[layer.0], &self.leaves[layer.0 + 1])
    }

    fn linear(&self, x: &Tensor, layer: LayerIndex) -> Tensor {
        let (weight, bias) = self.weight_and_bias(layer);
        x.linear(weight, Some(bias))
    }
}
