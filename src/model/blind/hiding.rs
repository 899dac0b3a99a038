//! Which pixels are hidden from the network: square blocks at regular distances.

/// Pixels along a side of a hidden block: an anomaly of that size leaves nothing of itself around its middle.
pub const BLOCK: usize = 8;
/// From one block to the next, in pixels.
pub const PERIOD: usize = 16;
/// Pixels in the middle of a block, along each side, whose prediction is taken.
pub const INNER: usize = 2;

/// Whether pixel `i` of an axis of `size` is hidden where blocks begin at `phase`; all of an axis of one pixel are.
pub fn is_hidden(i: usize, phase: usize, size: usize) -> bool {
    size == 1 || (i + PERIOD - phase % PERIOD) % PERIOD < BLOCK
}

/// Whether pixel `i` of an axis of `size` is in the middle of a block where blocks begin at `phase`.
pub fn is_inner(i: usize, phase: usize, size: usize) -> bool {
    const FIRST: usize = (BLOCK - INNER) / 2;
    let place = (i + PERIOD - phase % PERIOD) % PERIOD;
    size == 1 || (FIRST..FIRST + INNER).contains(&place)
}

/// The hidden pixels of a `patch` `[y, x]`, as indices in C order, where blocks begin at `phase` `[y, x]`: equally many for
/// each phase.
pub fn hidden_pixels(patch: [usize; 2], phase: [usize; 2]) -> Vec<usize> {
    let along = |axis: usize| (0..patch[axis]).filter(move |&i| is_hidden(i, phase[axis], patch[axis]));
    along(0).flat_map(|y| along(1).map(move |x| y * patch[1] + x)).collect()
}

/// The phases along an axis of `size` pixels in which each pixel is in the middle of a block once.
pub fn phases(size: usize) -> impl Iterator<Item = usize> {
    let count = if size == 1 { 1 } else { PERIOD / INNER };
    (0..count).map(|i| i * INNER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_a_patch_is_hidden_whatever_the_phase() {
        for phase in [[0, 0], [3, 9], [15, 1]] {
            assert_eq!(hidden_pixels([32, 32], phase).len(), 256);
            assert_eq!(hidden_pixels([1, 32], phase).len(), 16);
        }
        assert_eq!(hidden_pixels([16, 16], [15, 0])[..3], [0, 1, 2]);
    }

    #[test]
    fn each_pixel_is_in_the_middle_of_a_block_once() {
        for size in [1, 5, 16, 37] {
            for i in 0..size {
                let inner: Vec<usize> = phases(size).filter(|&phase| is_inner(i, phase, size)).collect();
                assert_eq!(inner.len(), 1);
                assert!(size == 1 || is_hidden(i, inner[0], size));
            }
        }
    }
}
