//! The scatter matrix of all spectra, summed so that ranks and threads do not show.

use anyhow::{ensure, Context, Result};
use ndarray::ArrayView2;
use tch::Tensor;

use super::decomposition::{Decomposition, Eigenvectors};
use crate::comm::{Comm, ExactSum};

/// `Z^T Z` over the pixels seen so far, `[E, E]`.
pub struct Scatter {
    num_channels: usize,
    /// With Poisson scaling: `sqrt(sum_pixels X)` per channel.
    column_scale: Option<Vec<f64>>,
    sum: ExactSum,
}

impl Scatter {
    /// Nothing summed yet, of spectra with `num_channels` channels.
    ///
    /// With `column_scale`, the root of every channel's sum over the cube's pixels, spectra are scaled to uniform
    /// Poisson noise. `bound`, equal on all ranks, is at least the largest sum of squares of a channel; with
    /// Poisson scaling of counts that are not negative no sum exceeds 1, and `bound` is not looked at.
    ///
    /// # Errors
    /// A column scale of the wrong length.
    pub fn new(num_channels: usize, column_scale: Option<&[f64]>, bound: f64) -> Result<Scatter> {
        if let Some(scale) = column_scale {
            ensure!(
                scale.len() == num_channels,
                "PCA: {} column scales for {num_channels} channels",
                scale.len()
            );
        }
        // The sums of all pixels were rounded: 1 must stay inside.
        let bound = if column_scale.is_some() { 1.01 } else { bound };
        Ok(Scatter {
            num_channels,
            column_scale: column_scale.map(<[f64]>::to_vec),
            sum: ExactSum::new(num_channels * num_channels, bound),
        })
    }

    /// The scatter matrix of one block (`[pixels, E]` counts), C order.
    ///
    /// Rank-local and pure; several threads may work on blocks at once if libtorch has one thread. A block is a
    /// fixed unit: the same pixels whatever the number of ranks. Pixels that do not count are left out of it.
    ///
    /// # Errors
    /// A block of another width; what libtorch says.
    ///
    /// # Source
    /// Keenan & Kotula, Surf. Interface Anal. 36 (2004) 203: Z = X / sqrt(sum_E X) / sqrt(sum_pixels X).
    pub fn product(&self, block: ArrayView2<f32>) -> Result<Vec<f64>> {
        let (pixels, channels) = block.dim();
        ensure!(
            channels == self.num_channels,
            "PCA: a block of {channels} channels for a scatter matrix of {}",
            self.num_channels
        );
        let inverse: Vec<f64> = match &self.column_scale {
            Some(scale) => scale
                .iter()
                .map(|&s| if s > 0.0 { 1.0 / s } else { 0.0 })
                .collect(),
            None => vec![1.0; channels],
        };
        let mut scaled = Vec::with_capacity(pixels * channels);
        for spectrum in block.rows() {
            let total: f64 = spectrum.iter().map(|&n| f64::from(n)).sum();
            let row = match &self.column_scale {
                Some(_) if total > 0.0 => 1.0 / total.sqrt(),
                Some(_) => 0.0,
                None => 1.0,
            };
            scaled.extend(
                spectrum
                    .iter()
                    .zip(&inverse)
                    .map(|(&n, c)| f64::from(n) * row * c),
            );
        }
        // A copy into libtorch's memory: BLAS may round differently on another alignment.
        let matrix = Tensor::f_from_slice(&scaled)
            .and_then(|z| z.f_view([pixels as i64, channels as i64]))
            .context("PCA: a block cannot be handed to libtorch")?;
        drop(scaled);
        let product = matrix
            .f_tr()
            .and_then(|transposed| transposed.f_matmul(&matrix))
            .and_then(|product| product.f_contiguous())
            .context("PCA: the scatter matrix of a block failed")?;
        let mut values = vec![0.0; channels * channels];
        product
            .f_copy_data(&mut values, channels * channels)
            .context("PCA: the scatter matrix of a block cannot be read")?;
        Ok(values)
    }

    /// Adds the product of one block. Rank-local; the order of blocks does not count.
    pub fn add(&mut self, product: &[f64]) {
        self.sum.add(product);
    }

    /// Adds one block (`[pixels, E]` counts): a scan line, or several that belong together on any number of ranks.
    ///
    /// # Errors
    /// As [`Scatter::product`].
    pub fn add_block(&mut self, block: ArrayView2<f32>) -> Result<()> {
        let product = self.product(block)?;
        self.add(&product);
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
        let scatter = self.sum.total(comm)?;
        let found = if comm.is_root() {
            Eigenvectors::of(&scatter, max_components).map(Some)
        } else {
            Ok(None)
        };
        let eigen = comm.broadcast(comm.agree(found)?);
        Decomposition::new(eigen, self.column_scale, num_pixels)
    }
}
