//! Reconstruction of whole scan lines by a network of either family.

use std::ops::Range;

use ndarray::Array3;
use tch::Device;

use super::blind::Passes;
use super::line::Line;
use super::parameters::Parameters;
use super::patchwise;
use super::spec::Spec;
use crate::memory::KeptHeap;

/// Runs a trained network over a cube `[y, x, energy]`, piece by piece. The pieces lie at fixed places of the cube: a pixel's
/// reconstruction never depends on the rank or thread.
pub enum Tiles {
    Blind(Passes),
    Patchwise(patchwise::Tiles),
}

impl Tiles {
    /// For a cube of `size` `[y, x]` pixels; `mean` `[energy]` is the training's mean spectrum, sum 1.
    pub fn new(spec: &Spec, parameters: &Parameters, device: Device, mean: &[f64], size: [usize; 2]) -> Tiles {
        let values = parameters.tensor();
        match spec {
            Spec::Blind(spec) => Tiles::Blind(Passes::new(spec, &values, device, mean, size)),
            Spec::Patchwise(spec) => Tiles::Patchwise(patchwise::Tiles::new(spec, &values, device, mean, size)),
        }
    }

    /// The lines that must be read to reconstruct `band`: those of all tiles that touch it.
    pub fn halo(&self, band: &Range<usize>) -> Range<usize> {
        match self {
            Tiles::Blind(passes) => passes.halo(band),
            Tiles::Patchwise(tiles) => tiles.halo(band),
        }
    }

    /// Reconstructs the lines of `band`, in order, and passes each to `emit`.
    ///
    /// `read` returns the electrons `[y, x, energy]` of a range of the cube's lines. Rank-local.
    ///
    /// # Errors
    /// Those of `read` and `emit`.
    pub fn reconstruct<E>(
        &self,
        band: Range<usize>,
        read: impl FnMut(Range<usize>) -> Result<Array3<f32>, E>,
        emit: impl FnMut(Line) -> Result<(), E>,
    ) -> Result<(), E> {
        let _heap = KeptHeap::new();
        match self {
            Tiles::Blind(passes) => passes.reconstruct(band, read, emit),
            Tiles::Patchwise(tiles) => tiles.reconstruct(band, read, emit),
        }
    }
}
