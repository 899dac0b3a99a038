//! The scatter matrix of all spectra, summed exactly, so that it does not depend on ranks and threads.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;
use tch::{Kind, TchError, Tensor};

use super::decomposition::{Decomposition, Eigenvectors, over};
use crate::comm::{Comm, ExactSum};
use crate::spectrum::sum_products;

/// Channels of a panel: products are formed panel by panel, because only their lower triangle is needed.
const PANEL: usize = 256;

/// What is known of the spectra to decompose before they are read.
#[derive(Clone, Debug)]
pub struct Spectra {
    pub(super) num_channels: usize,
    /// With Poisson scaling: `sqrt(sum_pixels X)` per channel.
    pub(super) column_scale: Option<Vec<f64>>,
    /// `[E]`: approximately the direction of the first component; not normalised.
    pub(super) mean: Vec<f64>,
    /// Bound on the elements of their scatter matrix.
    bound: f64,
}

impl Spectra {
    /// Spectra whose counts sum to `sums` `[E]`, equal on all ranks; with `poisson` scaled to uniform Poisson noise.
    /// Rank-local.
    ///
    /// Counts must not be negative: the bound relies on sums of squares being at most the squares of sums.
    pub fn new(sums: &[f64], poisson: bool) -> Spectra {
        let root = |&sum: &f64| sum.max(0.0).sqrt();
        let column_scale: Option<Vec<f64>> = poisson.then(|| sums.iter().map(root).collect());
        let largest = sums.iter().copied().fold(0.0, f64::max);
        Spectra {
            num_channels: sums.len(),
            // Scaled, no element exceeds 1; a little more, because the sums were rounded.
            bound: if poisson { 1.01 } else { largest * largest },
            // Scaled, this is the first component itself.
            mean: column_scale.clone().unwrap_or_else(|| sums.to_vec()),
            column_scale,
        }
    }
}

/// The scatter matrix `Z^T Z` of the pixels added so far, its lower triangle packed row by row; or its products with a
/// few directions.
pub struct Scatter {
    spectra: Spectra,
    along: Option<Along>,
    sum: ExactSum,
}

/// The directions Q that the scatter matrix is multiplied with.
struct Along {
    /// One over the scale of every channel, `[E]`.
    inverse: Vec<f32>,
    /// `[E, directions]`, C order: the directions over the scales of the channels, to multiply counts with.
    weights: Vec<f32>,
}

impl Scatter {
    /// An empty sum of `Z^T Z`.
    pub fn new(spectra: &Spectra) -> Scatter {
        let channels = spectra.num_channels;
        Scatter {
            spectra: spectra.clone(),
            along: None,
            sum: ExactSum::new(channels * (channels + 1) / 2, spectra.bound),
        }
    }

    /// An empty sum of `Z^T Z Q`, followed by the trace of `Z^T Z`.
    ///
    /// `directions` are the orthonormal columns of Q, `[E, directions]` in C order.
    pub(super) fn along(spectra: &Spectra, directions: &[f32]) -> Scatter {
        let channels = spectra.num_channels;
        let inverse: Vec<f32> = match &spectra.column_scale {
            Some(scale) => scale.iter().map(|&s| over(s) as f32).collect(),
            None => vec![1.0; channels],
        };
        let count = directions.len() / channels.max(1);
        let rows = directions.chunks(count.max(1)).zip(&inverse);
        let weights = rows.flat_map(|(row, inverse)| row.iter().map(move |direction| direction * inverse)).collect();
        // No product with a vector of length 1 is longer than the trace of `Z^T Z`.
        let bound = spectra.bound * channels as f64;
        Scatter {
            spectra: spectra.clone(),
            sum: ExactSum::new(directions.len() + 1, bound),
            along: Some(Along { inverse, weights }),
        }
    }

    /// The sum over all ranks' pixels.
    ///
    /// # Collective
    /// # Errors
    /// Counts that are not finite.
    pub(super) fn total(self, comm: &Comm) -> Result<Vec<f64>> {
        self.sum.total(comm)
    }

