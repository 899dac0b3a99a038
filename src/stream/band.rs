//! The lines of a cube that one rank scores.

use std::ops::Range;
use std::sync::Mutex;

use anyhow::Result;
use ndarray::{Array3, s};

use super::Cube;
use crate::preprocess::noise::NoiseModel;
use crate::preprocess::prepare::Prepared;

/// This rank's lines of a cube, prepared once where they fit the memory, else whenever they are asked for.
pub struct Band<'a> {
    pub cube: &'a Cube,
    /// The lines that this rank answers for.
    pub lines: Range<usize>,
    noise: NoiseModel,
    /// All that will be asked for, where it fits.
    held: Option<(Range<usize>, Prepared)>,
    /// Else what was read last: single lines of it are asked for next.
    recent: Mutex<Option<(Range<usize>, Prepared)>>,
}

impl<'a> Band<'a> {
    /// `halo` holds `lines` and what else will be asked for; `memory` in bytes. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn open(
        cube: &'a Cube,
        noise: NoiseModel,
        lines: Range<usize>,
        halo: Range<usize>,
        memory: u64,
    ) -> Result<Band<'a>> {
        let [_, columns, channels] = cube.shape();
        let bytes = 4 * (halo.len() * columns * channels) as u64;
        let held = if !halo.is_empty() && bytes <= memory / 4 {
            Some((halo.clone(), cube.lines_to_keep(halo, &noise)?))
        } else {
            None
        };
        Ok(Band { cube, lines, noise, held, recent: Mutex::new(None) })
    }

    /// Clean electrons of whole lines; where the band is not held, what was read last is, for the next line. By one thread
    /// at a time. Rank-local.
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
        // All but what is asked for again is let go before the next is read, not after.
        // A second walk begins far from where the first one ended, and has nothing in common with it.
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

    /// Clean electrons of a whole block of lines, which are not kept for a second asking: any number of threads may ask for
    /// blocks at once, which may not wait for each other, as preparing a block is itself shared among the threads.
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

    /// Gives `work` this rank's lines, a block at a time. Rank-local.
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

/// `rows` out of the prepared lines of a larger range; `None` where they are not all in it.
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
