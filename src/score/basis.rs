//! The coordinates in which the residuals of a cube are looked at: a small space over energy, fixed by the mean spectrum.
//!
//! All residuals are in one fixed whitening, `(u - U m) / sqrt(U m)` of counts `u` with the sum `U` and the mean spectrum
//! `m`. It is linear in the counts and in a prediction alike, so all that follows can be sums of products.

use std::ops::Range;

use anyhow::{Result, ensure};
use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array1, Array2, ArrayView2, CowArray, Ix1, Ix2, s};

use super::alignment::Alignment;
use super::edge_profile::EdgeProfile;
use super::pcc::pcc_score;
use crate::config::Window;
use crate::cube::Axis;
use crate::spectrum::MIN_CHANNELS;

/// The shifts that templates are made for, eV, up and down.
const SHIFTS_EV: [f64; 10] = [1.0, 1.5, 2.2, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 12.0];
/// Coordinates that the edges of a cube share, and the most of one edge for its shifts.
const EDGE_COORDINATES: usize = 28;
const SHIFT_COORDINATES: usize = 6;
/// Share of the shift templates of an edge that its coordinates leave out, at most.
const LEFT_OUT: f64 = 0.005;
/// Slow cosines over the whole axis.
const COSINES: usize = 8;
/// Coordinates in which a cube's own misfit is looked for: directions along which its spectra vary, and cosines within the
/// windows.
const DETAIL: usize = 24;
const VARIATIONS: usize = 10;
/// Directions that the others hold but for so small a part are left out.
const LEAST_NEW: f64 = 0.1;
/// The same among the coordinates of edges, relative to the largest.
const LEAST_EDGE: f64 = 0.03;
/// With more windows, too few coordinates would be left for each.
const MAX_WINDOWS: usize = 12;

/// A residual that a known kind of anomaly leaves.
#[derive(Clone, Debug)]
pub struct Template {
    /// Index of the window whose edge has changed.
    pub window: usize,
    pub change: Change,
    /// `[coordinates]`, for a pixel of one electron.
    pub residual: Vec<f64>,
}

/// How an edge has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// In height, up or down.
    Height,
    /// In energy.
    Energy,
}

/// The coordinates of one cube.
pub struct Basis {
    energy: Axis,
    windows: Vec<Window>,
    /// `[E]`, the mean spectrum in shares.
    mean: Array1<f32>,
    /// `[E, coordinates]`, orthonormal columns.
    directions: Array2<f32>,
    /// The first coordinates are kept in any case: those of edges and the slow cosines.
    pub fixed: usize,
    /// By window; `None` where nothing rises.
    edges: Vec<Option<EdgeProfile>>,
    pub templates: Vec<Template>,
    alignment: Alignment,
    /// Channels that `pcc` is taken in.
    pcc_range: Range<usize>,
}

/// One scan line in the coordinates of a [`Basis`].
#[derive(Clone, Debug, PartialEq)]
pub struct LineFeatures {
    /// `[x]`: neither ignored nor missing.
    pub valid: Vec<bool>,
    /// `[x]`, 1 - PCC, NaN where not valid.
    pub pcc: Vec<f32>,
    /// `[x]`, NaN where not valid.
    pub electrons: Vec<f32>,
    /// `[x, coordinates]` of the counts, NaN where not valid.
    pub counted: Array2<f32>,
    /// `[x, coordinates]` of the prediction, NaN where not valid.
    pub predicted: Array2<f32>,
}