    /// The contribution of one block (`[pixels, E]` counts) to the sum.
    ///
    /// Rank-local and pure; several threads may work on blocks at once if libtorch has one thread. A block must hold
    /// the same pixels whatever the number of ranks, valid ones only.
    ///
    /// # Errors
    /// A block of another width; errors of libtorch.
    ///
    /// # Source
    /// Keenan & Kotula, Surf. Interface Anal. 36 (2004) 203: Z = X / sqrt(sum_E X) / sqrt(sum_pixels X).
    pub(super) fn product(&self, block: ArrayView2<f32>) -> Result<Vec<f64>> {
        let channels = block.ncols();
        ensure!(
            channels == self.spectra.num_channels,
            "PCA: a block of {channels} channels for a scatter matrix of {}",
            self.spectra.num_channels
        );
        let block = block.as_standard_layout();
        let block = block.view();
        match (&self.along, &self.spectra.column_scale) {
            (Some(along), scale) => along.product(block, scale.is_some()),
            (None, Some(scale)) => scaled_product(block, scale),
            (None, None) => gram(&block.iter().map(|&n| f64::from(n)).collect::<Vec<f64>>(), channels),
        }
    }

    /// Adds one block (`[pixels, E]` counts): a scan line, or several that are on one rank whatever the number of
    /// ranks. The order of blocks does not matter. Rank-local.
    ///
    /// # Errors
    /// Those of `Scatter::product`.
    pub fn add_block(&mut self, block: ArrayView2<f32>) -> Result<()> {
        let product = self.product(block)?;
        self.sum.add(&product);
        Ok(())
    }

    /// Adds each of `blocks`, which `read` reads, as many at once as there are threads. Rank-local.
    ///
    /// # Errors
    /// Those of `read` and `Scatter::product`.
    pub fn add_blocks(
        &mut self,
        blocks: Range<usize>,
        read: impl Fn(usize) -> Result<Array2<f32>> + Sync,
    ) -> Result<()> {
        let blocks: Vec<usize> = blocks.collect();
        for some in blocks.chunks(rayon::current_num_threads()) {
            let products =
                some.par_iter().map(|&block| self.product(read(block)?.view())).collect::<Result<Vec<Vec<f64>>>>()?;
            products.iter().for_each(|product| self.sum.add(product));
        }
        Ok(())
    }

    /// The decomposition of all ranks' pixels, `num_pixels` of them, to at most `max_components`.
    ///
    /// # Collective
    /// Every rank of `comm`; a rank may have added nothing.
    ///
    /// # Errors
    /// Counts that are not finite; an eigendecomposition that failed. The same error on every rank.
    pub fn decompose(self, comm: &Comm, num_pixels: u64, max_components: usize) -> Result<Decomposition> {
        let triangle = self.sum.total(comm)?;
        let eigen = comm.from_root(|| Eigenvectors::of(triangle, self.spectra.num_channels, max_components))?;
        Decomposition::new(eigen, self.spectra.column_scale, num_pixels)
    }
}

/// `Z^T Z` of the counts `block`, scaled to uniform noise.
///
/// If all spectra were alike, Z would be `sqrt(totals) expected^T`, which holds nearly all of its length. The rest is
/// mostly noise: single precision is enough for its own products. Its products with the main part are formed in double
/// precision.
fn scaled_product(block: ArrayView2<f32>, scale: &[f64]) -> Result<Vec<f64>> {
    let whole: f64 = scale.iter().map(|s| s * s).sum();
    let inverse: Vec<f64> = scale.iter().map(|&s| over(s)).collect();
    let expected: Vec<f64> = scale.iter().map(|s| s * over(whole)).collect();
    let mut rest = Vec::with_capacity(block.len());
    let mut along = vec![0f64; scale.len()];
    let mut counts = 0.0;
    for spectrum in block.rows() {
        let total = total(spectrum);
        let (root, row) = if total > 0.0 { (total.sqrt(), 1.0 / total.sqrt()) } else { (0.0, 0.0) };
        counts += root * root;
        let channels = spectrum.iter().zip(&inverse).zip(&expected).zip(&mut along);
        rest.extend(channels.map(|(((&n, inverse), expected), along)| {
            let left = (f64::from(n) * row * inverse - root * expected) as f32;
            *along += root * f64::from(left);
            left
        }));
    }
    let mut triangle = gram(&rest, scale.len())?;
    let mut values = triangle.iter_mut();
    for (j, b) in expected.iter().enumerate() {
        let row = expected.iter().zip(&along).take(j + 1);
        for ((c, of_c), value) in row.zip(values.by_ref()) {
            *value += along[j] * c + b * of_c + counts * b * c;
        }
    }
    Ok(triangle)
}

