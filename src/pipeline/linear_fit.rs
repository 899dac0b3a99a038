//! The fit of the linear baselines: principal components and mean of one cube, or of the training cubes.

use anyhow::Result;
use ndarray::{Array2, Axis as Dim};

use super::sum_cube::{SpectrumSum, sum_cube};
use crate::comm::Comm;
use crate::config::{Auto, Config, PcaSolver};
use crate::pca::{Decomposition, Scatter, Spectra, randomized};
use crate::score::quantiles;
use crate::stream::{Band, Cube, CubeStatistics, mean_spectrum};

/// Share of the pixels that a robust fit leaves out.
const TRIMMED_SHARE: f64 = 0.08;
const TRIMMING_ROUNDS: usize = 2;

/// Principal components and mean of one cube or of several.
#[derive(Clone)]
pub struct LinearFit {
    pub decomposition: Decomposition,
    /// Mean electrons `[energy]` of a pixel.
    pub mean: Vec<f64>,
    /// Number of components that stand out of the noise.
    pub significant: usize,
}

/// Most components that `auto` takes.
pub const MOST_AUTO: usize = 16;

impl LinearFit {
    /// Fits the spectra that `add_to` adds to a scatter matrix: `pixels` of them, whose sum is `sums` `[energy]`, electrons.
    ///
    /// # Collective
    fn new(
        comm: &Comm,
        config: &Config,
        sums: &[f64],
        pixels: f64,
        add_to: impl Fn(&mut Scatter) -> Result<()>,
    ) -> Result<LinearFit> {
        let options = &config.pca;
        let counts = options.components.as_slice();
        let given = counts.iter().filter_map(|count| match count {
            Auto::Given(count) => Some(*count),
            Auto::Auto => None,
        });
        let given = given.max().unwrap_or(1);
        let spectra = Spectra::new(sums, options.poisson);
        let (number, most) = (pixels as u64, given.max(MOST_AUTO));
        let independent = pixels / config.preprocess.dependence();
        let mut decomposition = match options.solver {
            PcaSolver::Exact => {
                let mut scatter = Scatter::new(&spectra);
                add_to(&mut scatter)?;
                scatter.decompose(comm, number, most)?
            }
            PcaSolver::Randomized => randomized(comm, &spectra, number, independent, most, add_to)?,
        };
        let significant = decomposition.significant(independent).min(MOST_AUTO);
        let kept = if counts.contains(&Auto::Auto) { given.max(significant) } else { given };
        decomposition = decomposition.truncated(kept);
        Ok(LinearFit { decomposition, mean: sums.iter().map(|sum| sum / pixels.max(1.0)).collect(), significant })
    }

    /// Fits all valid pixels of a cube, whose spectra add up to `sum`.
    ///
    /// # Collective
    pub fn to_cube(comm: &Comm, config: &Config, band: &Band, sum: &SpectrumSum) -> Result<LinearFit> {
        LinearFit::new(comm, config, &sum.electrons, sum.pixels, |scatter| add(comm, band, scatter, |_, _| true))
    }

    /// Fits the cube again, twice, each time without the pixels that the fit before explains worst.
    ///
    /// # Collective
    /// # Source
    /// Least trimmed squares: Rousseeuw, J. Am. Stat. Assoc. 79 (1984) 871, by concentration steps.
    pub fn trimmed(&self, comm: &Comm, config: &Config, band: &Band, bound: f64) -> Result<LinearFit> {
        let mut fitted = self.clone();
        for _ in 0..TRIMMING_ROUNDS {
            let errors = fitted.errors(comm, band)?;
            let limit = quantiles(comm, &errors, &[1.0 - TRIMMED_SHARE])[0];
            let width = band.cube.size()[1];
            let first = band.lines.start;
            let is_kept = |y: usize, x: usize| f64::from(errors[(y - first) * width + x]) <= limit;
            let sum = sum_cube(comm, band, bound, is_kept)?;
            let add_to = |scatter: &mut Scatter| add(comm, band, scatter, is_kept);
            fitted = LinearFit::new(comm, config, &sum.electrons, sum.pixels, add_to)?;
        }
        Ok(fitted)
    }

    /// How badly the components explain each pixel of the band, in units of its noise; NaN where ignored.
    ///
    /// # Collective
    fn errors(&self, comm: &Comm, band: &Band) -> Result<Vec<f32>> {
        let mut errors = Vec::new();
        let k = self.decomposition.num_components();
        let done = band.each_block(|_, prepared| {
            for (line, valid) in prepared.counts.outer_iter().zip(prepared.valid.outer_iter()) {
                let rebuilt = self.decomposition.reconstruct(line, k);
                let pairs = line.outer_iter().zip(rebuilt.outer_iter()).zip(valid);
                errors.extend(pairs.map(|((spectrum, rebuilt), &valid)| {
                    let channels = spectrum.iter().zip(rebuilt).zip(&self.mean);
                    let square: f64 = channels.map(|((&u, &r), &mean)| f64::from(u - r).powi(2) / mean.max(1e-3)).sum();
                    let total: f64 = spectrum.iter().map(|&u| f64::from(u)).sum();
                    if valid { (square / total.max(1.0)) as f32 } else { f32::NAN }
                }));
            }
            Ok(())
        });
        comm.agree(done)?;
        Ok(errors)
    }

    /// Fits the pixels of several `cubes` that are trained on.
    ///
    /// # Collective
    pub fn to_training(comm: &Comm, config: &Config, cubes: &[Cube], statistics: &CubeStatistics) -> Result<LinearFit> {
        let mean = mean_spectrum(comm, cubes, statistics)?;
        let pixels = mean.pixels;
        let electrons = mean.electrons_per_pixel * pixels;
        let sums: Vec<f64> = mean.shares.iter().map(|share| share * electrons).collect();
        LinearFit::new(comm, config, &sums, pixels, |scatter| {
            for cube in cubes {
                let lines = cube.blocks().band(comm.rank(), comm.size());
                // Nothing is kept in memory: each block is read when it is added.
                let opened = Band::open(cube, statistics.noise, lines, 0..0, 0);
                let band = comm.agree(opened)?;
                add(comm, &band, scatter, |y, x| cube.is_trained_on(y, x))?;
            }
            Ok(())
        })
    }
}

/// Adds the pixels of a cube that are valid and that `is_wanted(y, x)`, block by block.
///
/// # Collective
fn add(comm: &Comm, band: &Band, scatter: &mut Scatter, is_wanted: impl Fn(usize, usize) -> bool + Sync) -> Result<()> {
    let blocks = band.cube.blocks().owned(comm.rank(), comm.size());
    comm.agree(scatter.add_blocks(blocks, |block| band.spectra(block, &is_wanted)))
}

/// Loadings of this rank's pixels `[lines * x, components]`, NaN where a pixel is ignored.
///
/// # Collective
pub fn loadings(comm: &Comm, band: &Band, decomposition: &Decomposition) -> Result<Array2<f64>> {
    let width = band.cube.size()[1];
    let k = decomposition.num_components();
    let mut loadings = Array2::from_elem((band.lines.len() * width, k), f64::NAN);
    let done = band.each_block(|rows, prepared| {
        for (i, y) in rows.enumerate() {
            let found = decomposition.loadings(prepared.counts.index_axis(Dim(0), i), k);
            for (x, &valid) in prepared.valid.row(i).iter().enumerate() {
                if valid {
                    loadings.row_mut((y - band.lines.start) * width + x).assign(&found.row(x));
                }
            }
        }
        Ok(())
    });
    comm.agree(done)?;
    Ok(loadings)
}
