//! From reconstructed lines to scores, alike for every method.

use anyhow::Result;
use ndarray::{Array2, Array3, ArrayView2, Axis as Dim, s};
use rayon::prelude::*;

use crate::comm::{Comm, ExactSum};
use crate::model::Tiles;
use crate::results::electrons;
use crate::score::{LineFeatures, LineScorer, Scores};
use crate::spectrum::sum_spectra;
use crate::stream::Band;

/// Lines whose features are computed together, at least; more threads take a line each.
const LINES: usize = 4;

fn lines_at_once() -> usize {
    LINES.max(rayon::current_num_threads())
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
    /// Pixels of a line.
    width: usize,
}

impl<'a> Collector<'a> {
    fn new(scorer: &'a LineScorer, band: &Band, bound: f64) -> Self {
        // A model may answer more electrons in a channel than were counted there.
        let bound = bound.max(1.0) * 1024.0;
        Collector {
            scorer,
            features: Vec::new(),
            waiting: Vec::new(),
            sum: ExactSum::new(band.cube.energy.size, bound),
            width: band.cube.size()[1],
        }
    }

    fn push(&mut self, pair: Pair) {
        self.waiting.push(pair);
        if self.waiting.len() >= lines_at_once() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let found: Vec<(LineFeatures, Vec<f64>)> = self
            .waiting
            .par_iter()
            .map(|pair| {
                let (counts, reconstruction) = (pair.counts.view(), pair.reconstruction.view());
                let sum = sum_spectra(reconstruction, |x| pair.valid[x]);
                let features = self.scorer.line(counts, reconstruction, &pair.valid, &pair.share);
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
        let pixels = comm.sum_u64(valid.filter(|&&valid| valid).count() as u64).max(1);
        let mean = self.sum.total(comm)?;
        let mean: Vec<f64> = mean.iter().map(|sum| sum / pixels as f64).collect();
        self.scorer.scores(comm, self.width, self.features, &mean)
    }
}

/// Scores of this rank's lines against the CVAE; their latent codes go to `codes` `[latent, lines, x]`.
///
/// # Collective
pub fn score_cvae(
    comm: &Comm,
    scorer: &LineScorer,
    band: &Band,
    tiles: &Tiles,
    bound: f64,
    codes: &mut Array3<f32>,
) -> Result<Scores> {
    let mut collector = Collector::new(scorer, band, bound);
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
    comm.agree(done)?;
    collector.scores(comm)
}

/// Scores of this rank's lines against what `rebuild` makes of each, `[x, energy]` electrons.
///
/// # Collective
pub fn score_rebuilt(
    comm: &Comm,
    scorer: &LineScorer,
    band: &Band,
    bound: f64,
    rebuild: impl Fn(ArrayView2<f32>) -> Array2<f32> + Sync,
) -> Result<Scores> {
    let mut collector = Collector::new(scorer, band, bound);
    let mut waiting = Vec::new();
    let mut rebuild_all = |waiting: &mut Vec<Pair>| {
        waiting.par_iter_mut().for_each(|pair| pair.reconstruction = rebuild(pair.counts.view()));
        waiting.drain(..).for_each(|pair| collector.push(pair));
    };
    let done = band.each_block(|rows, prepared| {
        for i in 0..rows.len() {
            waiting.push(Pair {
                counts: prepared.counts.index_axis(Dim(0), i).to_owned(),
                valid: prepared.valid.row(i).to_vec(),
                share: prepared.share.row(i).to_vec(),
                reconstruction: Array2::default([0, 0]),
            });
            if waiting.len() >= lines_at_once() {
                rebuild_all(&mut waiting);
            }
        }
        Ok(())
    });
    rebuild_all(&mut waiting);
    comm.agree(done)?;
    collector.scores(comm)
}

/// The mean spectrum `[energy]` for every pixel of a line, scaled to its electrons.
pub fn scaled_mean(mean: &[f64], counts: ArrayView2<f32>) -> Array2<f32> {
    let total = mean.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let shares: Vec<f32> = mean.iter().map(|value| (value / total) as f32).collect();
    let shares = Array2::from_shape_fn(counts.dim(), |(_, e)| shares[e]);
    electrons(shares, counts)
}
