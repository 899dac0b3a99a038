//! Moves a prediction by the energy drift of its scan line: one edge measures the drift, and another is scored.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, CowArray, Ix2};

use super::features::Projection;
use super::line_shift::{information, line_shift};
use crate::cube::Axis;
use crate::spectrum::shifted;

/// An edge is strong if it has this share of the strongest edge's information.
const STRONG: f64 = 0.1;

/// How the lines of a cube are aligned.
pub struct Alignment {
    scale_ev: f64,
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
        let mut alignment =
            Alignment { scale_ev: energy.scale, edges: ranges.iter().map(edge).collect(), references: Vec::new() };
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

    /// The `prediction` of a line with these `counts`, both `[x, E]`, moved by the drift of the line. Rank-local.
    ///
    /// Each window is moved by the drift of the strongest other edge: an anomaly must not move what it is compared with.
    pub fn aligned<'a>(
        &self,
        counts: ArrayView2<f32>,
        prediction: ArrayView2<'a, f32>,
        valid: &[bool],
    ) -> CowArray<'a, f32, Ix2> {
        let drift = |edge: &Edge| line_shift(&edge.projection, counts, prediction, valid, self.scale_ev);
        let is_reference = |i: usize| self.references.contains(&Some(i));
        let drifts: Vec<f64> =
            self.edges.iter().enumerate().map(|(i, edge)| if is_reference(i) { drift(edge) } else { 0.0 }).collect();
        if drifts.iter().all(|&drift| drift == 0.0) {
            return CowArray::from(prediction);
        }
        let mut moved = Array2::zeros(prediction.dim());
        let mut first = 0;
        for channels in self.references.chunk_by(|a, b| a == b) {
            let range = first..first + channels.len();
            first = range.end;
            let by = channels[0].map_or(0.0, |reference| drifts[reference]) / self.scale_ev;
            for (spectrum, mut moved) in prediction.outer_iter().zip(moved.outer_iter_mut()) {
                let values = shifted(spectrum, by, range.clone());
                moved.iter_mut().skip(range.start).zip(values).for_each(|(moved, value)| *moved = value as f32);
            }
        }
        CowArray::from(moved)
    }
}
