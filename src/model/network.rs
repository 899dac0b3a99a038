//! A network of either family.

use tch::{Device, Kind, Tensor};

use super::batch::Batch;
use super::loss::{DeviceLoss, Weights};
use super::spec::Spec;
use super::{blind, patchwise};

/// A 3D-CVAE whose tensors are views of flat parameters, or of a copy of them on another device or of another kind.
///
/// Each thread has its own, since gradients are taken with respect to its leaves.
pub enum Network {
    Blind(blind::Network),
    Patchwise(patchwise::Network),
}

impl Network {
    /// With the parameters `values` `[parameters]` f32, whose memory is shared if it is on `device` and `kind` is f32; `mean`
    /// is the mean spectrum, sum 1.
    pub fn new(spec: &Spec, values: &Tensor, mean: &[f64], device: Device, kind: Kind) -> Network {
        match spec {
            Spec::Blind(spec) => Network::Blind(blind::Network::new(spec, values, mean, device)),
            Spec::Patchwise(spec) => Network::Patchwise(patchwise::Network::new(spec, values, device, kind)),
        }
    }

    pub fn device(&self) -> Device {
        match self {
            Network::Blind(network) => network.device(),
            Network::Patchwise(network) => network.device(),
        }
    }

    /// The copy of the parameters in the kind of the layers; `None` where the layers are f32 and share them.
    pub fn layers(&self) -> Option<&Tensor> {
        match self {
            Network::Blind(_) => None,
            Network::Patchwise(network) => network.layers(),
        }
    }

    /// Takes over what is f32 whatever the layers are from new `values` `[parameters]`, for whoever has updated
    /// [`layers`](Self::layers). Does nothing where all memory is shared.
    pub fn refresh(&self, values: &Tensor) {
        if let Network::Patchwise(network) = self {
            network.refresh_log_mean(values);
        }
    }

    /// The loss of `batch`, and a scalar whose gradient is `scale` times the loss's.
    pub fn loss(&self, batch: &Batch, weights: &Weights, scale: f64) -> (DeviceLoss, Tensor) {
        match self {
            Network::Blind(network) => {
                let hiding = batch.hiding.as_ref().expect("a blind spot's batch has hidden pixels");
                network.loss(batch, hiding, weights, scale)
            }
            Network::Patchwise(network) => {
                let whitened = batch.whitened.as_ref().expect("patches to rebuild are whitened");
                let output = network.forward(whitened, batch.noise.as_ref());
                output.loss(&batch.counts, &weights.kl, scale)
            }
        }
    }

    /// Writes the gradient of the scalar `loss` of `batch` to `gradient` `[parameters]` f32, on any device.
    pub fn gradient(&self, batch: &Batch, loss: &Tensor, gradient: &Tensor) {
        match self {
            Network::Blind(network) => {
                let fold = batch.hiding.as_ref().map_or(0, |hiding| hiding.fold);
                network.gradient(fold, loss, gradient);
            }
            Network::Patchwise(network) => network.gradient(loss, gradient),
        }
    }
}
