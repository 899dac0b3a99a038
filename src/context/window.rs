//! Which pixels a prediction sees, and which pixels its weights were fitted to.

/// Lines and columns on either side that are seen.
pub const REACH: [usize; 2] = [8, 12];
/// Pixels on either side that are not seen: an anomaly seldom reaches farther.
const BLIND: isize = 3;
/// Side of the cells that the pixels are divided into, in pixels.
const CELL: usize = 6;
/// Sets of cells; each pixel is predicted by weights that were fitted to the pixels of the other sets.
pub const FOLDS: usize = 4;

/// The places `[y, x]`, relative to a pixel, of those that its prediction sees in a field of `[y, x]` pixels.
pub fn window(size: [usize; 2]) -> Vec<[isize; 2]> {
    let reach = |axis: usize| {
        let reach = REACH[axis].min(size[axis].saturating_sub(1)) as isize;
        -reach..=reach
    };
    let all = reach(0).flat_map(|y| reach(1).map(move |x| [y, x]));
    all.filter(|place| place.iter().any(|distance| distance.abs() > BLIND)).collect()
}

/// The set of cells that the pixel belongs to.
pub fn fold([y, x]: [usize; 2]) -> usize {
    (y / CELL) % 2 * 2 + (x / CELL) % 2
}

/// Whether the pixel is in a regular sample of every `step`th pixel of a field.
pub fn is_sampled([y, x]: [usize; 2], step: usize) -> bool {
    // On a slant, and moved on from cell to cell, so that no set of cells is missed: not with any step in a field, nor with
    // one below 13 in a single line, which is enough for 260,000 pixels.
    (x + x / (2 * CELL) + 5 * y).is_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_within_reach_of_an_anomaly_is_seen() {
        let field = window([96, 96]);
        assert_eq!(field.len(), 17 * 25 - 7 * 7);
        assert!(!field.contains(&[3, -3]) && field.contains(&[4, 0]) && field.contains(&[0, -4]));
        // A scan of one line; a field that is narrower than the window.
        assert_eq!(window([1, 200]).len(), 25 - 7);
        assert_eq!(window([49, 6]).len(), 17 * 11 - 7 * 7);
        assert!(window([3, 3]).is_empty());
    }

    #[test]
    fn a_sample_has_pixels_of_every_set() {
        for (size, sets, steps) in [([1, 5000], 2, 13), ([200, 200], FOLDS, 50)] {
            for step in 1..steps {
                let mut found = [0; FOLDS];
                for y in 0..size[0] {
                    (0..size[1]).filter(|&x| is_sampled([y, x], step)).for_each(|x| found[fold([y, x])] += 1);
                }
                let wanted = size[0] * size[1] / step / sets;
                assert!(found[..sets].iter().all(|&n| 2 * n > wanted), "{step} {size:?} {found:?}");
            }
        }
    }
}
