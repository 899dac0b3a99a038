//! One cube scored by every method: the 3D-CVAE's reconstruction and those of a few principal components.

use std::ops::Range;

use anyhow::{Context, Result};
use ndarray::{s, Array2, Array3, ArrayView2, Axis as Dim};
use rayon::prelude::*;

use super::Clock;
use crate::comm::{Comm, ExactSum};
use crate::config::{Config, Window, Windows};
use crate::device;
use crate::model::Tiles;
use crate::pca::{Decomposition, Scatter};
use crate::score::{find_windows, whole_axis, LineFeatures, LineScorer, Scores};
use crate::shard::Blocks;
use crate::stream::{Band, Cube, Survey};
use crate::train::Model;

/// Lines whose features are computed together.
const LINES: usize = 16;

/// Everything found in one cube; maps are this rank's band of whole lines.
pub struct Analysis<'a> {
    pub band: Band<'a>,
    pub blocks: Blocks,
    /// Mean electrons `[energy]` of a pixel that counts.
    pub mean: Vec<f64>,
    /// Electrons of each pixel `[lines, x]`, NaN where ignored.
    pub totals: Vec<f32>,
    pub windows: Vec<Window>,
    /// The CVAE first.
    pub methods: Vec<Method>,
    pub decomposition: Decomposition,
    /// `[lines * x, components]`, NaN where ignored.
    pub loadings: Array2<f64>,
    /// `[latent, lines, x]` of the CVAE, NaN where ignored.
    pub latent: Option<Array3<f32>>,
    pub tiles: Option<Tiles>,
    /// Bound on the electrons of one channel, summed over all pixels.
    pub bound: f64,
}

/// One way to reconstruct spectra, and the scores it leads to.
pub struct Method {
    /// `cvae`, `pca3`, ...
    pub name: String,
    pub scores: Scores,
}

impl<'a> Analysis<'a> {
    /// # Collective
    /// # Errors
    /// Unreadable data.
    pub fn of(
        comm: &Comm,
        config: &Config,
        cube: &'a Cube,
        survey: &Survey,
        model: Option<&Model>,
        clock: &mut Clock,
    ) -> Result<Analysis<'a>> {
        let blocks = cube.blocks();
        let lines = blocks.band(comm.rank(), comm.size());
        let tiles = match model {
            Some(model) => Some(Tiles::new(
                &model.spec,
                &model.parameters,
                device::choose(comm, config.train.device)?,
                &model.mean,
                cube.size(),
            )),
            None => None,
        };
        let halo = tiles
            .as_ref()
            .map_or(lines.clone(), |tiles| tiles.halo(&lines));
        let held = Band::open(cube, survey.noise, lines, halo, config.io.memory_mib << 20);
        let band = comm.agree(held)?;
        let (sum, totals) = sum_lines(comm, &band, survey.bound)?;
        let pixels = sum[cube.energy.size];
        let sums = &sum[..cube.energy.size];
        let mean: Vec<f64> = sums.iter().map(|&sum| sum / pixels.max(1.0)).collect();
        let windows = windows(config, cube, &mean);
        let scorer = LineScorer::new(&cube.energy, &windows, &mean)?;
        describe(comm, cube, &scorer);
        clock.lap("read");

        let mut methods = Vec::new();
        let mut latent = None;
        if let (Some(tiles), Some(model)) = (&tiles, model) {
            let mut codes = Array3::from_elem(
                (model.spec.latent, band.lines.len(), cube.size()[1]),
                f32::NAN,
            );
            let scores = score_cvae(comm, &scorer, &band, tiles, survey.bound, &mut codes)?;
            methods.push(Method {
                name: "cvae".into(),
                scores,
            });
            latent = Some(codes);
            clock.lap("score");
        }
        let counts = config.pca.components.as_slice();
        let most = counts.iter().copied().max().unwrap_or(1);
        let decomposition = decompose(comm, config, &band, blocks, sums, survey, pixels, most)?;
        let loadings = loadings(comm, &band, &decomposition, most)?;
        clock.lap("pca");
        for &k in counts {
            let scores = score_pca(comm, &scorer, &band, &decomposition, k, survey.bound)?;
            methods.push(Method {
                name: format!("pca{k}"),
                scores,
            });
        }
        clock.lap("score");
        Ok(Analysis {
            band,
            blocks,
            mean,
            totals,
            windows,
            methods,
            decomposition,
            loadings,
            latent,
            tiles,
            bound: survey.bound,
        })
    }

    /// The spectra of `lines` as the CVAE explains them, in electrons: `(line, [x, energy])` in order. Rank-local.
    pub fn reconstruct(
        &self,
        lines: Range<usize>,
        mut emit: impl FnMut(usize, Array2<f32>) -> Result<()>,
    ) -> Result<()> {
        let Some(tiles) = &self.tiles else {
            return Ok(());
        };
        tiles.reconstruct(
            lines,
            |rows| self.band.counts(rows),
            |line| {
                let counts = self.band.counts(line.y..line.y + 1)?;
                emit(line.y, electrons(line.shares, counts.index_axis(Dim(0), 0)))
            },
        )
    }
}

