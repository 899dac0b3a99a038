//! Principal components, and spectra reconstructed from them.

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, ArrayView2, s};
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::noise_edge::{NEIGHBOURS, noise_edge};

/// Uncentred principal components, with HyperSpy's names and scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct Decomposition {
    /// `[E, components]`; with Poisson scaling in counts again, so not of unit length.
    pub factors: Array2<f64>,
    /// `S^2 / n` of every component, `[E]`, descending. The randomised solver estimates those that it did not compute,
    /// as noise with the variance that is left.
    pub explained_variance: Vec<f64>,
    /// `explained_variance` with sum 1; zeros where all spectra are.
    pub explained_variance_ratio: Vec<f64>,
    /// True for Poisson scaling.
    pub poisson: bool,
    /// `[E, components]`: a spectrum times this matrix gives its loadings.
    projection: Array2<f64>,
    /// Of what the first `0, 1, ..` components leave of a spectrum: the covariance of channels `0, 1, ..` apart, summed over
    /// the channels. The randomised solver takes the noise for white.
    left: Vec<[f64; NEIGHBOURS]>,
}

/// Eigenvectors and eigenvalues of a scatter matrix, which root computes and broadcasts.
#[derive(Serialize, Deserialize)]
pub(super) struct Eigenvectors {
    /// `[E, num_components]`, C order, unit length.
    vectors: Vec<f64>,
    num_components: usize,
    /// `[E]`, not negative; descending, where all were computed.
    values: Vec<f64>,
    /// The sums of the scatter matrix's diagonals `0, 1, ..`.
    diagonals: [f64; NEIGHBOURS],
}

impl Eigenvectors {
    /// Those of the largest eigenvalues of the scatter matrix of `size` channels whose lower triangle, packed row by
    /// row, is `triangle`. Rank-local.
    ///
    /// # Errors
    /// Errors of libtorch's eigendecomposition.
    pub(super) fn of(triangle: Vec<f64>, size: usize, max_components: usize) -> Result<Eigenvectors> {
        ensure!(
            size * (size + 1) / 2 == triangle.len(),
            "PCA: a scatter matrix of {} elements for {size} channels",
            triangle.len()
        );
        let num_components = max_components.min(size);
        let of_diagonal = |apart: usize| (apart..size).map(|row| triangle[row * (row + 1) / 2 + row - apart]).sum();
        let diagonals = std::array::from_fn(of_diagonal);
        let failed = "PCA: the eigendecomposition of the scatter matrix failed";
        let matrix = whole(triangle, size).context(failed)?;
        let (eigenvalues, eigenvectors) = matrix.f_linalg_eigh("L").context(failed)?;
        drop(matrix);
        let mut ascending = vec![0f64; size];
        let mut columns = vec![0f64; size * num_components];
        eigenvalues
            .f_copy_data(&mut ascending, size)
            .and_then(|()| {
                let wanted = num_components as i64;
                eigenvectors
                    .f_narrow(1, size as i64 - wanted, wanted)?
                    .f_contiguous()?
                    .f_copy_data(&mut columns, size * num_components)
            })
            .context("PCA: the eigenvectors of the scatter matrix cannot be read")?;
        // Rounding makes eigenvalues of 0 a little negative.
        let values = ascending.iter().rev().map(|v| v.max(0.0)).collect();
        let element = |row, component| columns[(row + 1) * num_components - 1 - component];
        Ok(Eigenvectors::new(values, diagonals, num_components, element))
    }

    /// The vectors with the elements `element(channel, component)`, all `values` `[E]`, and the sums of the scatter matrix's
    /// first `diagonals`. Rank-local.
    ///
    /// The sign of a vector makes its largest element positive. HyperSpy goes by the loadings, which no rank has whole.
    pub(super) fn new(
        values: Vec<f64>,
        diagonals: [f64; NEIGHBOURS],
        num_components: usize,
        element: impl Fn(usize, usize) -> f64,
    ) -> Eigenvectors {
        let size = values.len();
        let mut vectors = vec![0.0; size * num_components];
        for component in 0..num_components {
            let larger = |a: f64, b: f64| if b.abs() > a.abs() { b } else { a };
            let largest = (0..size).map(|row| element(row, component)).fold(0.0, larger);
            for row in 0..size {
                vectors[row * num_components + component] = element(row, component) * largest.signum();
            }
        }
        Eigenvectors { vectors, num_components, values, diagonals }
    }

