//! Several methods as one: each pixel is scored by the method that is surest of it.
//!
//! A lattice is what its surroundings tell, a particle is what a few components tell, and no single model knows both. Each
//! method keeps its own threshold, so what one of them is sure of stays sure beside the others.

use super::scores::Scores;

impl Scores {
    /// The highest score of each pixel among `methods`, of the same pixels; the kinds are those of all methods in their
    /// order. Rank-local.
    ///
    /// # Panics
    /// If there is no method.
    pub fn ensemble(methods: &[&Scores]) -> Scores {
        let highest = |map: fn(&Scores) -> &[f32]| -> Vec<f32> {
            let pixels = 0..map(methods[0]).len();
            // NaN only where all are.
            pixels.map(|i| methods.iter().map(|scores| map(scores)[i]).fold(f32::NAN, f32::max)).collect()
        };
        let combined = highest(|scores| &scores.combined);
        let kind_of = |(i, &highest): (usize, &f32)| {
            let mut before = 0;
            for scores in methods {
                if scores.combined[i] == highest && scores.kind_of[i] > 0.0 {
                    return before as f32 + scores.kind_of[i];
                }
                before += scores.kinds.len();
            }
            0.0
        };
        Scores {
            pcc: None,
            shift: highest(|scores| &scores.shift),
            composition: highest(|scores| &scores.composition),
            kinds: methods.iter().flat_map(|scores| scores.kinds.iter().cloned()).collect(),
            kind_of: combined.iter().enumerate().map(kind_of).collect(),
            combined,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::{Family, Kind};

    #[test]
    fn the_surest_method_scores_a_pixel_and_names_its_kind() {
        let of = |combined: [f32; 3], kind_of: [f32; 3], window: &str| Scores {
            pcc: Some(vec![0.5; 3]),
            shift: vec![f32::NAN, 0.1, 0.1],
            composition: combined.to_vec(),
            combined: combined.to_vec(),
            kinds: vec![Kind {
                window: window.into(),
                family: Family::Composition,
                area_px: 1,
                strength: 3.0,
                shift_ev: None,
            }],
            kind_of: kind_of.to_vec(),
        };
        let first = of([f32::NAN, 9.0, 0.1], [0.0, 1.0, 0.0], "O K");
        let second = of([f32::NAN, 0.2, 5.0], [0.0, 0.0, 1.0], "Fe L");
        let found = Scores::ensemble(&[&first, &second]);
        assert!(found.combined[0].is_nan() && found.combined[1..] == [9.0, 5.0]);
        assert_eq!(found.kind_of, [0.0, 1.0, 2.0]);
        assert_eq!(found.kinds[1].window, "Fe L");
        assert_eq!(found.pcc, None);
    }
}