/// The spectrum `[energy]` and, last, the number of pixels that count, summed over the cube; electrons of each pixel of
/// the band.
///
/// # Collective
fn sum_lines(comm: &Comm, band: &Band, bound: f64) -> Result<(Vec<f64>, Vec<f32>)> {
    let channels = band.cube.energy.size;
    let mut sum = ExactSum::new(channels + 1, bound.max(band.cube.ignored.len() as f64));
    let mut totals = Vec::new();
    let summed = band.each_block(|_, prepared| {
        for (line, valid) in prepared
            .counts
            .outer_iter()
            .zip(prepared.valid.outer_iter())
        {
            let mut line_sum = vec![0f64; channels + 1];
            for (spectrum, &valid) in line.outer_iter().zip(valid) {
                if valid {
                    let mut total = 0f64;
                    for (sum, &u) in line_sum.iter_mut().zip(spectrum) {
                        *sum += u as f64;
                        total += u as f64;
                    }
                    line_sum[channels] += 1.0;
                    totals.push(total as f32);
                } else {
                    totals.push(f32::NAN);
                }
            }
            sum.add(&line_sum);
        }
        Ok(())
    });
    comm.agree(summed)?;
    Ok((sum.total(comm)?, totals))
}

fn windows(config: &Config, cube: &Cube, mean: &[f64]) -> Vec<Window> {
    let windows = match &config.score.windows {
        Windows::List(windows) => windows.clone(),
        Windows::Auto => find_windows(&cube.energy, mean),
    };
    if windows.is_empty() {
        vec![whole_axis(&cube.energy)]
    } else {
        windows
    }
}

fn describe(comm: &Comm, cube: &Cube, scorer: &LineScorer) {
    if !comm.is_root() {
        return;
    }
    for (i, window) in scorer.windows().enumerate() {
        let [low, high] = window.range_ev;
        let drift = match scorer.reference(i) {
            Some(reference) => format!("lines aligned on {}", reference.name),
            None => "no edge to align lines on".into(),
        };
        log::info!(
            "{}: window {} {low:.1}-{high:.1} eV, {drift}",
            cube.info().id,
            window.name
        );
    }
}

/// A reconstructed line in electrons `[x, energy]`: shares times what was counted.
fn electrons(mut shares: Array2<f32>, counts: ArrayView2<f32>) -> Array2<f32> {
    for (mut share, spectrum) in shares.outer_iter_mut().zip(counts.outer_iter()) {
        let total = spectrum.iter().map(|&u| u as f64).sum::<f64>() as f32;
        share.mapv_inplace(|value| value * total);
    }
    shares
}

/// A line and what a method makes of it; `[x, energy]` in electrons.
struct Pair {
    counts: Array2<f32>,
    valid: Vec<bool>,
    share: Vec<f32>,
    reconstruction: Array2<f32>,
}

/// Collects the features of reconstructed lines, a few at a time on all threads, and the mean reconstruction.
struct Collector<'a> {
    scorer: &'a LineScorer,
    features: Vec<LineFeatures>,
    waiting: Vec<Pair>,
    sum: ExactSum,
}

impl<'a> Collector<'a> {
    fn new(scorer: &'a LineScorer, channels: usize, bound: f64) -> Self {
        // A model may answer more electrons in a channel than were counted there.
        let bound = bound.max(1.0) * 1024.0;
        Collector {
            scorer,
            features: Vec::new(),
            waiting: Vec::new(),
            sum: ExactSum::new(channels, bound),
        }
    }

    fn push(&mut self, pair: Pair) {
        self.waiting.push(pair);
        if self.waiting.len() >= LINES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let found: Vec<(LineFeatures, Vec<f64>)> = self
            .waiting
            .par_iter()
            .map(|pair| {
                let mut sum = vec![0f64; pair.counts.ncols()];
                let lines = pair.reconstruction.outer_iter().zip(&pair.valid);
                for (spectrum, _) in lines.filter(|(_, &valid)| valid) {
                    for (sum, &value) in sum.iter_mut().zip(spectrum) {
                        *sum += value as f64;
                    }
                }
                let (counts, reconstruction) = (pair.counts.view(), pair.reconstruction.view());
                let features = self
                    .scorer
                    .line(counts, reconstruction, &pair.valid, &pair.share);
                (features, sum)
            })
            .collect();
        for (features, sum) in found {
            self.features.push(features);
            self.sum.add(&sum);
        }
        self.waiting.clear();
    }

    /// # Collective
    fn scores(mut self, comm: &Comm) -> Result<Scores> {
        self.flush();
        let valid = self.features.iter().flat_map(|line| &line.valid);
        let pixels = comm
            .sum_u64(valid.filter(|&&valid| valid).count() as u64)
            .max(1);
        let mean = self.sum.total(comm)?;
        let mean: Vec<f64> = mean.iter().map(|sum| sum / pixels as f64).collect();
        self.scorer.scores(comm, &self.features, &mean)
    }
}

