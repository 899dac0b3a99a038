//! The scatter matrix of all spectra, summed so that ranks and threads do not show.

use std::ops::Range;

use anyhow::{ensure, Context, Result};
use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;
use tch::{Kind, TchError, Tensor};

use super::decomposition::{Decomposition, Eigenvectors};
use crate::comm::{Comm, ExactSum};

/// Channels of a panel: the product of a block is formed panel by panel, since only its lower triangle is needed.
const PANEL: usize = 256;

/// The spectra to decompose, as far as they are known before they are read.
#[derive(Clone, Debug)]
pub struct Spectra {
    pub(super) num_channels: usize,
    /// With Poisson scaling: `sqrt(sum_pixels X)` per channel.
    pub(super) column_scale: Option<Vec<f64>>,
    /// At least any element of their scatter matrix.
    bound: f64,
}

impl Spectra {
    /// Spectra of `num_channels` channels.
    ///
    /// With `column_scale`, the root of every channel's sum over the cube's pixels, they are scaled to uniform
    /// Poisson noise. `bound`, equal on all ranks, is at least the largest sum of squares of a channel; with
    /// Poisson scaling of counts that are not negative no sum exceeds 1, and `bound` is not looked at.
    ///
    /// # Errors
    /// A column scale of the wrong length.
    pub fn new(num_channels: usize, column_scale: Option<Vec<f64>>, bound: f64) -> Result<Spectra> {
        if let Some(scale) = &column_scale {
            ensure!(
                scale.len() == num_channels,
                "PCA: {} column scales for {num_channels} channels",
                scale.len()
            );
        }
        Ok(Spectra {
            num_channels,
            // The sums of all pixels were rounded: 1 must stay inside.
            bound: if column_scale.is_some() { 1.01 } else { bound },
            column_scale,
        })
    }
}

/// `Z^T Z` over the pixels seen so far, its lower triangle packed row by row; or its products with a few directions.
pub struct Scatter {
    spectra: Spectra,
    /// `[E, directions]`, C order.
    directions: Option<Vec<f32>>,
    sum: ExactSum,
}

impl Scatter {
    /// Nothing summed yet.
    pub fn new(spectra: &Spectra) -> Scatter {
        let channels = spectra.num_channels;
        Scatter {
            spectra: spectra.clone(),
            directions: None,
            sum: ExactSum::new(channels * (channels + 1) / 2, spectra.bound),
        }
    }

    /// Nothing summed yet of `Z^T Z Q` and then the trace of `Z^T Z` in the place of the triangle.
    ///
    /// `directions` are the orthonormal columns of Q, `[E, directions]` in C order.
    pub(super) fn along(spectra: &Spectra, directions: Vec<f32>) -> Scatter {
        // No product with a vector of length 1 is longer than the trace.
        let bound = spectra.bound * spectra.num_channels as f64;
        Scatter {
            spectra: spectra.clone(),
            sum: ExactSum::new(directions.len() + 1, bound),
            directions: Some(directions),
        }
    }

    /// What was summed over all ranks' pixels.
    ///
    /// # Collective
    /// # Errors
    /// Counts that are not finite.
    pub(super) fn total(self, comm: &Comm) -> Result<Vec<f64>> {
        self.sum.total(comm)
    }

    /// What one block (`[pixels, E]` counts) adds to the sum.
    ///
    /// Rank-local and pure; several threads may work on blocks at once if libtorch has one thread. A block is a
    /// fixed unit: the same pixels whatever the number of ranks. Pixels that do not count are left out of it.
    ///
    /// # Errors
    /// A block of another width; what libtorch says.
    ///
    /// # Source
    /// Keenan & Kotula, Surf. Interface Anal. 36 (2004) 203: Z = X / sqrt(sum_E X) / sqrt(sum_pixels X).
    fn product(&self, block: ArrayView2<f32>) -> Result<Vec<f64>> {
        let channels = block.ncols();
        ensure!(
            channels == self.spectra.num_channels,
            "PCA: a block of {channels} channels for a scatter matrix of {}",
            self.spectra.num_channels
        );
        let block = block.as_standard_layout();
        let block = block.view();
        match (&self.directions, &self.spectra.column_scale) {
            (Some(directions), scale) => product_along(block, scale.as_deref(), directions),
            (None, Some(scale)) => scaled_product(block, scale),
            (None, None) => gram(
                &block.iter().map(|&n| f64::from(n)).collect::<Vec<f64>>(),
                channels,
            ),
        }
    }

    /// Adds the product of one block. Rank-local; the order of blocks does not count.
    fn add(&mut self, product: &[f64]) {
        self.sum.add(product);
    }

    /// Adds one block (`[pixels, E]` counts): a scan line, or several that belong together on any number of ranks.
    ///
    /// # Errors
    /// As `Scatter::product`.
    pub fn add_block(&mut self, block: ArrayView2<f32>) -> Result<()> {
        let product = self.product(block)?;
        self.add(&product);
        Ok(())
    }

