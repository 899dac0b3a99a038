//! The layers, as a function of parameters that lie in one flat buffer.

use tch::{Device, Tensor};

use super::convolution::Convolution;
use super::{Parameters, Spec};

/// Least and largest logarithm of a latent variance: beyond them the Kullback-Leibler term overflows.
const LOG_VARIANCE: (f64, f64) = (-10.0, 5.0);

/// A 3D-CVAE whose tensors are views of [`Parameters`] on a CPU, or a copy of them on a GPU.
///
/// Each thread has its own: gradients are taken with respect to its own leaves.
pub struct Network {
    spec: Spec,
    device: Device,
    flat: Tensor,
    leaves: Vec<Tensor>,
    convolutions: Vec<Convolution>,
}

/// Index of a tensor in [`Spec::shapes`]: weights come before their bias.
struct Place(usize);

impl Network {
    pub fn new(spec: &Spec, parameters: &Parameters, device: Device) -> Network {
        // `to_device` shares the memory where the device is the buffer's own.
        let flat = parameters.tensor().to_device(device);
        let mut offset = 0;
        let leaves = spec
            .shapes()
            .iter()
            .map(|shape| {
                let count: i64 = shape.sizes.iter().product();
                let leaf = flat.narrow(0, offset, count).view(&shape.sizes[..]);
                offset += count;
                leaf.detach().set_requires_grad(true)
            })
            .collect();
        Network {
            convolutions: (0..spec.encoder.len())
                .map(|i| Convolution::new(spec, i))
                .collect(),
            spec: spec.clone(),
            device,
            flat,
            leaves,
        }
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// Takes over new values of the parameters; nothing to do where the memory is shared.
    pub fn refresh(&mut self, parameters: &Parameters) {
        if self.device != Device::Cpu {
            tch::no_grad(|| self.flat.copy_(&parameters.tensor()));
        }
    }

    /// Latent mean and logarithm of the variance, `[batch, latent]` each, of `input` `[batch, 1, y, x, energy]`.
    pub fn encode(&self, input: &Tensor) -> (Tensor, Tensor) {
        // `[batch, y, x, energy, channels]` between the layers.
        let mut x = input.squeeze_dim(1).unsqueeze(-1);
        for (i, convolution) in self.convolutions.iter().enumerate() {
            let (weight, bias) = self.weight_and_bias(&self.encoder(i));
            x = convolution.encode(&x, weight, bias);
        }
        let flat = x.reshape([input.size()[0], -1]);
        let hidden = self.linear(&flat, &self.hidden(0)).relu_();
        let latent = self.linear(&hidden, &self.hidden(1));
        let size = self.spec.latent as i64;
        let (mean, log_variance) = (latent.narrow(1, 0, size), latent.narrow(1, size, size));
        (mean, log_variance.clamp(LOG_VARIANCE.0, LOG_VARIANCE.1))
    }

    /// Logits over energy, `[batch, y, x, energy]`, of latent codes `[batch, latent]`.
    pub fn decode(&self, latent: &Tensor) -> Tensor {
        let sizes = self.spec.sizes();
        let layers = self.spec.encoder.len();
        let inner = sizes[layers].map(|n| n as i64);
        let hidden = self.linear(latent, &self.hidden(2)).relu_();
        let mut x = self.linear(&hidden, &self.hidden(3)).relu_().view([
            latent.size()[0],
            inner[1],
            inner[2],
            inner[3],
            inner[0],
        ]);
        for (i, convolution) in self.convolutions.iter().enumerate().rev() {
            let (weight, bias) = self.weight_and_bias(&self.decoder(i));
            x = convolution.decode(&x, weight, bias, i > 0);
        }
        // One channel is left.
        x.squeeze_dim(-1) + &self.leaves[self.leaves.len() - 1]
    }

    /// The gradient of the scalar `loss`, written to the host buffer `gradient`.
    pub fn gradient(&self, loss: &Tensor, gradient: &mut Parameters) {
        let parts = Tensor::run_backward(&[loss], &self.leaves, false, false);
        let flat = gradient.tensor();
        let mut offset = 0;
        tch::no_grad(|| {
            for (part, leaf) in parts.iter().zip(&self.leaves) {
                let count = leaf.numel() as i64;
                let mut place = flat.narrow(0, offset, count).view(&leaf.size()[..]);
                place.copy_(part);
                offset += count;
            }
        });
    }

    fn encoder(&self, i: usize) -> Place {
        Place(2 * i)
    }

    /// The four linear layers: to hidden, to latent, from latent, from hidden.
    fn hidden(&self, i: usize) -> Place {
        Place(2 * (self.spec.encoder.len() + i))
    }

    /// The decoder's layers lie in the order in which they are applied: the last of the encoder first.
    fn decoder(&self, i: usize) -> Place {
        let layers = self.spec.encoder.len();
        Place(2 * (layers + 4 + layers - 1 - i))
    }

    fn weight_and_bias(&self, place: &Place) -> (&Tensor, &Tensor) {
        (&self.leaves[place.0], &self.leaves[place.0 + 1])
    }

    fn linear(&self, x: &Tensor, place: &Place) -> Tensor {
        let (weight, bias) = self.weight_and_bias(place);
        x.linear(weight, Some(bias))
    }
}
