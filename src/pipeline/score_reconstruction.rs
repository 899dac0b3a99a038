//! The scores of a cube against any reconstruction of it: the same for every method.

use anyhow::Result;
use ndarray::{Array2, Array3, ArrayView2, Axis as Dim, s};
use rayon::prelude::*;

use super::given::Given;
use crate::comm::{Comm, ExactSum};
use crate::model::Tiles;
use crate::results::electrons;
use crate::score::{Basis, LineFeatures, Scores};
use crate::stream::Band;

/// What the scores of every reconstruction of one cube are computed with.
pub struct Scoring<'a> {
    pub comm: &'a Comm,
    pub basis: &'a Basis,
    pub band: &'a Band<'a>,
}

/// Lines whose features are computed together, at least; more threads take a line each.
const LINES: usize = 4;

fn lines_at_once() -> usize {
    LINES.max(rayon::current_num_threads())
}

/// A line and its reconstruction, `[x, energy]` in electrons.
struct Pair {
    counts: Array2<f32>,
    valid: Vec<bool>,
    share: Vec<f32>,
    reconstruction: Array2<f32>,
}

/// Collects the features of reconstructed lines, a few at a time on all threads.
struct Collector<'a> {
    basis: &'a Basis,
    features: Vec<LineFeatures>,
    waiting: Vec<Pair>,
    /// Sum over pixels of their squared residuals in units of the prediction's Poisson noise.
    squares: ExactSum,
    /// Pixels of a line.
    width: usize,
}

/// The least electrons of a channel that a residual is measured by.
const LEAST_EXPECTED: f32 = 1e-3;
/// Bound on the squared residual of a channel, on average over a line.
const MOST_SQUARE: f64 = 1e6;

/// How well a prediction fits a cube.
pub struct Fit {
    pub scores: Scores,
    /// Mean over pixels of the sum over channels of squared residuals, in units of the prediction's Poisson noise.
    pub squares: f64,
}

impl<'a> Collector<'a> {
    fn new(scoring: &Scoring<'a>) -> Self {
        let channels = scoring.band.cube.energy.size;
        Collector {
            basis: scoring.basis,
            features: Vec::new(),
            waiting: Vec::new(),
            squares: ExactSum::new(1, MOST_SQUARE * scoring.band.cube.ignored.len() as f64 * channels as f64),
            width: scoring.band.cube.size()[1],
        }
    }

    fn push(&mut self, pair: Pair) {
        self.waiting.push(pair);
        if self.waiting.len() >= lines_at_once() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let found = |pair: &Pair| {
            let (counts, reconstruction) = (pair.counts.view(), pair.reconstruction.view());
            (self.basis.line(counts, reconstruction, &pair.valid, &pair.share), pair.squares())
        };
        let found: Vec<(LineFeatures, f64)> = self.waiting.par_iter().map(found).collect();
        for (features, squares) in found {
            self.features.push(features);
            self.squares.add(&[squares]);
        }
        self.waiting.clear();
    }

    /// # Collective
    fn fit(mut self, comm: &Comm, beside: &[Array2<f32>]) -> Result<Fit> {
        self.flush();
        let valid = self.features.iter().flat_map(|line| &line.valid).filter(|valid| **valid).count();
        let pixels = comm.sum_u64(valid as u64).max(1) as f64;
        let squares = self.squares.total(comm)?[0] / pixels;
        Ok(Fit { scores: self.basis.scores(comm, self.width, self.features, beside)?, squares })
    }
}

impl Pair {
    fn squares(&self) -> f64 {
        let spectra = self.counts.outer_iter().zip(self.reconstruction.outer_iter()).zip(&self.valid);
        let square =
            |(&count, &expected): (&f32, &f32)| f64::from((count - expected).powi(2) / expected.max(LEAST_EXPECTED));
        let sum = spectra
            .filter(|(_, valid)| **valid)
            .map(|((counts, expected), _)| counts.iter().zip(expected).map(square).sum::<f64>());
        sum.sum::<f64>().min(MOST_SQUARE * self.counts.len() as f64)
    }
}

