//! Which pixels a blind spot is trained to predict, and which it is judged by.
//!
//! Where it is to judge the very pixels that it learns from, there are several networks, one for each fold of the pixels: once
//! they have parted, none is trained to predict those that it judges.

use super::micro_batch::{CropOrigin, Hidden};
use crate::model::{Blind, CELL, PERIOD, hidden_pixels};
use crate::stream::Cube;

/// Pixels around a cube that are never seen: the network learns how a cube ends.
const BORDER: usize = 4;
/// Blocks of hidden pixels begin at 0 and here in the views of a validation patch: each pixel is hidden in one of them.
const HALF: usize = PERIOD / 2;
/// The most patches that validation looks at.
const VALIDATION_PATCHES: usize = 9;

/// With more cubes to learn from, an anomaly of one is little of what a network learns, and scoring by one network is faster.
const FEW_CUBES: usize = 8;

/// How many networks learn the very `pixels` of `cubes` that they judge, and the side of the cells that each is trained without:
/// what is seen often is learned by heart. Anomalies of larger fields may be larger.
pub fn folds(pixels: f64, cubes: usize) -> (usize, usize) {
    match pixels {
        // Networks add nothing.
        ..600.0 => (1, CELL),
        ..2_000.0 => (4, CELL),
        ..30_000.0 if cubes <= FEW_CUBES => (4, 2 * CELL),
        // Each pixel is seen less than 50 times, or is one of a survey.
        _ => (1, CELL),
    }
}

/// The pixels that a network is to predict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// All, before the networks of the folds part.
    Any,
    /// Those that it is trained on.
    Trained,
    /// Those that it is judged by.
    Own,
}

/// The targets of a blind spot.
pub struct Targets {
    spec: Blind,
    /// One cell in so many is kept for validation; none without validation. With folds, each has its own cells left out.
    one_in: Option<usize>,
}

impl Targets {
    /// `validation`: share of the pixels that are kept to judge the network by.
    pub fn new(spec: &Blind, validation: f64) -> Targets {
        let one_in = (validation > 0.0).then(|| (1.0 / validation).round().max(2.0) as usize);
        Targets { spec: spec.clone(), one_in }
    }

    /// Unseen pixels `[y, x]` around a cube of `size`: at least as many as make it as large as a patch.
    pub fn border(&self, size: [usize; 2]) -> [usize; 2] {
        let along = |axis: usize| self.spec.patch[axis].saturating_sub(size[axis]).div_ceil(2) + BORDER;
        [if self.spec.patch[0] == 1 { 0 } else { along(0) }, along(1)]
    }

    pub fn period(&self) -> usize {
        PERIOD
    }

    /// Nothing hidden yet, of the micro-batch that is the `number`th of the training.
    pub fn none(&self, number: usize) -> Hidden {
        Hidden { pixels: Vec::new(), targets: Vec::new(), fold: number % self.spec.folds }
    }

    /// Hides blocks that begin at `phase` from the `sample`th patch of a micro-batch. `place` gives the cube's pixel for one of
    /// the patch, and the number of the cube's lines.
    pub fn hide(
        &self,
        hidden: &mut Hidden,
        sample: usize,
        phase: [usize; 2],
        place: impl Fn([usize; 2]) -> Option<([usize; 2], usize)>,
        asked: Asked,
    ) {
        let [height, width] = self.spec.patch;
        let pixels = hidden_pixels(self.spec.patch, phase);
        hidden.pixels.extend(pixels.iter().map(|&pixel| (sample * height * width + pixel) as i64));
        let fold = hidden.fold;
        hidden.targets.extend(pixels.iter().map(|&pixel| {
            let is_target = place([pixel / width, pixel % width]).is_some_and(|(at, lines)| match asked {
                Asked::Any => true,
                Asked::Trained => !self.is_left_out(at, lines, fold),
                Asked::Own => self.is_own(at, lines, fold),
            });
            f32::from(u8::from(is_target))
        }));
    }

    /// Whether a pixel of a cube of `lines` is kept to judge a network by.
    fn is_own(&self, at: [usize; 2], lines: usize, fold: usize) -> bool {
        if self.spec.folds > 1 {
            return self.spec.fold_of(at, lines) == fold;
        }
        let [y, x] = at.map(|pixel| pixel / CELL);
        self.one_in.is_some_and(|one_in| (x + 7 * y) % one_in == one_in / 2)
    }