/// # Collective
fn score_cvae(
    comm: &Comm,
    scorer: &LineScorer,
    band: &Band,
    tiles: &Tiles,
    bound: f64,
    codes: &mut Array3<f32>,
) -> Result<Scores> {
    let mut collector = Collector::new(scorer, band.cube.energy.size, bound);
    let done = tiles.reconstruct(
        band.lines.clone(),
        |rows| band.counts(rows),
        |line| {
            let prepared = band.lines(line.y..line.y + 1)?;
            let counts = prepared.counts.index_axis_move(Dim(0), 0);
            let valid = prepared.valid.row(0).to_vec();
            let y = line.y - band.lines.start;
            for (x, _) in valid.iter().enumerate().filter(|(_, &valid)| valid) {
                codes.slice_mut(s![.., y, x]).assign(&line.latent.row(x));
            }
            collector.push(Pair {
                reconstruction: electrons(line.shares, counts.view()),
                counts,
                valid,
                share: prepared.share.row(0).to_vec(),
            });
            Ok(())
        },
    );
    comm.agree(done)?;
    collector.scores(comm)
}

/// # Collective
fn score_pca(
    comm: &Comm,
    scorer: &LineScorer,
    band: &Band,
    decomposition: &Decomposition,
    k: usize,
    bound: f64,
) -> Result<Scores> {
    let mut collector = Collector::new(scorer, band.cube.energy.size, bound);
    let done = band.each_block(|rows, prepared| {
        let line = |i: usize| prepared.counts.index_axis(Dim(0), i);
        let rebuilt: Vec<Array2<f32>> = (0..rows.len())
            .into_par_iter()
            .map(|i| decomposition.reconstruct(line(i), k))
            .collect();
        for (i, reconstruction) in rebuilt.into_iter().enumerate() {
            collector.push(Pair {
                counts: line(i).to_owned(),
                valid: prepared.valid.row(i).to_vec(),
                share: prepared.share.row(i).to_vec(),
                reconstruction,
            });
        }
        Ok(())
    });
    comm.agree(done)?;
    collector.scores(comm)
}

/// Principal components of the cube's pixels that count.
///
/// # Collective
#[allow(clippy::too_many_arguments)]
fn decompose(
    comm: &Comm,
    config: &Config,
    band: &Band,
    blocks: Blocks,
    sums: &[f64],
    survey: &Survey,
    pixels: f64,
    most: usize,
) -> Result<Decomposition> {
    let scale: Option<Vec<f64>> = config
        .pca
        .poisson
        .then(|| sums.iter().map(|&sum| sum.max(0.0).sqrt()).collect());
    // A sum of squares is at most the square of the sum where nothing is negative.
    let largest = sums.iter().fold(0f64, |largest, &sum| largest.max(sum));
    let mut scatter = Scatter::new(
        sums.len(),
        scale.as_deref(),
        largest * largest.min(survey.bound),
    )?;
    let mine: Vec<usize> = blocks.owned(comm.rank(), comm.size()).collect();
    let summed = mine
        .chunks(rayon::current_num_threads())
        .try_for_each(|some| {
            let products = some
                .par_iter()
                .map(|&block| {
                    let prepared = band.lines(blocks.rows(block))?;
                    let spectra = prepared
                        .counts
                        .outer_iter()
                        .zip(prepared.valid.outer_iter())
                        .flat_map(|(line, valid)| {
                            let spectra: Vec<Vec<f32>> = line
                                .outer_iter()
                                .zip(valid)
                                .filter(|(_, &valid)| valid)
                                .map(|(spectrum, _)| spectrum.to_vec())
                                .collect();
                            spectra
                        });
                    let values: Vec<f32> = spectra.flatten().collect();
                    let shape = (values.len() / sums.len(), sums.len());
                    let matrix =
                        Array2::from_shape_vec(shape, values).context("spectra have one length")?;
                    scatter.product(matrix.view())
                })
                .collect::<Result<Vec<Vec<f64>>>>()?;
            products.iter().for_each(|product| scatter.add(product));
            Ok(())
        });
    comm.agree(summed)?;
    scatter.decompose(comm, pixels as u64, most)
}

/// `[lines * x, k]`, NaN where a pixel is ignored.
///
/// # Collective
fn loadings(
    comm: &Comm,
    band: &Band,
    decomposition: &Decomposition,
    k: usize,
) -> Result<Array2<f64>> {
    let width = band.cube.size()[1];
    let k = k.min(decomposition.num_components());
    let mut loadings = Array2::from_elem((band.lines.len() * width, k), f64::NAN);
    let done = band.each_block(|rows, prepared| {
        for (i, y) in rows.enumerate() {
            let found = decomposition.loadings(prepared.counts.index_axis(Dim(0), i), k);
            for (x, &valid) in prepared.valid.row(i).iter().enumerate() {
                if valid {
                    loadings
                        .row_mut((y - band.lines.start) * width + x)
                        .assign(&found.row(x));
                }
            }
        }
        Ok(())
    });
    comm.agree(done)?;
    Ok(loadings)
}