impl Along {
    /// `Z^T Z Q` of the counts `block`, scaled to uniform noise where `is_scaled`, and last the trace of `Z^T Z`.
    ///
    /// Z itself is not formed: scaling a copy of the counts would take as long as one of the two products.
    fn product(&self, block: ArrayView2<f32>, is_scaled: bool) -> Result<Vec<f64>> {
        let (pixels, channels) = block.dim();
        let mut rows = Vec::with_capacity(pixels);
        let mut trace = 0.0;
        for spectrum in block.rows() {
            let row = if is_scaled { over(total(spectrum)) } else { 1.0 };
            let counts = spectrum.to_slice().expect("blocks are in C order");
            trace += row * sum_products(counts, &self.inverse, |n, inverse| f64::from(n * inverse).powi(2));
            rows.push(row as f32);
        }
        let counts = block.to_slice().expect("blocks are in C order");
        let sizes = [pixels, channels].map(|n| n as i64);
        let summed = || -> Result<Vec<f32>, TchError> {
            // A copy into libtorch's memory, because BLAS may round differently on another alignment.
            let counts = Tensor::f_from_slice(counts)?.f_view(sizes)?;
            let rows = Tensor::f_from_slice(&rows)?.f_view([sizes[0], 1])?;
            let weights = Tensor::f_from_slice(&self.weights)?.f_view([sizes[1], -1])?;
            let loadings = counts.f_matmul(&weights)?.f_mul_(&rows)?;
            let product = counts.f_tr()?.f_matmul(&loadings)?;
            product.f_contiguous()?.f_view(-1)?.try_into()
        };
        let summed = summed().context("PCA: the products of a block failed")?;
        let count = summed.len() / channels.max(1);
        let rows = summed.chunks(count.max(1)).zip(&self.inverse);
        let scaled = rows.flat_map(|(row, &inverse)| {
            let scaled = move |&value: &f32| f64::from(value) * f64::from(inverse);
            row.iter().map(scaled)
        });
        Ok(scaled.chain([trace]).collect())
    }
}

/// The sum of a spectrum.
fn total(spectrum: ArrayView1<f32>) -> f64 {
    let counts = spectrum.to_slice().expect("blocks are in C order");
    sum_products(counts, counts, |n, _| f64::from(n))
}

/// `rows^T rows` of `rows` with `width` columns: the lower triangle, packed row by row.
fn gram<T: tch::kind::Element>(rows: &[T], width: usize) -> Result<Vec<f64>> {
    // A copy into libtorch's memory, because BLAS may round differently on another alignment.
    let matrix = Tensor::f_from_slice(rows)
        .and_then(|z| z.f_view([(rows.len() / width.max(1)) as i64, width as i64]))
        .context("PCA: a block cannot be handed to libtorch")?;
    let mut values = Vec::with_capacity(width * (width + 1) / 2);
    for start in (0..width).step_by(PANEL) {
        let end = (start + PANEL).min(width);
        let panel: Vec<f64> = matrix
            .f_narrow(1, start as i64, (end - start) as i64)
            .and_then(|rows| rows.f_tr()?.f_matmul(&matrix.f_narrow(1, 0, end as i64)?))
            .and_then(|panel| panel.f_to_kind(Kind::Double)?.f_contiguous()?.f_view(-1)?.try_into())
            .context("PCA: the scatter matrix of a block failed")?;
        for (row, found) in (start..end).zip(panel.chunks(end)) {
            values.extend(&found[..=row]);
        }
    }
    Ok(values)
}
