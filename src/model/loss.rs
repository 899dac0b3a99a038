//! The loss of a network: how badly its spectra explain the electrons that were counted.

use tch::{Kind, Tensor};

/// The parts of a loss, nats per pixel, summed over the patches of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Electrons times (log of the measured share - log of the predicted one): 0 for a perfect prediction.
    pub reconstruction: f64,
    /// Kullback-Leibler divergence of the latent codes from a unit normal.
    pub kl: f64,
}

impl Loss {
    pub fn total(&self, kl_weight: f64) -> f64 {
        self.reconstruction + kl_weight * self.kl
    }
}

/// A [`Loss`] on the network's device, which may still be computing it: two f64.
pub struct DeviceLoss {
    reconstruction: Tensor,
    kl: Tensor,
}

impl DeviceLoss {
    pub fn new(reconstruction: Tensor, kl: Tensor) -> DeviceLoss {
        DeviceLoss { reconstruction, kl }
    }

    /// Waits for the device, and reads the values.
    pub fn read(&self) -> Loss {
        Loss { reconstruction: self.reconstruction.double_value(&[]), kl: self.kl.double_value(&[]) }
    }

    /// The fields of [`Loss`].
    pub fn scalars(&self) -> [&Tensor; 2] {
        [&self.reconstruction, &self.kl]
    }
}

/// What a step weighs its loss with, on the network's device: one f64 each.
pub struct Weights {
    /// Of the Kullback-Leibler term.
    pub kl: Tensor,
    /// 1 where hidden pixels that are predicted badly are left out, else 0.
    pub trim: Tensor,
}

impl Weights {
    pub fn new(kl: f64, trim: bool) -> Weights {
        let scalar = |value: f64| Tensor::from(value).to_kind(Kind::Double);
        Weights { kl: scalar(kl), trim: scalar(f64::from(u8::from(trim))) }
    }

    pub fn to_device(&self, device: tch::Device) -> Weights {
        Weights { kl: self.kl.to_device(device), trim: self.trim.to_device(device) }
    }
}