impl Basis {
    /// For `windows` of spectra on `energy` (eV); `mean` is the cube's mean spectrum (`[E]` counts per pixel), and `variations`
    /// how its counts vary over the cube (`[E]` each, of any size, the largest first).
    ///
    /// # Errors
    /// No window, or a window with fewer than four channels on the axis; named with the axis's range.
    pub fn new(energy: &Axis, windows: &[Window], mean: &[f64], variations: &[Vec<f64>]) -> Result<Basis> {
        check(energy, windows)?;
        let shares = shares(mean);
        let following = |window: &Window| {
            let later = windows.iter().filter(|other| other.background_ev[1] > window.background_ev[1]);
            later.min_by(|a, b| a.background_ev[1].total_cmp(&b.background_ev[1]))
        };
        let profile = |window: &Window| EdgeProfile::new(energy, window, following(window), &shares);
        let edges: Vec<Option<EdgeProfile>> = windows.iter().map(profile).collect();
        let found = edges.iter().flatten().count().max(1);
        let most = SHIFT_COORDINATES.min((EDGE_COORDINATES / found).saturating_sub(1)).max(1);
        let mut rows = Vec::new();
        for edge in edges.iter().flatten() {
            rows.extend(unit(edge.higher()));
            let moved = SHIFTS_EV.iter().flat_map(|&shift| [shift, -shift]).filter_map(|shift| unit(edge.moved(shift)));
            rows.extend(principal(&moved.collect::<Vec<_>>(), most));
        }
        let of_edges = extended(&[], &rows, LEAST_EDGE);
        let size = energy.size;
        let over_axis: Vec<Vec<f64>> = (0..COSINES.min(size)).map(|k| cosine(size, &(0..size), k)).collect();
        let slow = extended(&of_edges, &over_axis, LEAST_NEW);
        let ranges: Vec<Range<usize>> = windows.iter().map(|w| energy.indices(w.range_ev[0], w.range_ev[1])).collect();
        let kept = [of_edges, slow].concat();
        let whitened =
            |counts: &Vec<f64>| unit(counts.iter().zip(&shares).map(|(c, share)| c / share.sqrt()).collect());
        let varying: Vec<Vec<f64>> = variations.iter().take(VARIATIONS).filter_map(whitened).collect();
        let mut detail = extended(&kept, &varying, LEAST_NEW);
        let share = ((DETAIL - detail.len()) / windows.len()).max(1);
        let within =
            |range: &Range<usize>| (0..share.min(range.len())).map(|k| cosine(size, range, k)).collect::<Vec<_>>();
        let fine: Vec<Vec<f64>> = ranges.iter().flat_map(within).collect();
        let known = [&kept[..], &detail[..]].concat();
        detail.extend(extended(&known, &fine, LEAST_NEW));
        let (fixed, all) = (kept.len(), [kept, detail].concat());
        let directions = Array2::from_shape_fn((size, all.len()), |(e, k)| all[k][e] as f32);
        let alignment = Alignment::new(energy, &ranges, mean);
        let mut basis = Basis {
            pcc_range: ranges[alignment.latest_strong()].clone(),
            alignment,
            energy: energy.clone(),
            windows: windows.to_vec(),
            mean: shares.iter().map(|&share| share as f32).collect(),
            directions,
            fixed,
            edges,
            templates: Vec::new(),
        };
        basis.templates = basis.known_changes();
        Ok(basis)
    }

    fn known_changes(&self) -> Vec<Template> {
        let mut templates = Vec::new();
        for (window, edge) in self.edges.iter().enumerate() {
            let Some(edge) = edge else { continue };
            templates.push(Template { window, change: Change::Height, residual: self.coordinates(&edge.higher()) });
            for shift in SHIFTS_EV.iter().flat_map(|&shift| [shift, -shift]) {
                let residual = self.coordinates(&edge.moved(shift));
                templates.push(Template { window, change: Change::Energy, residual });
            }
        }
        templates
    }

    /// The windows, in the order given.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The edge of a window, if there is one.
    pub fn edge(&self, window: usize) -> Option<&EdgeProfile> {
        self.edges[window].as_ref()
    }

    pub fn num_coordinates(&self) -> usize {
        self.directions.ncols()
    }

    /// The coordinates of a residual `[E]`.
    pub fn coordinates(&self, residual: &[f64]) -> Vec<f64> {
        let along =
            |column: ndarray::ArrayView1<f32>| column.iter().zip(residual).map(|(&d, r)| f64::from(d) * r).sum();
        self.directions.columns().into_iter().map(along).collect()
    }