    /// The sums of the first diagonals of the scatter matrix without its first `0, 1, ..` components.
    fn left(&self) -> Vec<[f64; NEIGHBOURS]> {
        let mut left = vec![self.diagonals];
        for component in 0..self.num_components {
            let vector: Vec<f64> = self.vectors.iter().skip(component).step_by(self.num_components).copied().collect();
            let of_component =
                |apart: usize| vector.iter().zip(&vector[apart.min(vector.len())..]).map(|(a, b)| a * b).sum::<f64>();
            let before = left[component];
            left.push(std::array::from_fn(|apart| before[apart] - self.values[component] * of_component(apart)));
        }
        left
    }
}

/// One over `x`; 0 where nothing was counted.
pub(super) fn over(x: f64) -> f64 {
    if x > 0.0 { 1.0 / x } else { 0.0 }
}

/// The matrix `[size, size]` with the lower triangle `triangle`; above the diagonal, which is not read, it is zero.
fn whole(triangle: Vec<f64>, size: usize) -> Result<Tensor, TchError> {
    let mut values = vec![0.0; size * size];
    let mut rest = &triangle[..];
    for (row, values) in values.chunks_mut(size.max(1)).enumerate() {
        let (found, after) = rest.split_at(row + 1);
        values[..=row].copy_from_slice(found);
        rest = after;
    }
    // With many channels each copy is large.
    drop(triangle);
    Tensor::f_from_slice(&values)?.f_view([size as i64, size as i64])
}

impl Decomposition {
    /// From the eigenvectors of the scatter matrix of `num_pixels` spectra. Rank-local.
    ///
    /// # Source
    /// HyperSpy `decomposition`: explained_variance = S^2 / n; Keenan & Kotula 2004 for the scaling, undone in
    /// factors and loadings.
    pub(super) fn new(eigen: Eigenvectors, column_scale: Option<Vec<f64>>, num_pixels: u64) -> Result<Decomposition> {
        let shape = (eigen.values.len(), eigen.num_components);
        let pixels = num_pixels.max(1) as f64;
        let left = eigen.left().into_iter().map(|sums| sums.map(|sum| sum / pixels)).collect();
        let vectors = Array2::from_shape_vec(shape, eigen.vectors)
            .context("PCA: eigenvectors of another shape than announced")?;
        let (mut factors, mut projection) = (vectors.clone(), vectors);
        if let Some(scale) = &column_scale {
            for (channel, &scale) in scale.iter().enumerate() {
                let inverse = over(scale);
                factors.row_mut(channel).mapv_inplace(|f| f * scale);
                projection.row_mut(channel).mapv_inplace(|f| f * inverse);
            }
        }
        let total: f64 = eigen.values.iter().sum();
        let total = if total > 0.0 { total } else { 1.0 };
        Ok(Decomposition {
            factors,
            projection,
            explained_variance: eigen.values.iter().map(|v| v / pixels).collect(),
            explained_variance_ratio: eigen.values.iter().map(|v| v / total).collect(),
            poisson: column_scale.is_some(),
            left,
        })
    }

    /// Number of components kept.
    pub fn num_components(&self) -> usize {
        self.factors.ncols()
    }

    /// The same with its first `k` components only.
    pub fn truncated(mut self, k: usize) -> Decomposition {
        let k = k.min(self.num_components());
        self.factors = self.factors.slice(s![.., ..k]).to_owned();
        self.projection = self.projection.slice(s![.., ..k]).to_owned();
        self
    }

    /// How many components exceed the noise of `num_pixels` independent spectra: at least 1, at most those kept.
    ///
    /// The noise is what is left without them; a detector that spreads electrons over channels makes it larger along smooth
    /// directions.
    pub fn significant(&self, num_pixels: f64) -> usize {
        let channels = self.explained_variance.len() as f64;
        let pixels = num_pixels.max(1.0);
        let above = |k: usize| {
            let free = (channels - k as f64) * (pixels - k as f64) / pixels;
            let edge = noise_edge(&self.left[k].map(|sum| sum / free.max(1.0)), channels / pixels);
            self.explained_variance[..k].iter().filter(|&&value| value > edge).count()
        };
        // Few spectra must leave something to tell the noise by. Components that turn out to be noise raise its level.
        let mut found = self.num_components().min((channels.min(pixels) / 2.0) as usize);
        loop {
            let fewer = above(found);
            if fewer == found {
                return found.max(1);
            }
            found = fewer;
        }
    }

    /// Loadings `[x, k]` of the spectra of `line` (`[x, E]` counts) on the first `k` components.
    ///
    /// Rank-local. `k` above the number of components gives all.
    pub fn loadings(&self, line: ArrayView2<f32>, k: usize) -> Array2<f64> {
        let k = k.min(self.num_components());
        line.mapv(f64::from).dot(&self.projection.slice(s![.., ..k]))
    }

