//! The pixels that kinds of anomaly are grown from: those that neither chance nor a kind found so far explains.

use ndarray::Array2;

use super::line::Family;
use crate::bands::Bands;

/// The pixels that may seed a kind.
pub struct Seeds {
    /// By family: the surprise of each pixel in the best test, `-ln p`, less what chance reaches somewhere in the map.
    pub excess: [Array2<f32>; 2],
    /// The subspace of that test.
    origin: [Array2<u16>; 2],
    /// Pixels of a kind or of its blur.
    pub explained: Array2<bool>,
}

impl Seeds {
    /// No seeds yet, on bands of a map of this `shape`.
    pub fn none(shape: (usize, usize)) -> Seeds {
        Seeds {
            excess: [(); 2].map(|_| Array2::from_elem(shape, f32::MIN)),
            origin: [(); 2].map(|_| Array2::zeros(shape)),
            explained: Array2::from_elem(shape, false),
        }
    }

    /// Takes in the tests of one more subspace.
    pub fn offer(&mut self, family: Family, subspace: usize, surprise: &Array2<f32>, limit: f32) {
        let (excess, origin) = (&mut self.excess[family as usize], &mut self.origin[family as usize]);
        for ((excess, origin), &surprise) in excess.iter_mut().zip(origin).zip(surprise) {
            if surprise.is_nan() || surprise - limit > *excess {
                *excess = surprise - limit;
                *origin = subspace as u16;
            }
        }
    }

    /// The subspace and the pixel `[y, x]` of the most surprising pixel that neither chance nor a kind explains.
    ///
    /// # Collective
    pub fn next(&self, bands: &Bands) -> Option<(usize, [usize; 2])> {
        let first = bands.own().start;
        let best_here = |family: usize| {
            let mut best: Option<(f32, usize, [usize; 2])> = None;
            for ((y, x), &excess) in self.excess[family].indexed_iter() {
                let more = excess > best.map_or(0.0, |best| best.0);
                if more && !self.explained[[y, x]] {
                    let subspace = self.origin[family][[y, x]] as usize;
                    best = Some((excess, subspace, [first + y, x]));
                }
            }
            best
        };
        let ranks = bands.comm.all_gather(&[0, 1].map(best_here));
        let mut best: Option<(f32, usize, [usize; 2])> = None;
        // Of equals the one of the first family, and the first pixel of the cube.
        for family in [0, 1] {
            for found in ranks.iter().filter_map(|rank| rank[family]) {
                if best.is_none_or(|best| found.0 > best.0) {
                    best = Some(found);
                }
            }
        }
        best.map(|(_, subspace, pixel)| (subspace, pixel))
    }
}