impl Scoring<'_> {
    /// Scores of this rank's lines against the CVAE; their latent codes go to `codes` `[latent, lines, x]`. `beside` is what
    /// their surroundings predict of them.
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data.
    pub fn score_cvae(&self, tiles: &Tiles, codes: &mut Array3<f32>, beside: &[Array2<f32>]) -> Result<Fit> {
        let band = self.band;
        let mut collector = Collector::new(self);
        let done = tiles.reconstruct(
            band.lines.clone(),
            |rows| band.counts(rows),
            |line| {
                let prepared = band.lines(line.y..line.y + 1)?;
                let counts = prepared.counts.index_axis_move(Dim(0), 0);
                let valid = prepared.valid.row(0).to_vec();
                let y = line.y - band.lines.start;
                for (x, _) in valid.iter().enumerate().filter(|&(_, &valid)| valid) {
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
        self.comm.agree(done)?;
        collector.fit(self.comm, beside)
    }

    /// Scores of this rank's lines against a reconstruction by another program.
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data; values that are no electrons.
    pub fn score_given(&self, given: &Given) -> Result<Fit> {
        let mut collector = Collector::new(self);
        let done = self.band.each_block(|rows, prepared| {
            for (i, y) in rows.enumerate() {
                let counts = prepared.counts.index_axis(Dim(0), i).to_owned();
                let mut shares = given.lines(y..y + 1)?.index_axis_move(Dim(0), 0);
                for mut spectrum in shares.outer_iter_mut() {
                    let total: f64 = spectrum.iter().map(|&value| f64::from(value)).sum();
                    spectrum.mapv_inplace(|value| (f64::from(value) / total.max(f64::MIN_POSITIVE)) as f32);
                }
                collector.push(Pair {
                    reconstruction: electrons(shares, counts.view()),
                    counts,
                    valid: prepared.valid.row(i).to_vec(),
                    share: prepared.share.row(i).to_vec(),
                });
            }
            Ok(())
        });
        self.comm.agree(done)?;
        collector.fit(self.comm, &[])
    }

    /// Scores of this rank's lines against the reconstruction that `rebuild` gives of each from its place y and its counts,
    /// `[x, energy]` electrons.
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data.
    pub fn score_rebuilt(&self, rebuild: impl Fn(usize, ArrayView2<f32>) -> Array2<f32> + Sync) -> Result<Fit> {
        let mut collector = Collector::new(self);
        let done = self.each_rebuilt(rebuild, |pairs| pairs.into_iter().for_each(|pair| collector.push(pair)));
        self.comm.agree(done)?;
        collector.fit(self.comm, &[])
    }

    /// As [`score_rebuilt`](Self::score_rebuilt), but gives only the squares of the [`Fit`].
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data.
    pub fn squares_rebuilt(&self, rebuild: impl Fn(usize, ArrayView2<f32>) -> Array2<f32> + Sync) -> Result<f64> {
        let mut squares = Collector::new(self).squares;
        let mut pixels = 0;
        let done = self.each_rebuilt(rebuild, |pairs| {
            let found: Vec<f64> = pairs.par_iter().map(Pair::squares).collect();
            found.into_iter().for_each(|found| squares.add(&[found]));
            pixels += pairs.iter().flat_map(|pair| &pair.valid).filter(|valid| **valid).count() as u64;
        });
        self.comm.agree(done)?;
        let pixels = self.comm.sum_u64(pixels).max(1) as f64;
        Ok(squares.total(self.comm)?[0] / pixels)
    }

    /// Passes this rank's lines, a few at a time and in order, with what `rebuild` makes of each to `take`. Rank-local.
    fn each_rebuilt(
        &self,
        rebuild: impl Fn(usize, ArrayView2<f32>) -> Array2<f32> + Sync,
        mut take: impl FnMut(Vec<Pair>),
    ) -> Result<()> {
        let mut waiting = Vec::new();
        let mut rebuild_all = |waiting: &mut Vec<(usize, Pair)>| {
            waiting.par_iter_mut().for_each(|(y, pair)| pair.reconstruction = rebuild(*y, pair.counts.view()));
            take(waiting.drain(..).map(|(_, pair)| pair).collect());
        };
        self.band.each_block(|rows, prepared| {
            for (i, y) in rows.enumerate() {
                let pair = Pair {
                    counts: prepared.counts.index_axis(Dim(0), i).to_owned(),
                    valid: prepared.valid.row(i).to_vec(),
                    share: prepared.share.row(i).to_vec(),
                    reconstruction: Array2::default([0, 0]),
                };
                waiting.push((y, pair));
                if waiting.len() >= lines_at_once() {
                    rebuild_all(&mut waiting);
                }
            }
            Ok(())
        })?;
        rebuild_all(&mut waiting);
        Ok(())
    }
}