    /// The reconstruction of `line` (`[x, E]` counts) from its first `k` components.
    ///
    /// Rank-local. `k` above the number of components gives all.
    pub fn reconstruct(&self, line: ArrayView2<f32>, k: usize) -> Array2<f32> {
        let loadings = self.loadings(line, k);
        let factors = self.factors.slice(s![.., ..loadings.ncols()]);
        loadings.dot(&factors.t()).mapv(|n| n as f32)
    }
}

/// The expected eigenvalues of noise of variance 1, with `ratio` dimensions per sample (at most 1): `count` quantiles
/// of their distribution, descending.
///
/// # Source
/// Marchenko & Pastur, Math. USSR Sb. 1 (1967) 457.
pub(super) fn marchenko_pastur(ratio: f64, count: usize) -> Vec<f64> {
    const STEPS: usize = 4000;
    let (low, high) = ((1.0 - ratio.sqrt()).powi(2), (1.0 + ratio.sqrt()).powi(2));
    let at = |i: usize| low + (high - low) * (i as f64 + 0.5) / STEPS as f64;
    let density = |x: f64| ((high - x) * (x - low)).max(0.0).sqrt() / x;
    let total: f64 = (0..STEPS).map(|i| density(at(i))).sum();
    let (mut step, mut above) = (STEPS, 0.0);
    let quantiles = (0..count).map(|i| {
        let wanted = total * (i as f64 + 0.5) / count as f64;
        while step > 0 && above < wanted {
            step -= 1;
            above += density(at(step));
        }
        at(step)
    });
    quantiles.collect()
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;

    use super::*;

    #[test]
    fn reconstructs_what_its_components_span() {
        let spectra = arr2(&[[4f32, 2.0, 0.0, 6.0], [2.0, 1.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0]]);
        let wide = spectra.mapv(f64::from);
        let scatter = wide.t().dot(&wide);
        let triangle: Vec<f64> = (0..4).flat_map(|row| scatter.row(row).to_vec().into_iter().take(row + 1)).collect();
        let eigen = Eigenvectors::of(triangle, 4, 2).unwrap();
        let pca = Decomposition::new(eigen, None, 3).unwrap();
        assert!((pca.explained_variance[0] - 70.0 / 3.0).abs() < 1e-12);
        assert!((pca.explained_variance_ratio[0] - 1.0).abs() < 1e-12);
        assert!(pca.factors[[3, 0]] > 0.0);
        let rebuilt = pca.reconstruct(spectra.view(), 1);
        assert!(rebuilt.iter().zip(&spectra).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!(pca.loadings(spectra.view(), 9).dim(), (3, 2));
    }

    #[test]
    fn nothing_but_zeros_is_no_error() {
        let eigen = Eigenvectors::of(vec![0.0; 6], 3, 5).unwrap();
        let pca = Decomposition::new(eigen, Some(vec![0.0; 3]), 0).unwrap();
        assert_eq!(pca.explained_variance_ratio, vec![0.0; 3]);
        let rebuilt = pca.reconstruct(arr2(&[[0f32, 0.0, 0.0]]).view(), 3);
        assert!(rebuilt.iter().all(|v| *v == 0.0));
    }

    #[test]
    fn components_above_the_edge_of_the_noise_are_significant() {
        // The median is close to the mean with many samples, and below it with few.
        assert!((marchenko_pastur(0.01, 1)[0] - 1.0).abs() < 0.01);
        assert!((marchenko_pastur(1.0, 1)[0] - 0.6528).abs() < 0.01);
        let mean = marchenko_pastur(0.3, 500).iter().sum::<f64>() / 500.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        let mut values = vec![50.0, 9.0];
        // Evenly spread over the support for a ratio of a quarter, .25 to 2.25: nearly its quantiles.
        values.extend((0..98).map(|i| 2.2 - 1.9 * i as f64 / 97.0));
        let diagonal = |row: usize| (0..=row).map(move |i| (row, i));
        let triangle: Vec<f64> =
            (0..100).flat_map(diagonal).map(|(row, i)| if row == i { values[i] } else { 0.0 }).collect();
        let eigen = Eigenvectors::of(triangle, 100, 10).unwrap();
        let pca = Decomposition::new(eigen, None, 400).unwrap();
        assert_eq!(pca.significant(400.0), 2);
        assert_eq!(pca.truncated(4).num_components(), 4);
    }
}
