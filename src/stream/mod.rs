//! A cube as the models see it: clean electrons of any window, read and prepared when asked for.

mod band;
mod survey;

use std::ops::Range;

use anyhow::{ensure, Result};
use ndarray::{s, Array2, Array3};

use crate::archive::{self, Microscope, Reader, Source};
use crate::config::{Config, RegionUse};
use crate::cube::{Axis, CubeInfo};
use crate::preprocess::despike::zero_loss_channels;
use crate::preprocess::noise::NoiseModel;
use crate::preprocess::prepare::{prepare_rows, PrepareOptions, Prepared, HALO};
use crate::shard::Blocks;

pub use band::Band;
pub use survey::{mean_spectrum, survey, Mean, Survey};

/// In how many pieces lines to keep are read. Preparing a piece takes twice its size beside what is kept; a piece reads a
/// few lines of its neighbours again.
const PIECES: usize = 4;

/// Where core losses begin, eV: below lie the zero-loss peak and the plasmons, whose counts would drown them.
const CORE_LOSS_EV: f64 = 50.0;
/// A spectrum that reaches this far, eV, is looked at for its core losses.
const REACHES_CORE_LOSS_EV: f64 = 150.0;

/// The channels to look at where the user names no range: all, but for the zero-loss peak of a spectrum that reaches to
/// core losses.
fn core_loss(axis: &Axis) -> Range<usize> {
    let last = axis.value(axis.size - 1);
    if axis.value(0) <= 0.0 && last >= REACHES_CORE_LOSS_EV {
        axis.indices(CORE_LOSS_EV, last)
    } else {
        0..axis.size
    }
}

/// An open cube, cropped in energy, with what is ignored in it.
pub struct Cube {
    reader: Reader,
    info: CubeInfo,
    channels: Range<usize>,
    /// The energies in use.
    pub energy: Axis,
    /// `[y, x]`: pixels that no score and no statistic looks at.
    pub ignored: Array2<bool>,
    /// `[y, x]`: pixels that training leaves out although they are scored; none where all are trained on.
    pub untrained: Option<Array2<bool>>,
    options: PrepareOptions,
}

