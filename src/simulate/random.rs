//! Random numbers as functions of position: each (seed, cube, purpose, index) has a stream of its own.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream is for; two purposes never share numbers.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Fields and drifts of the whole cube.
    Specimen,
    Discs,
    /// Sensitivity of the detector's channels.
    FixedPattern,
    /// By scan line.
    Line,
    /// By pixel, C order.
    Pixel,
    /// The order of the pixels of a shuffled cube.
    Shuffle,
    /// Where particles, grains and interfaces lie.
    Layout,
}

/// The random numbers of one cube.
#[derive(Clone, Copy, Debug)]
pub struct Randomness {
    pub seed: u64,
    pub cube: u64,
}

impl Randomness {
    /// The stream of `index` for `purpose`, at its beginning.
    pub fn stream(&self, purpose: Purpose, index: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.cube.to_le_bytes());
        key[16] = purpose as u8;
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(index);
        random
    }
}
