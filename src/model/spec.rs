//! The layers of the 3D-CVAE of each family, and the sizes that follow from them. No tensors here.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::blind::Blind;
use super::patchwise::Patchwise;
use super::shape::Shape;
use crate::config::{self, Preset};

/// A 3D-CVAE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the layers of a 3D-CVAE: `components` and `channels`, or `hidden` and `encoder`")]
pub enum Spec {
    /// Predicts pixels from their surroundings.
    Blind(Blind),
    /// Rebuilds patches from a latent code.
    Patchwise(Patchwise),
}

impl Spec {
    /// The preset's layers for `energy` channels.
    ///
    /// # Errors
    /// The patch or the energy axis is too small for the layers.
    pub fn new(options: &config::Model, energy: usize) -> Result<Spec> {
        let patch = options.patch.unwrap_or(options.preset.usual_patch());
        let patchwise = |latent, hidden, widths, first_stride| {
            let latent = options.latent.unwrap_or(latent);
            Spec::Patchwise(Patchwise::new((patch, energy), latent, hidden, widths, first_stride))
        };
        let spec = match options.preset {
            Preset::Blind => Spec::Blind(Blind::new(patch, energy, options.latent)),
            Preset::Compact => patchwise(16, 128, [8, 16, 32, 64], 4),
            Preset::Paper => patchwise(48, 512, [32, 64, 128, 256], 2),
        };
        spec.check()?;
        Ok(spec)
    }

    /// # Errors
    /// A layer that makes no sense, or that is larger than what it gets.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.energy() >= 16,
            "the 3D-CVAE needs at least 16 energy channels and has {}: widen archive.energy_range_ev",
            self.energy()
        );
        match self {
            Spec::Blind(spec) => spec.check(),
            Spec::Patchwise(spec) => spec.check(),
        }
    }

    /// Pixels of a patch, `[y, x]`.
    pub fn patch(&self) -> [usize; 2] {
        match self {
            Spec::Blind(spec) => spec.patch,
            Spec::Patchwise(spec) => spec.patch,
        }
    }

    /// Channels of the energy axis.
    pub fn energy(&self) -> usize {
        match self {
            Spec::Blind(spec) => spec.energy,
            Spec::Patchwise(spec) => spec.energy,
        }
    }

    /// Latent dimensions.
    pub fn latent(&self) -> usize {
        match self {
            Spec::Blind(spec) => spec.latent,
            Spec::Patchwise(spec) => spec.latent,
        }
    }

    /// The shape of a patch's latent code: `[latent]`, or a map `[latent, y, x]`.
    pub fn code(&self) -> Vec<usize> {
        match self {
            Spec::Blind(spec) => spec.code().to_vec(),
            Spec::Patchwise(spec) => vec![spec.latent],
        }
    }

    /// The trainable tensors, in the order in which they lie in the flat parameters.
    pub fn shapes(&self) -> Vec<Shape> {
        match self {
            Spec::Blind(spec) => vec![spec.shapes(); spec.folds].concat(),
            Spec::Patchwise(spec) => spec.shapes(),
        }
    }

    /// Floating-point operations of one training step per patch: two for each product of a weight, forward, and twice as
    /// many backward, but for the gradient of the input.
    pub fn flops_per_sample(&self) -> f64 {
        match self {
            Spec::Blind(spec) => spec.flops_per_sample(),
            Spec::Patchwise(spec) => spec.flops_per_sample(),
        }
    }

    /// Networks, each of which judges its own part of the pixels.
    pub fn folds(&self) -> usize {
        match self {
            Spec::Blind(spec) => spec.folds,
            Spec::Patchwise(_) => 1,
        }
    }

    /// The number of trainable values.
    pub fn parameters(&self) -> usize {
        self.shapes().iter().map(Shape::count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patchwise(preset: Preset, energy: usize) -> (Spec, Patchwise) {
        let spec = Spec::new(&config::Model { preset, ..Default::default() }, energy).unwrap();
        let Spec::Patchwise(layers) = spec.clone() else { panic!("{preset:?} rebuilds patches") };
        (spec, layers)
    }

    #[test]
    fn the_compact_preset_has_as_many_values_as_counted_by_hand() {
        let (spec, layers) = patchwise(Preset::Compact, 480);
        assert_eq!(layers.sizes()[4], [64, 3, 3, 15]);
        assert_eq!(spec.parameters() - 480, 2_376_961);
    }

    #[test]
    fn the_paper_presets_two_large_layers_have_774_million_values() {
        let (spec, layers) = patchwise(Preset::Paper, 1312);
        assert_eq!(2 * layers.flat() * layers.hidden / 1_000_000, 773);
        assert_eq!(spec.parameters() / 1_000_000, 777);
    }

    #[test]
    fn the_decoder_undoes_every_size() {
        for energy in [16, 17, 31, 240, 333, 1028, 2048] {
            let (_, layers) = patchwise(Preset::Compact, energy);
            for i in 0..4 {
                let pad = layers.output_padding(i);
                assert!((0..3).all(|d| pad[d] >= 0 && pad[d] < layers.encoder[i].stride[d] as i64));
            }
        }
    }

    #[test]
    fn every_family_reads_back() {
        for preset in [Preset::Blind, Preset::Compact, Preset::Paper] {
            let spec = Spec::new(&config::Model { preset, ..Default::default() }, 48).unwrap();
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec, "{text}");
        }
        // As an older program wrote it.
        let text = r#"{"patch":[12,12],"energy":40,"latent":2,"hidden":8,"encoder":
            [{"out":4,"kernel":[1,1,7],"stride":[1,1,4],"pad":[0,0,3]}]}"#;
        assert!(matches!(serde_json::from_str::<Spec>(text).unwrap(), Spec::Patchwise(spec) if spec.hidden == 8));
    }
}