    /// One scan line in these coordinates: `counts` and `prediction` are `[x, E]` in electrons, `valid` is `[x]`.
    ///
    /// `share` `[x]` is the share of a full spatial mean's pixels that a pixel is the mean of: with fewer a mean is noisier,
    /// and all of it is scaled down accordingly. Both are
    /// compared with the mean spectrum as the energy drift of each has it. Rank-local and pure: the same line gives the same features wherever it is
    /// computed.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn line(
        &self,
        counts: ArrayView2<f32>,
        prediction: ArrayView2<f32>,
        valid: &[bool],
        share: &[f32],
    ) -> LineFeatures {
        assert_eq!(counts.dim(), prediction.dim(), "a line and its prediction");
        assert_eq!(counts.dim(), (valid.len(), self.energy.size), "a line and the axis");
        let electrons: Vec<f32> = counts.outer_iter().map(|pixel| total(pixel.iter())).collect();
        let coordinates = |line: ArrayView2<f32>| {
            let (mean, directions) = self.moved(line, valid);
            let mut whitened = line.to_owned();
            for (x, mut pixel) in whitened.outer_iter_mut().enumerate() {
                if !valid[x] {
                    pixel.fill(0.0);
                    continue;
                }
                let weight = share[x].sqrt();
                for (value, &mean) in pixel.iter_mut().zip(mean.iter()) {
                    let expected = electrons[x] * mean;
                    *value = weight * (*value - expected) / expected.max(1e-3).sqrt();
                }
            }
            let mut found = whitened.dot(&directions);
            (0..valid.len()).filter(|&x| !valid[x]).for_each(|x| found.row_mut(x).fill(f32::NAN));
            found
        };
        let pcc = |x: usize| {
            let window = s![x, self.pcc_range.clone()];
            if valid[x] { pcc_score(counts.slice(window), prediction.slice(window)) } else { f32::NAN }
        };
        LineFeatures {
            valid: valid.to_vec(),
            pcc: (0..valid.len()).map(pcc).collect(),
            electrons: electrons.iter().zip(valid).map(|(&n, &valid)| if valid { n } else { f32::NAN }).collect(),
            counted: coordinates(counts),
            predicted: coordinates(prediction),
        }
    }

    /// The mean spectrum in shares and the directions, where the energy drift of a `line` has them.
    fn moved(&self, line: ArrayView2<f32>, valid: &[bool]) -> (CowArray<'_, f32, Ix1>, CowArray<'_, f32, Ix2>) {
        let drifts = self.alignment.drifts(line, valid);
        if drifts.iter().all(|&drift| drift == 0.0) {
            return (self.mean.view().into(), self.directions.view().into());
        }
        let mean = self.alignment.moved(self.mean.view(), &drifts);
        let mut directions = Array2::zeros(self.directions.dim());
        for (mut moved, direction) in directions.columns_mut().into_iter().zip(self.directions.columns()) {
            moved.assign(&self.alignment.moved(direction, &drifts));
        }
        (mean.into(), directions.into())
    }
}

fn check(energy: &Axis, windows: &[Window]) -> Result<()> {
    ensure!(!windows.is_empty(), "no energy window to score in: give score.windows, or take the whole axis");
    ensure!(
        windows.len() <= MAX_WINDOWS,
        "score.windows: {} windows; give at most {MAX_WINDOWS}, memory for more is not kept",
        windows.len()
    );
    for window in windows {
        let [low, high] = window.range_ev;
        let channels = energy.indices(low, high).len();
        ensure!(
            channels >= MIN_CHANNELS,
            "score.windows: '{}' ({low} to {high} eV) covers {channels} channels of this cube, whose energies are {:.1} \
             to {:.1} eV; give a window inside them",
            window.name,
            energy.value(0),
            energy.value(energy.size.saturating_sub(1)),
        );
    }
    Ok(())
}

/// `mean` as shares of its sum; no channel is empty.
fn shares(mean: &[f64]) -> Vec<f64> {
    let total = mean.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    mean.iter().map(|count| (count / total).max(1e-9)).collect()
}

fn total<'a>(values: impl Iterator<Item = &'a f32>) -> f32 {
    values.map(|&value| f64::from(value)).sum::<f64>() as f32
}

/// The `k`-th cosine over the channels `range` of `size`, 0 outside, of length 1.
///
/// # Source
/// DCT-II: Ahmed, Natarajan & Rao, IEEE Trans. Comput. 23 (1974) 90.
fn cosine(size: usize, range: &Range<usize>, k: usize) -> Vec<f64> {
    let width = range.len() as f64;
    let norm = (if k == 0 { 1.0 } else { 2.0 } / width).sqrt();
    let mut values = vec![0.0; size];
    for i in range.clone() {
        let at = (i - range.start) as f64 + 0.5;
        values[i] = norm * (std::f64::consts::PI * k as f64 * at / width).cos();
    }
    values
}

/// `vector` scaled to length 1; `None` where it is zero but for rounding.
fn unit(vector: Vec<f64>) -> Option<Vec<f64>> {
    let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
    (length > 1e-9 && length.is_finite()).then(|| vector.iter().map(|v| v / length).collect())
}

