//! The scores of a cube against any reconstruction of it: the same for every method.

use anyhow::Result;
use ndarray::{Array2, Array3, ArrayView2, Axis as Dim, s};
use rayon::prelude::*;

use super::given::Given;
use crate::comm::Comm;
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
    /// Pixels of a line.
    width: usize,
}

impl<'a> Collector<'a> {
    fn new(scoring: &Scoring<'a>) -> Self {
        Collector {
            basis: scoring.basis,
            features: Vec::new(),
            waiting: Vec::new(),
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
        let features = |pair: &Pair| {
            let (counts, reconstruction) = (pair.counts.view(), pair.reconstruction.view());
            self.basis.line(counts, reconstruction, &pair.valid, &pair.share)
        };
        self.features.extend(self.waiting.par_iter().map(features).collect::<Vec<_>>());
        self.waiting.clear();
    }

    /// # Collective
    fn scores(mut self, comm: &Comm) -> Result<Scores> {
        self.flush();
        self.basis.scores(comm, self.width, self.features)
    }
}

impl Scoring<'_> {
    /// Scores of this rank's lines against the CVAE; their latent codes go to `codes` `[latent, lines, x]`.
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data.
    pub fn score_cvae(&self, tiles: &Tiles, codes: &mut Array3<f32>) -> Result<Scores> {
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
        collector.scores(self.comm)
    }

    /// Scores of this rank's lines against a reconstruction by another program.
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data; values that are no electrons.
    pub fn score_given(&self, given: &Given) -> Result<Scores> {
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
        collector.scores(self.comm)
    }

    /// Scores of this rank's lines against the reconstruction that `rebuild` gives of each from its place y and its counts,
    /// `[x, energy]` electrons.
    ///
    /// # Collective
    /// # Errors
    /// Unreadable data.
    pub fn score_rebuilt(&self, rebuild: impl Fn(usize, ArrayView2<f32>) -> Array2<f32> + Sync) -> Result<Scores> {
        let mut collector = Collector::new(self);
        let mut waiting = Vec::new();
        let mut rebuild_all = |waiting: &mut Vec<(usize, Pair)>| {
            waiting.par_iter_mut().for_each(|(y, pair)| pair.reconstruction = rebuild(*y, pair.counts.view()));
            waiting.drain(..).for_each(|(_, pair)| collector.push(pair));
        };
        let done = self.band.each_block(|rows, prepared| {
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
        });
        rebuild_all(&mut waiting);
        self.comm.agree(done)?;
        collector.scores(self.comm)
    }
}