impl Cube {
    /// Opens a cube of the catalogue. Rank-local.
    ///
    /// # Errors
    /// Whatever the reader refuses, an energy range outside the cube's, regions beyond its pixels.
    pub fn open(source: &Source, config: &Config) -> Result<Cube> {
        let options = archive::Options {
            dataset: config.archive.dataset.clone(),
            image: config.archive.image,
            memory: (config.io.memory_mib << 20) as usize / 8,
        };
        let reader = Reader::open(&source.path, &options)?;
        let mut info = reader.info().clone();
        info.id = source.id.clone();
        let place = || source.path.display().to_string();
        let [rows, columns, _] = info.shape();
        let axis = &info.energy;
        let channels = match config.archive.energy_range_ev {
            Some([low, high]) => axis.indices(low, high),
            None => core_loss(axis),
        };
        if config.archive.energy_range_ev.is_none() && channels.start > 0 {
            log::info!(
                "{}: the zero-loss peak and all below {CORE_LOSS_EV} eV are left out; archive.energy_range_ev takes \
                 what you name",
                place()
            );
        }
        ensure!(
            !channels.is_empty(),
            "{}: archive.energy_range_ev holds none of its energies, {:.1} to {:.1} eV",
            place(),
            axis.value(0),
            axis.value(axis.size - 1)
        );
        let mut ignored = archive::user_mask(&source.path, [rows, columns])?
            .unwrap_or_else(|| Array2::from_elem((rows, columns), false));
        let mut untrained: Option<Array2<bool>> = None;
        for region in &config.archive.regions {
            ensure!(
                region.y[1] <= rows && region.x[1] <= columns,
                "{}: archive.regions: y {:?}, x {:?} reach beyond its {rows} x {columns} pixels",
                place(),
                region.y,
                region.x
            );
            let part = s![region.y[0]..region.y[1], region.x[0]..region.x[1]];
            match region.r#use {
                RegionUse::Ignore => ignored.slice_mut(part).fill(true),
                RegionUse::Train => untrained
                    .get_or_insert_with(|| Array2::from_elem((rows, columns), true))
                    .slice_mut(part)
                    .fill(false),
            }
        }
        let energy = axis.slice(channels.clone());
        let options = PrepareOptions {
            despike: config.preprocess.despike,
            zero_loss: zero_loss_channels(&energy),
            window: config.preprocess.spatial_mean,
        };
        Ok(Cube {
            reader,
            info,
            channels,
            energy,
            ignored,
            untrained,
            options,
        })
    }

    pub fn info(&self) -> &CubeInfo {
        &self.info
    }

    /// What the file tells of the instrument.
    pub fn microscope(&self) -> &Microscope {
        self.reader.microscope()
    }

    /// `[y, x]` in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.info.y.size, self.info.x.size]
    }

    /// `[y, x, energy]` in use.
    pub fn shape(&self) -> [usize; 3] {
        [self.info.y.size, self.info.x.size, self.energy.size]
    }

    /// Blocks of lines that are streamed as wholes.
    pub fn blocks(&self) -> Blocks {
        Blocks::new(self.shape())
    }

    /// An identity of the file that does not know its path. Rank-local.
    pub fn fingerprint(&self) -> Result<String> {
        self.reader.fingerprint()
    }

    /// Stored values of whole lines, `[y, x, energy]`. Rank-local.
    pub fn raw(&self, rows: Range<usize>) -> Result<Array3<f32>> {
        self.reader
            .read(rows, 0..self.size()[1], self.channels.clone())
    }

    /// Clean electrons of whole lines. Rank-local.
    pub fn lines(&self, rows: Range<usize>, noise: &NoiseModel) -> Result<Prepared> {
        self.window(rows, 0..self.size()[1], noise)
    }

    /// As [`Cube::lines`], for lines to keep: what is needed on the way is half of what is kept, not twice as much.
    /// Rank-local.
    pub fn lines_to_keep(&self, rows: Range<usize>, noise: &NoiseModel) -> Result<Prepared> {
        let [_, columns, channels] = self.shape();
        let mut kept = Prepared {
            counts: Array3::zeros((rows.len(), columns, channels)),
            valid: Array2::from_elem((rows.len(), columns), false),
            share: Array2::zeros((rows.len(), columns)),
            spikes: Array2::zeros((rows.len(), columns)),
        };
        let piece = rows.len().div_ceil(PIECES).max(1);
        for start in rows.clone().step_by(piece) {
            let part = start..(start + piece).min(rows.end);
            let place = part.start - rows.start..part.end - rows.start;
            let read = self.lines(part, noise)?;
            let counts = kept.counts.slice_mut(s![place.clone(), .., ..]);
            read.counts.assign_to(counts);
            read.valid
                .assign_to(kept.valid.slice_mut(s![place.clone(), ..]));
            read.share
                .assign_to(kept.share.slice_mut(s![place.clone(), ..]));
            read.spikes.assign_to(kept.spikes.slice_mut(s![place, ..]));
        }
        Ok(kept)
    }

    /// Clean electrons of a window, the same to the bit in any larger one. Rank-local.
    pub fn window(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        noise: &NoiseModel,
    ) -> Result<Prepared> {
        let grown = |range: &Range<usize>, size: usize| {
            range.start.saturating_sub(HALO)..(range.end + HALO).min(size)
        };
        let [height, width] = self.size();
        let (read_rows, read_columns) = (grown(&rows, height), grown(&columns, width));
        let raw = self.reader.read(
            read_rows.clone(),
            read_columns.clone(),
            self.channels.clone(),
        )?;
        let ignored = self
            .ignored
            .slice(s![read_rows.clone(), read_columns.clone()]);
        let mut prepared = prepare_rows(
            raw.view(),
            read_rows.start,
            rows,
            ignored,
            noise,
            &self.options,
        );
        if read_columns != columns {
            let inner = columns.start - read_columns.start..columns.end - read_columns.start;
            prepared.counts = prepared.counts.slice(s![.., inner.clone(), ..]).to_owned();
            prepared.valid = prepared.valid.slice(s![.., inner.clone()]).to_owned();
            prepared.share = prepared.share.slice(s![.., inner.clone()]).to_owned();
            prepared.spikes = prepared.spikes.slice(s![.., inner]).to_owned();
        }
        Ok(prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(offset: f64, scale: f64, size: usize) -> Axis {
        Axis {
            name: "Energy loss".into(),
            units: "eV".into(),
            scale,
            offset,
            size,
            navigate: false,
        }
    }

    #[test]
    fn the_zero_loss_peak_is_left_out_where_core_losses_follow() {
        let whole = axis(-104.8, 0.69, 1028);
        let channels = core_loss(&whole);
        assert!(whole.value(channels.start) >= CORE_LOSS_EV && channels.end == 1028);
        assert!(whole.value(channels.start - 1) < CORE_LOSS_EV);
        assert_eq!(core_loss(&axis(-20.0, 0.1, 1000)), 0..1000);
        assert_eq!(core_loss(&axis(420.0, 0.25, 2048)), 0..2048);
    }
}
