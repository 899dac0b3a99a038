//! `model`: the shape of the 3D-CVAE, and the patches that it sees where none are given.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// The shape of the 3D-CVAE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    pub preset: Preset,
    /// Pixels of a patch `[y, x]`; by default 32 x 32, or 1 x 32 where all cubes to train on are line scans; multiples of 16,
    /// y may be 1. With the presets `compact` and `paper` 24 x 24, with `compact` 12 x 12 where a cube to train on has fewer
    /// than 48 lines or columns, or more than 2048 channels; multiples of 4, y may be 1.
    pub patch: Option<[usize; 2]>,
    /// Latent dimensions; the preset's by default.
    pub latent: Option<usize>,
}

/// An anomaly of a few pixels is a smaller part of a larger patch, so less of it is learned as normal
/// (`configs/experiments/e10_network.yaml`). Cubes with fewer lines or columns than `ROOMY` hold too few large patches.
const LARGE_PATCH: [usize; 2] = [24, 24];
pub(super) const SMALL_PATCH: [usize; 2] = [12, 12];
const ROOMY: usize = 48;
/// With more channels, the weights of a network for large patches would take gigabytes.
const MOST_CHANNELS: usize = 2048;
/// Patches of the preset `blind`: those of line scans, and of all else.
const SCAN_PATCH: [usize; 2] = [1, 32];
const FIELD_PATCH: [usize; 2] = [32, 32];

impl Model {
    /// Pixels `[y, x]` that the network sees at once: those given, else what cubes of these shapes `[y, x, energy]` have
    /// room for.
    pub fn patch_for(&self, mut shapes: impl Iterator<Item = [usize; 3]>) -> [usize; 2] {
        let has_room = |[y, x, energy]: [usize; 3]| y.min(x) >= ROOMY && energy <= MOST_CHANNELS;
        self.patch.unwrap_or_else(|| match self.preset {
            Preset::Blind if shapes.all(|[y, ..]| y == 1) => SCAN_PATCH,
            Preset::Compact if shapes.all(has_room) => LARGE_PATCH,
            preset => preset.usual_patch(),
        })
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        let step = match self.preset {
            Preset::Blind => 16,
            Preset::Compact | Preset::Paper => 4,
        };
        problems.require(
            self.patch.is_none_or(|[y, x]| {
                let fits = |size: usize| size > 0 && size.is_multiple_of(step);
                (y == 1 || fits(y)) && fits(x)
            }),
            format!("model.patch: [y, x], each a multiple of {step}, or y = 1 for line scans"),
        );
        problems.require(self.latent != Some(0), "model.latent: at least 1");
    }
}

/// Layers of the 3D-CVAE, and what it learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Predicts each pixel from its surroundings alone, so that it cannot rebuild an anomaly: 24 spectral components, 48
    /// channels, a latent map of 16.
    #[default]
    Blind,
    /// Rebuilds patches from a latent code: 8-16-32-64 channels, 16 latent.
    Compact,
    /// The paper's, which rebuilds patches too: 32-64-128-256 channels, 48 latent.
    Paper,
}

impl Preset {
    /// Pixels `[y, x]` of a patch where nothing is known of the cubes.
    pub fn usual_patch(self) -> [usize; 2] {
        match self {
            Preset::Blind => FIELD_PATCH,
            Preset::Compact => SMALL_PATCH,
            Preset::Paper => LARGE_PATCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_large_where_every_cube_has_room_for_some() {
        let usual = Model { preset: Preset::Compact, ..Default::default() };
        let of = |options: &Model, shapes: &[[usize; 3]]| options.patch_for(shapes.iter().copied());
        assert_eq!(of(&usual, &[[96, 96, 240], [48, 300, 240]]), LARGE_PATCH);
        for small in [[47, 300, 240], [49, 6, 240], [1, 100, 240], [96, 96, 4096]] {
            assert_eq!(of(&usual, &[[96, 96, 240], small]), SMALL_PATCH);
        }
        let paper = Model { preset: Preset::Paper, ..usual.clone() };
        assert_eq!(of(&paper, &[[24, 24, 1312]]), LARGE_PATCH);
        let given = Model { patch: Some([8, 16]), ..usual };
        assert_eq!(of(&given, &[[96, 96, 240]]), [8, 16]);
        let blind = Model::default();
        assert_eq!(of(&blind, &[[1, 100, 240], [17, 19, 240]]), FIELD_PATCH);
        assert_eq!(of(&blind, &[[1, 100, 240], [1, 9, 240]]), SCAN_PATCH);
    }
}
