//! A fixed part of a global batch, as it is drawn, and as the network takes it.

use ndarray::{Array3, s};
use tch::Tensor;

use crate::model::{Batch, Hiding, whitened_batch};

/// Where a patch begins, counted from the border around its cube, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropOrigin {
    pub cube: usize,
    pub y: usize,
    pub x: usize,
}

/// A fixed part of a global batch, whose gradient is formed as one.
pub struct MicroBatch {
    /// Its index among those of the step.
    pub index: usize,
    pub origins: Vec<CropOrigin>,
    /// Patches `[y, x, energy]` of electrons, 0 in the pixels that training leaves out; none where a GPU holds the lines.
    pub patches: Vec<Array3<f32>>,
    /// Unit normals of the reparameterisation, `[patch, ...]` as the latent code.
    pub noise: Vec<f32>,
    /// What is hidden from a blind spot.
    pub hidden: Option<Hidden>,
}

/// The pixels of a micro-batch that are hidden from a blind spot.
pub struct Hidden {
    /// Indices among all pixels of the micro-batch.
    pub pixels: Vec<i64>,
    /// 1 where they count in the loss, else 0.
    pub targets: Vec<f32>,
    pub fold: usize,
}

impl MicroBatch {
    /// The number of pixels that the loss of a single patch is the mean of.
    pub fn judged(&self) -> u64 {
        let Some(hidden) = &self.hidden else { return self.patches.len() as u64 };
        let (_, width, _) = self.patches[0].dim();
        let lit = |pixel: i64| {
            let at = pixel as usize;
            self.patches[0].slice(s![at / width, at % width, ..]).iter().any(|&u| u > 0.0)
        };
        let targets = hidden.pixels.iter().zip(&hidden.targets);
        targets.filter(|&(&pixel, &target)| target > 0.0 && lit(pixel)).count() as u64
    }

    /// As the network takes it, in host memory; `mean` is the mean spectrum `[energy]`, `code` the shape of a patch's latent
    /// code. Rank-local.
    pub fn on_cpu(&self, mean: &[f32], code: &[usize]) -> Batch {
        let noise = (!self.noise.is_empty()).then(|| {
            let shape: Vec<i64> = [self.origins.len()].iter().chain(code).map(|&n| n as i64).collect();
            Tensor::from_slice(&self.noise).view(&shape[..])
        });
        let Some(hidden) = &self.hidden else {
            let (whitened, counts) = whitened_batch(&self.patches, mean);
            return Batch { counts, whitened: Some(whitened), noise, hiding: None };
        };
        let (y, x, energy) = self.patches[0].dim();
        let mut counts: Vec<f32> = Vec::with_capacity(self.patches.len() * y * x * energy);
        for patch in &self.patches {
            counts.extend(patch.as_slice().expect("a patch is in the standard layout"));
        }
        let shape = [self.patches.len(), y, x, energy].map(|n| n as i64);
        let hiding = Hiding {
            pixels: Tensor::from_slice(&hidden.pixels),
            targets: Tensor::from_slice(&hidden.targets),
            fold: hidden.fold,
        };
        Batch { counts: Tensor::from_slice(&counts).view(shape), whitened: None, noise, hiding: Some(hiding) }
    }
}
