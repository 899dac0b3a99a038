//! The description of a spectrum image: its axes, and what is known before a spectrum is read.
//!
//! Arrays are `[y, x, energy]` in memory, C order (HyperSpy prints `x, y | energy`); energies are in eV.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A calibrated axis, named as HyperSpy's: `value(i) = offset + scale * i`, in `units`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    pub name: String,
    pub units: String,
    pub scale: f64,
    pub offset: f64,
    pub size: usize,
    /// True for a position on the specimen, false for the energy loss.
    pub navigate: bool,
}

impl Axis {
    /// An energy-loss axis of `size` channels, `scale` eV wide, the first at `offset` eV.
    pub fn energy_loss(offset: f64, scale: f64, size: usize) -> Axis {
        Axis { name: "Energy loss".into(), units: "eV".into(), scale, offset, size, navigate: false }
    }

    /// An axis without calibration, whose values are its indices.
    pub fn of_indices(name: &str, size: usize, navigate: bool) -> Axis {
        Axis { name: name.into(), units: String::new(), scale: 1.0, offset: 0.0, size, navigate }
    }

    /// The value at index `i`, in `units`.
    pub fn value(&self, i: usize) -> f64 {
        self.offset + self.scale * i as f64
    }

    /// The values at every index, in `units`.
    pub fn values(&self) -> Vec<f64> {
        (0..self.size).map(|i| self.value(i)).collect()
    }

    /// The indices whose values lie in `[low, high]`, perhaps none. `scale` must be positive.
    pub fn indices(&self, low: f64, high: f64) -> Range<usize> {
        let index = |value: f64| ((value - self.offset) / self.scale).clamp(-1.0, self.size as f64);
        // A value on the boundary belongs to the range, although the quotient is rounded.
        let start = (index(low) - 1e-6).ceil().max(0.0) as usize;
        let end = ((index(high) + 1e-6).floor() + 1.0).clamp(0.0, self.size as f64) as usize;
        start..end.max(start)
    }

    /// The lower edge of the first channel and the upper edge of the last, in `units`.
    pub fn span(&self) -> [f64; 2] {
        [self.value(0) - 0.5 * self.scale, self.value(0) + (self.size as f64 - 0.5) * self.scale]
    }

    /// Whether both have equally many values, each within a hundredth of a channel of its counterpart.
    pub fn agrees(&self, other: &Axis) -> bool {
        let apart = |i: usize| (self.value(i) - other.value(i)).abs() <= 0.01 * self.scale;
        self.size == other.size && apart(0) && apart(self.size.saturating_sub(1))
    }

    /// This axis with every `n` channels merged into one; a remainder at its end is dropped.
    pub fn rebinned(&self, n: usize) -> Axis {
        Axis {
            offset: self.offset + 0.5 * (n - 1) as f64 * self.scale,
            scale: self.scale * n as f64,
            size: self.size / n,
            ..self.clone()
        }
    }

    /// The part of this axis at `range`.
    pub fn slice(&self, range: Range<usize>) -> Axis {
        Axis { offset: self.value(range.start), size: range.len(), ..self.clone() }
    }
}

/// The indices of an axis of `size` that lie within `reach` of index `i`.
pub fn neighbourhood(i: usize, reach: usize, size: usize) -> Range<usize> {
    i.saturating_sub(reach)..(i + reach + 1).min(size)
}

/// What is known of a cube before a spectrum is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CubeInfo {
    /// The path below the inputs' common root, without its extension; unique in a run.
    pub id: String,
    pub path: PathBuf,
    /// `hspy`, `hdf5`, ...
    pub format: String,
    /// The numpy name of the stored type: `float32`, `uint16`, ...
    pub dtype: String,
    pub y: Axis,
    pub x: Axis,
    /// Energy loss in eV.
    pub energy: Axis,
    /// Scan lines of a stored chunk; 1 if the data are not chunked.
    pub chunk_rows: usize,
}

impl CubeInfo {
    /// `[y, x, energy]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.y.size, self.x.size, self.energy.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn energy() -> Axis {
        Axis::energy_loss(450.0, 0.25, 2048)
    }

    #[test]
    fn indices_take_both_ends_and_clip() {
        let axis = energy();
        assert_eq!(axis.indices(450.0, 451.0), 0..5);
        assert_eq!(axis.indices(0.0, 449.9), 0..0);
        assert_eq!(axis.indices(961.0, 2000.0), 2044..2048);
        assert_eq!(axis.indices(2000.0, 3000.0).len(), 0);
    }

    #[test]
    fn a_rebinned_axis_covers_the_same_energies() {
        let by_three = energy().rebinned(3);
        assert_eq!((by_three.size, by_three.scale, by_three.offset), (682, 0.75, 450.25));
        assert_eq!(by_three.span()[0], energy().span()[0]);
        assert_eq!(energy().rebinned(1), energy());
        assert_eq!(energy().span(), [449.875, 961.875]);
    }

    #[test]
    fn axes_agree_to_a_hundredth_of_a_channel() {
        let off = |scale: f64| Axis { scale, ..energy() };
        assert!(energy().agrees(&off(0.25 + 1e-7)));
        assert!(!energy().agrees(&off(0.25 + 1e-5)));
        assert!(!energy().agrees(&energy().slice(0..2047)));
    }

    #[test]
    fn a_slice_keeps_its_calibration() {
        let part = energy().slice(8..20);
        assert_eq!((part.offset, part.size), (452.0, 12));
        assert_eq!(part.value(1), energy().value(9));
    }
}
