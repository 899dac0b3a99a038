//! The band of a cube that one rank scores: whole scan lines, and a halo around them.

use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Context, Result};
use ndarray::{Array2, Array3, s};

use super::cube::Cube;
use crate::preprocess::noise::NoiseModel;
use crate::preprocess::prepare::Prepared;

/// This rank's lines of a cube: prepared once if they fit the memory, else whenever they are asked for.
pub struct Band<'a> {
    pub cube: &'a Cube,
    /// The lines that this rank scores.
    pub lines: Range<usize>,
    noise: NoiseModel,
    /// The band with its halo, if it fits the memory.
    held: Option<(Range<usize>, Prepared)>,
    /// Otherwise what was read last, as the next request overlaps it.
    recent: Mutex<Option<(Range<usize>, Prepared)>>,
}

impl<'a> Band<'a> {
    /// Opens the band `lines`; `with_halo` is all that will be asked for, `memory` in bytes. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn open(
        cube: &'a Cube,
        noise: NoiseModel,
        lines: Range<usize>,
        with_halo: Range<usize>,
        memory: u64,
    ) -> Result<Band<'a>> {
        let [_, columns, channels] = cube.shape();
        let bytes = 4 * (with_halo.len() * columns * channels) as u64;
        let held = if !with_halo.is_empty() && bytes <= memory / 4 {
            Some((with_halo.clone(), cube.lines_to_keep(with_halo, &noise)?))
        } else {
            None
        };
        Ok(Band { cube, lines, noise, held, recent: Mutex::new(None) })
    }

    /// The noise that its values were prepared with.
    pub fn noise(&self) -> &NoiseModel {
        self.cube.noise(&self.noise)
    }

    /// Clean electrons of whole lines. If the band does not fit the memory, lines that overlap the last request are taken
    /// from that; one thread at a time. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn lines(&self, rows: Range<usize>) -> Result<Prepared> {
        if let Some(part) = self.held.as_ref().and_then(|held| part_of(held, &rows)) {
            return Ok(part);
        }
        let mut recent = self.recent.lock().expect("no thread panics while it reads");
        if let Some(part) = recent.as_ref().and_then(|recent| part_of(recent, &rows)) {
            return Ok(part);
        }
        // What is not asked for again is dropped before more is read. A second pass starts far from the end of the first, and
        // has nothing in common with it.
        let again = (recent.take())
            .filter(|(range, _)| range.contains(&rows.start))
            .and_then(|recent| part_of(&recent, &(rows.start..recent.0.end.min(rows.end))));
        let from = rows.start + again.as_ref().map_or(0, |again| again.valid.nrows());
        let new = self.cube.lines(from..rows.end, &self.noise)?;
        let read = match again {
            Some(again) => again.followed_by(new),
            None => new,
        };
        *recent = Some((rows, read.clone()));
        Ok(read)
    }

    /// Electrons `[y, x, energy]` of whole lines. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn counts(&self, rows: Range<usize>) -> Result<Array3<f32>> {
        Ok(self.lines(rows)?.counts)
    }

    /// Clean electrons of a block of lines, which is not kept for the next request. Any number of threads may ask at once:
    /// nothing is locked, since preparing a block uses all threads, and threads that wait for each other would deadlock.
    /// Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn block(&self, rows: Range<usize>) -> Result<Prepared> {
        match self.held.as_ref().and_then(|held| part_of(held, &rows)) {
            Some(part) => Ok(part),
            None => self.cube.lines(rows, &self.noise),
        }
    }

    /// The valid spectra `[pixels, energy]` of a block for which `is_wanted(y, x)`, electrons. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn spectra(&self, block: usize, is_wanted: impl Fn(usize, usize) -> bool) -> Result<Array2<f32>> {
        let rows = self.cube.blocks().rows(block);
        let prepared = self.block(rows.clone())?;
        let mut values = Vec::with_capacity(prepared.counts.len());
        for ((line, valid), y) in prepared.counts.outer_iter().zip(prepared.valid.outer_iter()).zip(rows) {
            let pixels = line.outer_iter().zip(valid).enumerate();
            let wanted = pixels.filter(|&(x, (_, &valid))| valid && is_wanted(y, x));
            wanted.for_each(|(_, (spectrum, _))| values.extend(spectrum));
        }
        let channels = self.cube.energy.size;
        Array2::from_shape_vec((values.len() / channels, channels), values).context("spectra have one length")
    }

    /// Calls `work` with each block of this rank's lines. Rank-local.
    ///
    /// # Errors
    /// Unreadable data; those of `work`.
    pub fn each_block(&self, mut work: impl FnMut(Range<usize>, &Prepared) -> Result<()>) -> Result<()> {
        let blocks = self.cube.blocks();
        (0..blocks.count())
            .map(|block| blocks.rows(block))
            .filter(|rows| self.lines.start <= rows.start && rows.end <= self.lines.end)
            .try_for_each(|rows| {
                let prepared = self.block(rows.clone())?;
                work(rows, &prepared)
            })
    }
}

/// The part `rows` of a prepared range of lines; none if the range does not hold all of them.
fn part_of((range, prepared): &(Range<usize>, Prepared), rows: &Range<usize>) -> Option<Prepared> {
    if rows.start < range.start || range.end < rows.end {
        return None;
    }
    let part = rows.start - range.start..rows.end - range.start;
    Some(Prepared {
        counts: prepared.counts.slice(s![part.clone(), .., ..]).to_owned(),
        valid: prepared.valid.slice(s![part.clone(), ..]).to_owned(),
        share: prepared.share.slice(s![part.clone(), ..]).to_owned(),
        spikes: prepared.spikes.slice(s![part, ..]).to_owned(),
    })
}
