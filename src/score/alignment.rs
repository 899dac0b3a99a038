//! The energy drift of a scan line against the mean spectrum: one edge measures it, and another is scored.
//!
//! Not the line is moved, whose noise would be smoothed, but the mean spectrum and the directions that it is compared with.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::features::Projection;
use super::line_shift::{information, line_shift};
use crate::cube::Axis;
use crate::spectrum::shifted;

/// An edge is strong if it has this share of the strongest edge's information.
const STRONG: f64 = 0.1;

/// How the lines of a cube are aligned.
pub struct Alignment {
    scale_ev: f64,
    /// `[E]`, the mean spectrum.
    mean: Array1<f32>,
    edges: Vec<Edge>,
    /// What each channel is moved by: the index of the edge that measures it.
    references: Vec<Option<usize>>,
}

/// The edge of a window.
struct Edge {
    projection: Projection,
    /// Fisher information about a shift, eV^-2 per pixel.
    strength: f64,
}

impl Alignment {
    /// On the edges in the channels `ranges` of spectra with the mean `mean` (`[E]` counts).
    pub fn new(energy: &Axis, ranges: &[Range<usize>], mean: &[f64]) -> Alignment {
        let energies = energy.values();
        let counts: Array1<f32> = mean.iter().map(|&m| m as f32).collect();
        let edge = |range: &Range<usize>| {
            let projection = Projection::new(&energies, range.clone());
            let strength = information(&projection, counts.view(), energy.scale);
            Edge { strength: if strength.is_finite() { strength } else { 0.0 }, projection }
        };
        let mut alignment = Alignment {
            scale_ev: energy.scale,
            edges: ranges.iter().map(edge).collect(),
            mean: counts.clone(),
            references: Vec::new(),
        };
        let others = alignment.strongest_apart_from(&(0..0)).filter(|_| ranges.len() > 1);
        alignment.references = vec![others; energy.size];
        for range in ranges {
            let reference = alignment.strongest_apart_from(range);
            alignment.references[range.clone()].fill(reference);
        }
        alignment
    }

    /// The strongest edge that shares no channel with `range`.
    fn strongest_apart_from(&self, range: &Range<usize>) -> Option<usize> {
        let apart = |edge: &Edge| {
            let other = &edge.projection.range;
            edge.strength > 0.0 && (other.end <= range.start || range.end <= other.start)
        };
        let strength = |i: usize| self.edges[i].strength;
        (0..self.edges.len())
            .filter(|&i| apart(&self.edges[i]))
            .max_by(|&a, &b| strength(a).total_cmp(&strength(b)).then(b.cmp(&a)))
    }

    /// The window highest in energy among those with a strong edge.
    pub fn latest_strong(&self) -> usize {
        let strongest = self.edges.iter().map(|edge| edge.strength).fold(0.0, f64::max);
        let strong = (0..self.edges.len()).filter(|&i| self.edges[i].strength >= STRONG * strongest);
        strong.max_by_key(|&i| self.edges[i].projection.range.start).unwrap_or(0)
    }

    /// By edge, how far (eV) the spectra of a line `[x, E]` lie above the mean spectrum; 0 where that is not needed or cannot be
    /// told. Rank-local.
    ///
    /// Each window is compared with what the strongest other edge says: an anomaly must not move what it is compared with.
    pub fn drifts(&self, line: ArrayView2<f32>, valid: &[bool]) -> Vec<f64> {
        let total = self.mean.sum().max(f32::MIN_POSITIVE);
        let mut expected = Array2::zeros(line.dim());
        for (mut expected, spectrum) in expected.outer_iter_mut().zip(line.outer_iter()) {
            expected.assign(&(&self.mean * (spectrum.sum() / total)));
        }
        let drift = |(i, edge): (usize, &Edge)| match self.references.contains(&Some(i)) {
            true => line_shift(&edge.projection, line, expected.view(), valid, self.scale_ev),
            false => 0.0,
        };
        self.edges.iter().enumerate().map(drift).collect()
    }

    /// A `spectrum` `[E]` in the frame of the mean spectrum, moved to where a line with these `drifts` has it.
    pub fn moved(&self, spectrum: ArrayView1<f32>, drifts: &[f64]) -> Array1<f32> {
        let mut moved = Vec::with_capacity(spectrum.len());
        for channels in self.references.chunk_by(|a, b| a == b) {
            let range = moved.len()..moved.len() + channels.len();
            let by = channels[0].map_or(0.0, |reference| drifts[reference]) / self.scale_ev;
            moved.extend(shifted(spectrum, by, range).into_iter().map(|value| value as f32));
        }
        Array1::from_vec(moved)
    }
}