    /// Adds what `read` answers for each of `blocks`, as many at once as there are threads. Rank-local.
    ///
    /// # Errors
    /// Those of `read`, and as `Scatter::product`.
    pub fn add_blocks(
        &mut self,
        blocks: Range<usize>,
        read: impl Fn(usize) -> Result<Array2<f32>> + Sync,
    ) -> Result<()> {
        let blocks: Vec<usize> = blocks.collect();
        for some in blocks.chunks(rayon::current_num_threads()) {
            let products = some
                .par_iter()
                .map(|&block| self.product(read(block)?.view()))
                .collect::<Result<Vec<Vec<f64>>>>()?;
            products.iter().for_each(|product| self.add(product));
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
    pub fn decompose(
        self,
        comm: &Comm,
        num_pixels: u64,
        max_components: usize,
    ) -> Result<Decomposition> {
        let triangle = self.sum.total(comm)?;
        let found = if comm.is_root() {
            Eigenvectors::of(triangle, self.spectra.num_channels, max_components).map(Some)
        } else {
            Ok(None)
        };
        let eigen = comm.broadcast(comm.agree(found)?);
        Decomposition::new(eigen, self.spectra.column_scale, num_pixels)
    }
}

/// `Z^T Z` of the counts `block`, scaled to uniform noise.
///
/// Were all spectra alike, Z would be `root(totals) expected^T`: nearly all of its length lies there. What is left of it
/// is mostly noise, for which single precision will do; the products with the rest are formed in double precision.
fn scaled_product(block: ArrayView2<f32>, scale: &[f64]) -> Result<Vec<f64>> {
    let whole: f64 = scale.iter().map(|s| s * s).sum();
    let over = |x: f64| if x > 0.0 { 1.0 / x } else { 0.0 };
    let inverse: Vec<f64> = scale.iter().map(|&s| over(s)).collect();
    let expected: Vec<f64> = scale.iter().map(|s| s * over(whole)).collect();
    let mut rest = Vec::with_capacity(block.len());
    let mut along = vec![0f64; scale.len()];
    let mut counts = 0.0;
    for spectrum in block.rows() {
        let total = total(spectrum, |n| n);
        let (root, row) = if total > 0.0 {
            (total.sqrt(), 1.0 / total.sqrt())
        } else {
            (0.0, 0.0)
        };
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

/// `Z^T Z Q` of the counts `block` and the `directions` Q (`[E, directions]`, C order), scaled where `scale` is given, and
/// last the trace of `Z^T Z`.
fn product_along(
    block: ArrayView2<f32>,
    scale: Option<&[f64]>,
    directions: &[f32],
) -> Result<Vec<f64>> {
    let (pixels, channels) = block.dim();
    let inverse: Vec<f32> = match scale {
        Some(scale) => scale
            .iter()
            .map(|&s| if s > 0.0 { 1.0 / s as f32 } else { 0.0 })
            .collect(),
        None => vec![1.0; channels],
    };
    let mut values = Vec::with_capacity(block.len());
    let mut trace = 0.0;
    for spectrum in block.rows() {
        let row = match scale.map(|_| total(spectrum, |n| n)) {
            Some(total) if total > 0.0 => 1.0 / total.sqrt() as f32,
            Some(_) => 0.0,
            None => 1.0,
        };
        let scaled = spectrum.iter().zip(&inverse);
        values.extend(scaled.map(|(&n, inverse)| n * row * inverse));
        trace += total((&values[values.len() - channels..]).into(), |z| z * z);
    }
    let sizes = [pixels, channels].map(|n| n as i64);
    let count = directions.len() / channels.max(1);
    let found = || -> Result<Vec<f64>, TchError> {
        let z = Tensor::f_from_slice(&values)?.f_view(sizes)?;
        let q = Tensor::f_from_slice(directions)?.f_view([sizes[1], count as i64])?;
        let product = z.f_tr()?.f_matmul(&z.f_matmul(&q)?)?;
        product
            .f_to_kind(Kind::Double)?
            .f_contiguous()?
            .f_view(-1)?
            .try_into()
    };
    let mut found = found().context("PCA: the products of a block failed")?;
    found.push(trace);
    Ok(found)
}

/// The sum of `of` every channel of a spectrum in C order, in an order that does not depend on the machine.
fn total(spectrum: ArrayView1<f32>, of: impl Fn(f64) -> f64) -> f64 {
    // One sum would wait for each addition before the next.
    let mut sums = [0f64; 8];
    let counts = spectrum.as_slice().expect("blocks are in C order");
    let whole = counts.chunks_exact(sums.len());
    let rest: f64 = whole.remainder().iter().map(|&n| of(f64::from(n))).sum();
    for counts in whole {
        for (sum, &n) in sums.iter_mut().zip(counts) {
            *sum += of(f64::from(n));
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `rows^T rows`, its lower triangle packed row by row, of `rows` with `width` columns.
fn gram<T: tch::kind::Element>(rows: &[T], width: usize) -> Result<Vec<f64>> {
    // A copy into libtorch's memory: BLAS may round differently on another alignment.
    let matrix = Tensor::f_from_slice(rows)
        .and_then(|z| z.f_view([(rows.len() / width.max(1)) as i64, width as i64]))
        .context("PCA: a block cannot be handed to libtorch")?;
    let mut values = Vec::with_capacity(width * (width + 1) / 2);
    for start in (0..width).step_by(PANEL) {
        let end = (start + PANEL).min(width);
        let panel: Vec<f64> = matrix
            .f_narrow(1, start as i64, (end - start) as i64)
            .and_then(|rows| rows.f_tr()?.f_matmul(&matrix.f_narrow(1, 0, end as i64)?))
            .and_then(|panel| {
                panel
                    .f_to_kind(Kind::Double)?
                    .f_contiguous()?
                    .f_view(-1)?
                    .try_into()
            })
            .context("PCA: the scatter matrix of a block failed")?;
        for (row, found) in (start..end).zip(panel.chunks(end)) {
            values.extend(&found[..=row]);
        }
    }
    Ok(values)
}
