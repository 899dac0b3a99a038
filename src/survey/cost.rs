//! What scoring a cube of a survey costs: estimated from its shape, and corrected by what others took.

use crate::config::{Config, ModelScope};

/// Cost of a training step for each voxel of its patches, in voxels scored by all methods.
const STEP: f64 = 1.5;

/// The cost of scoring a cube, in voxels scored, with its training if it has a model of its own. An estimate.
pub fn cost(config: &Config, shape: [usize; 3]) -> f64 {
    let voxels = shape.iter().product::<usize>() as f64;
    match config.survey.models {
        ModelScope::PerCube => voxels + training_cost(config, &[shape]),
        ModelScope::PerGroup | ModelScope::Pretrained => voxels,
    }
}

/// The cost of training one model on cubes of these shapes `[y, x, energy]`, in voxels scored. An estimate.
pub fn training_cost(config: &Config, shapes: &[[usize; 3]]) -> f64 {
    let patch = config.model.patch_for(shapes.iter().copied());
    let pixels = shapes.iter().map(|[y, x, _]| y * x).sum();
    let channels = shapes.first().map_or(0, |[_, _, energy]| *energy);
    let crops = config.train.length(pixels, patch, config.model.preset).steps * config.pace().global_batch;
    STEP * (crops * patch[0] * patch[1] * channels) as f64
}

/// How long a cube took that was scored before.
pub struct Measured<'a> {
    pub group: &'a str,
    /// Its [`cost`].
    pub cost: f64,
    /// Seconds on one rank.
    pub took_s: f64,
}

/// The `cost` of a cube of `group` in seconds on one rank, by the cubes of its group that were `measured`, or by all where
/// none of its group was; unchanged where none was at all.
pub fn measured_cost(measured: &[Measured], group: &str, cost: f64) -> f64 {
    let rate = |group: Option<&str>| {
        let alike = |one: &&Measured| group.is_none_or(|group| one.group == group);
        let (took, of) =
            measured.iter().filter(alike).fold((0.0, 0.0), |(took, of), one| (took + one.took_s, of + one.cost));
        (took > 0.0).then_some(took / of)
    };
    cost * rate(Some(group)).or(rate(None)).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cubes_took_tells_what_others_will() {
        let one = |group, cost, took_s| Measured { group, cost, took_s };
        let measured = [one("a", 10.0, 1.0), one("a", 30.0, 3.0), one("b", 10.0, 5.0)];
        let cost = |group| measured_cost(&measured, group, 50.0);
        assert_eq!([cost("a"), cost("b"), cost("new")], [5.0, 25.0, 9.0]);
        assert_eq!(measured_cost(&[], "a", 20.0), 20.0);
    }

    #[test]
    fn a_model_of_its_own_costs_more_than_scoring() {
        let mut config = Config::default();
        let shape = [64, 64, 240];
        let scored = cost(&config, shape);
        config.survey.models = ModelScope::PerCube;
        assert!(cost(&config, shape) > 10.0 * scored);
    }

    #[test]
    fn a_training_costs_its_own_steps_on_its_own_patches() {
        let cost = |set: &[&str], shapes: &[[usize; 3]]| {
            let set: Vec<String> =
                [&"model.preset=compact"].into_iter().chain(set).map(|set| set.to_string()).collect();
            training_cost(&Config::parse("test", "", &set).unwrap(), shapes)
        };
        // Patches of 24 x 24 pixels in the one, of 12 x 12 in the other.
        let (large, small) = ([96, 96, 240], [40, 40, 240]);
        let voxels = |steps: usize, pixels: usize| STEP * (steps * 16 * pixels * 240) as f64;
        assert_eq!(cost(&["train.steps=100"], &[large]), voxels(100, 576));
        assert_eq!(cost(&["train.steps=100"], &[small]), voxels(100, 144));
        assert_eq!(cost(&["train.steps=100"], &[large, small]), voxels(100, 144));
        assert_eq!(cost(&["model.patch=[8, 16]", "train.steps=100"], &[large]), voxels(100, 128));
        // One step for each 16 patches: an epoch of ten cubes is ten steps.
        assert_eq!(cost(&["train.epochs=5"], &[large; 10]), voxels(50, 576));
        assert_eq!([cost(&[], &[large]), cost(&[], &[small])], [voxels(200, 576), voxels(800, 144)]);
    }
}