/// Right singular vectors of `rows` with their singular values, the largest first.
fn singular(rows: &[Vec<f64>]) -> Vec<(f64, Vec<f64>)> {
    let Some(first) = rows.first() else { return Vec::new() };
    let rows = DMatrix::from_fn(rows.len(), first.len(), |i, e| rows[i][e]);
    let eigen = SymmetricEigen::new(&rows * rows.transpose());
    let mut order: Vec<usize> = (0..rows.nrows()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let vector = |k: usize| {
        let value = eigen.eigenvalues[k].max(0.0).sqrt();
        let vector = rows.tr_mul(&eigen.eigenvectors.column(k)) / value.max(1e-12);
        (value, vector.iter().copied().collect())
    };
    order.into_iter().map(vector).collect()
}

/// At most `most` principal directions of unit vectors `rows`, enough for nearly all of them.
fn principal(rows: &[Vec<f64>], most: usize) -> Vec<Vec<f64>> {
    let mut left = rows.len() as f64;
    let mut kept = Vec::new();
    for (value, vector) in singular(rows).into_iter().take(most) {
        if left <= LEFT_OUT * rows.len() as f64 {
            break;
        }
        left -= value * value;
        kept.push(vector);
    }
    kept
}

/// Orthonormal directions for what `rows` have beyond the orthonormal `known`; of singular values below `least` none.
fn extended(known: &[Vec<f64>], rows: &[Vec<f64>], least: f64) -> Vec<Vec<f64>> {
    let rest = |row: &Vec<f64>| {
        let mut row = row.clone();
        for direction in known {
            let along: f64 = row.iter().zip(direction).map(|(r, d)| r * d).sum();
            row.iter_mut().zip(direction).for_each(|(r, d)| *r -= along * d);
        }
        row
    };
    let found = singular(&rows.iter().map(rest).collect::<Vec<_>>());
    let least = if known.is_empty() { least * found.first().map_or(1.0, |first| first.0) } else { least };
    found.into_iter().filter(|(value, _)| *value > least).map(|(_, vector)| vector).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn energy() -> Axis {
        Axis::energy_loss(450.0, 0.8, 240)
    }

    /// Electrons of a pixel with an edge at 532 eV, moved by `shift`, and one at 620 eV.
    fn spectrum(shift: f64, height: f64) -> Vec<f64> {
        let step = |e: f64, at: f64| 1.0 / (1.0 + (-(e - at) / 0.8).exp());
        let edge = |e: f64| {
            let first = step(e, 532.0 + shift) + (-((e - 536.0 - shift) / 2.0).powi(2)).exp();
            1e5 * (e / 450.0f64).powf(-2.9) + height * 3e4 * first + 2e4 * step(e, 620.0)
        };
        energy().values().into_iter().map(edge).collect()
    }

    fn window(name: &str, onset: f64) -> Window {
        Window { name: name.into(), range_ev: [onset - 8.0, onset + 40.0], background_ev: [onset - 40.0, onset - 4.0] }
    }

    fn basis() -> Basis {
        Basis::new(&energy(), &[window("first", 532.0), window("second", 620.0)], &spectrum(0.0, 1.0), &[]).unwrap()
    }

    #[test]
    fn directions_are_orthonormal_and_few() {
        let basis = basis();
        let products = basis.directions.t().dot(&basis.directions);
        for ((i, j), product) in products.indexed_iter() {
            assert!((product - f32::from(u8::from(i == j))).abs() < 1e-4, "{i} {j}: {product}");
        }
        assert!((30..=56).contains(&basis.num_coordinates()), "{}", basis.num_coordinates());
        assert_eq!(basis.templates.len(), 2 * 21);
    }

    #[test]
    fn a_change_of_an_edge_lies_along_its_template() {
        let basis = basis();
        // One changed pixel of a line, so that the line has not drifted.
        let counts = |shift, height| -> Array2<f32> {
            let pixels = [spectrum(shift, height), vec![spectrum(0.0, 1.0); 6].concat()].concat();
            Array2::from_shape_vec((7, energy().size), pixels.into_iter().map(|n| n as f32).collect()).unwrap()
        };
        let cosine = |of: &Array2<f32>, template: &Template| {
            let line = basis.line(of.view(), of.view(), &[true; 7], &[1.0; 7]);
            let counted = line.counted.row(0);
            let pairs = || counted.iter().zip(&template.residual);
            let along: f64 = pairs().map(|(&c, t)| f64::from(c) * t).sum();
            let squares =
                pairs().map(|(&c, t)| [f64::from(c).powi(2), t * t]).fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
            along / squares[0].sqrt() / squares[1].sqrt()
        };
        let height = &basis.templates[0];
        assert_eq!((height.window, height.change), (0, Change::Height));
        assert!(cosine(&counts(0.0, 1.2), height) > 0.98);
        let moved = &basis.templates[1 + 2 * 2];
        assert!(cosine(&counts(2.2, 1.0), moved) > 0.95, "{}", cosine(&counts(2.2, 1.0), moved));
    }

    #[test]
    fn a_narrow_window_is_named_with_the_axis() {
        let narrow = Window { name: "thin".into(), range_ev: [700.0, 701.0], background_ev: [690.0, 699.0] };
        let message = Basis::new(&energy(), &[narrow], &spectrum(0.0, 1.0), &[]).err().unwrap().to_string();
        assert!(message.contains("'thin'") && message.contains("450.0 to 641.2 eV"), "{message}");
    }
}
