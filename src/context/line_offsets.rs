//! How far each scan line lies from its place: the specimen drifts and the probe jitters while a field is scanned.

use nalgebra::{Matrix2, Vector2};

/// How far neighbouring lines are expected to lie from each other's offset, pixels.
const STEP_PX: f64 = 0.2;
/// The prior that holds all lines near 0, relative to the one between neighbours.
const HELD: f64 = 1e-3;
/// An offset changes by so many pixels at a time at most.
const MOST_PX: f64 = 1.5;

/// The offsets `[y, x]` of each line, pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct LineOffsets(Vec<[f64; 2]>);

/// What one line tells of its offset: sums over its pixels and maps.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineSums {
    /// Of the products of the gradients along y and x with each other: yy, yx, xx.
    pub gradients: [f64; 3],
    /// Of the products of the gradients with what is left of the maps.
    pub left: [f64; 2],
}

impl LineOffsets {
    /// `lines` in their places.
    pub fn none(lines: usize) -> LineOffsets {
        LineOffsets(vec![[0.0; 2]; lines])
    }

    /// Whether all lines are in their places.
    pub fn are_none(&self) -> bool {
        self.0.iter().flatten().all(|&offset| offset == 0.0)
    }

    /// The offset `[y, x]` of a line.
    pub fn of(&self, line: usize) -> [f64; 2] {
        self.0[line]
    }

    /// The offsets after one step towards those that explain most of what is left, whose noise has the variance `noise`.
    /// Rank-local.
    ///
    /// # Source
    /// A step of Gauss and Newton with a random walk as the prior: the most likely state of a linear Gaussian chain, by block
    /// elimination (Rauch, Tung & Striebel, AIAA J. 3 (1965) 1445).
    pub fn improved(&self, sums: &[LineSums], noise: f64) -> LineOffsets {
        let lines = self.0.len();
        let certainty = noise / (STEP_PX * STEP_PX);
        let at = |line: usize| Vector2::from(self.0[line]);
        // The gradient of the prior's energy, and the blocks on the diagonal; those beside it are all -certainty.
        let mut diagonal = Vec::with_capacity(lines);
        let mut right = Vec::with_capacity(lines);
        for (line, sum) in sums.iter().enumerate() {
            let [yy, yx, xx] = sum.gradients;
            let neighbours = [line.checked_sub(1), (line + 1 < lines).then_some(line + 1)];
            let pulled = neighbours.into_iter().flatten().map(|other| at(line) - at(other)).sum::<Vector2<f64>>();
            let held = certainty * (neighbours.iter().flatten().count() as f64 + HELD);
            diagonal.push(Matrix2::new(yy, yx, yx, xx) + Matrix2::identity() * held);
            right.push(Vector2::from(sum.left) - certainty * (pulled + HELD * at(line)));
        }
        for line in 1..lines {
            let inverse = inverse(diagonal[line - 1]);
            diagonal[line] -= certainty * certainty * inverse;
            let before = right[line - 1];
            right[line] += certainty * inverse * before;
        }
        let mut steps = vec![Vector2::zeros(); lines];
        for line in (0..lines).rev() {
            let after = if line + 1 < lines { certainty * steps[line + 1] } else { Vector2::zeros() };
            steps[line] = inverse(diagonal[line]) * (right[line] + after);
        }
        let moved = (0..lines).map(|line| at(line) + steps[line].map(|step| step.clamp(-MOST_PX, MOST_PX)));
        let moved: Vec<Vector2<f64>> = moved.collect();
        // An offset of the whole field is none.
        let mean = moved.iter().sum::<Vector2<f64>>() / lines.max(1) as f64;
        LineOffsets(moved.into_iter().map(|offset| (offset - mean).into()).collect())
    }
}

fn inverse(block: Matrix2<f64>) -> Matrix2<f64> {
    block.try_inverse().unwrap_or_else(Matrix2::zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_solves_the_linear_problem() {
        let wanted: Vec<[f64; 2]> =
            (0..40).map(|l| [(f64::from(l) * 0.2).sin() * 0.5, f64::from(l % 3) * 0.2]).collect();
        let means = [0, 1].map(|axis| wanted.iter().map(|offset| offset[axis]).sum::<f64>() / 40.0);
        // Of many electrons, the prior hardly counts.
        let sums: Vec<LineSums> = wanted
            .iter()
            .map(|[y, x]| LineSums { gradients: [9e5, 2e5, 5e5], left: [9e5 * y + 2e5 * x, 2e5 * y + 5e5 * x] })
            .collect();
        let found = LineOffsets::none(40).improved(&sums, 1.0);
        for (line, offset) in wanted.iter().enumerate() {
            for axis in [0, 1] {
                assert!((found.of(line)[axis] - (offset[axis] - means[axis])).abs() < 1e-3, "line {line}");
            }
        }
        assert!(!found.are_none() && LineOffsets::none(3).are_none());
    }
}