    /// Whether a network is not trained to predict a pixel: its own, and of a fold those beside.
    fn is_left_out(&self, [y, x]: [usize; 2], lines: usize, fold: usize) -> bool {
        if self.spec.folds == 1 {
            return self.is_own([y, x], lines, fold);
        }
        let beside = |pixel: usize| pixel.saturating_sub(1)..pixel + 2;
        beside(y).any(|y| beside(x).any(|x| self.is_own([y, x], lines, fold)))
    }

    /// Where the patches lie that a network is judged by: side by side in each of the `cubes` with their borders, thinned out
    /// evenly.
    pub fn validation<'a>(&self, cubes: impl Iterator<Item = (&'a Cube, &'a [usize; 2])>) -> Vec<CropOrigin> {
        if self.one_in.is_none() {
            return Vec::new();
        }
        let mut origins = Vec::new();
        for (cube, (image, border)) in cubes.enumerate() {
            let along = |axis: usize| {
                let size = image.size()[axis] + 2 * border[axis];
                let last = size.saturating_sub(self.spec.patch[axis]);
                let patches = size.div_ceil(self.spec.patch[axis]);
                (0..patches).map(move |i| if patches == 1 { last / 2 } else { i * last / (patches - 1) })
            };
            origins.extend(along(0).flat_map(|y| along(1).map(move |x| CropOrigin { cube, y, x })));
        }
        let kept = origins.len().min(VALIDATION_PATCHES);
        (0..kept).map(|i| origins[i * origins.len() / kept]).collect()
    }

    /// In how many ways a validation patch is looked at: by each fold, and so that each pixel is hidden once.
    pub fn views(&self) -> usize {
        let phases = if self.spec.patch[0] == 1 { 2 } else { 4 };
        phases * self.spec.folds
    }

    /// The phase and the fold of one of the [`views`](Self::views).
    pub fn view(&self, i: usize) -> ([usize; 2], usize) {
        let phase = i / self.spec.folds;
        ([phase / 2 * HALF, phase % 2 * HALF], i % self.spec.folds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(folds: usize) -> Targets {
        Targets::new(&Blind { folds, ..Blind::new([32, 32], 48, None) }, 0.05)
    }

    /// Of a cube of 40 x 40 pixels, how many a network is judged by and trained on.
    fn counts(targets: &Targets, fold: usize) -> [usize; 2] {
        let mut found = [0; 2];
        for phase in [[0, 0], [0, 8], [8, 0], [8, 8]] {
            for (i, asked) in [Asked::Own, Asked::Trained].into_iter().enumerate() {
                let mut hidden = Hidden { fold, ..targets.none(0) };
                targets.hide(&mut hidden, 0, phase, |at| Some((at, 40)), asked);
                found[i] += hidden.targets.iter().filter(|&&target| target > 0.0).count();
            }
        }
        found
    }

    #[test]
    fn what_judges_a_network_is_no_target() {
        let [judged, trained] = counts(&targets(1), 0);
        assert_eq!(judged + trained, 1024);
        assert!((36..=72).contains(&judged), "{judged}");
        let all: usize = (0..4).map(|fold| counts(&targets(4), fold)[0]).sum();
        assert_eq!(all, 1024);
        let [judged, trained] = counts(&targets(4), 2);
        // Nor are the pixels beside.
        assert!(judged + trained < 900 && trained > 500, "{judged} {trained}");
    }

    #[test]
    fn a_border_makes_small_cubes_as_large_as_a_patch() {
        let targets = targets(1);
        assert_eq!(targets.border([17, 40]), [12, 4]);
        let scan = Targets::new(&Blind::new([1, 32], 48, None), 0.0);
        assert_eq!(scan.border([1, 9]), [0, 16]);
    }

    #[test]
    fn fewer_pixels_have_more_folds_until_networks_add_nothing() {
        assert_eq!([323.0, 1024.0, 2304.0, 1e6].map(|pixels| folds(pixels, 3)), [(1, 6), (4, 6), (4, 12), (1, 6)]);
        assert_eq!(folds(20_000.0, 32), (1, 6));
    }
}
