//! The layers, as a function of parameters that lie in one flat buffer.

use tch::{Device, Tensor};

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
        let mut x = input.shallow_clone();
        for (i, layer) in self.spec.encoder.iter().enumerate() {
            x = x
                .conv3d(
                    &self.convolution(i),
                    Some(self.bias(&self.encoder(i))),
                    layer.stride.map(|n| n as i64),
                    layer.pad.map(|n| n as i64),
                    [1i64, 1, 1],
                    1,
                )
                .relu_();
        }
        let batch = input.size()[0];
        // Channels last, as they lie in memory: the flattening is free.
        let flat = x.permute([0, 2, 3, 4, 1]).reshape([batch, -1]);
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
        let mut x = self
            .linear(&hidden, &self.hidden(3))
            .relu_()
            .view([latent.size()[0], inner[1], inner[2], inner[3], inner[0]])
            .permute([0, 4, 1, 2, 3]);
        for i in (0..layers).rev() {
            let layer = &self.spec.encoder[i];
            let place = self.decoder(i);
            x = x.conv_transpose3d(
                &self.leaves[place.0].permute([0, 4, 1, 2, 3]),
                Some(self.bias(&place)),
                layer.stride.map(|n| n as i64),
                layer.pad.map(|n| n as i64),
                self.spec.output_padding(i),
                1,
                [1i64, 1, 1],
            );
            if i > 0 {
                x = x.relu_();
            }
        }
        // One channel is left.
        x.squeeze_dim(1) + &self.leaves[self.leaves.len() - 1]
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

    /// `[out, in, y, x, energy]`, with the channels last in memory.
    fn convolution(&self, i: usize) -> Tensor {
        self.leaves[self.encoder(i).0].permute([0, 4, 1, 2, 3])
    }

    fn bias(&self, place: &Place) -> &Tensor {
        &self.leaves[place.0 + 1]
    }

    fn linear(&self, x: &Tensor, place: &Place) -> Tensor {
        x.linear(&self.leaves[place.0], Some(self.bias(place)))
    }
}
