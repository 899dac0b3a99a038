//! What a network sees in a step, on its device.

use tch::{Device, Tensor};

/// A micro-batch.
pub struct Batch {
    /// Electrons `[batch, y, x, energy]`, 0 in pixels that are not seen.
    pub counts: Tensor,
    /// Whitened spectra `[batch, 1, y, x, energy]`, where the network takes those.
    pub whitened: Option<Tensor>,
    /// Unit normals of the reparameterisation, `[batch, ...]` as the latent code; none at the latent mean.
    pub noise: Option<Tensor>,
    /// What is hidden from a blind spot.
    pub hiding: Option<Hiding>,
}

/// The pixels that are hidden from a blind spot, to be predicted.
pub struct Hiding {
    /// Their indices among all pixels of the batch, `[n]` i64.
    pub pixels: Tensor,
    /// 1 where they count in the loss, else 0, `[n]` f32.
    pub targets: Tensor,
    /// The network that is trained.
    pub fold: usize,
}

impl Batch {
    pub fn to_device(&self, device: Device) -> Batch {
        let copy = |tensor: &Tensor| tensor.to_device(device);
        Batch {
            counts: copy(&self.counts),
            whitened: self.whitened.as_ref().map(copy),
            noise: self.noise.as_ref().map(copy),
            hiding: self.hiding.as_ref().map(|hiding| Hiding {
                pixels: copy(&hiding.pixels),
                targets: copy(&hiding.targets),
                fold: hiding.fold,
            }),
        }
    }
}
