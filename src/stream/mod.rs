//! A cube as the models see it: clean electrons of any window, read and prepared when asked for.

mod band;
mod low_loss;
mod regions;
mod statistics;

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, Array3, s};

use crate::archive::{self, Microscope, Options, Reader, Source};
use crate::config::{Align, Config};
use crate::cube::{Axis, CubeInfo};
use crate::preprocess::despike::zero_loss_channels;
use crate::preprocess::noise::NoiseModel;
use crate::preprocess::prepare::{HALO, Onto, PrepareOptions, Prepared, prepare_rows};
use crate::shard::{Blocks, Extent};
use crate::spectrum::Resampling;

pub use band::Band;
pub use low_loss::LowLoss;
pub use statistics::{CubeStatistics, Mean, bound, mean_spectrum, measure_statistics};

/// In how many pieces lines to keep are read. Preparing a piece takes twice its size beside what is kept; a piece reads a
/// few lines of its neighbours again.
const PIECES: usize = 4;

/// Where core losses begin, eV: below lie the zero-loss peak and the plasmons, whose counts would drown them.
const CORE_LOSS_EV: f64 = 50.0;
/// A spectrum that reaches this far, eV, is looked at for its core losses.
const REACHES_CORE_LOSS_EV: f64 = 150.0;

/// Dispersions nearer than this are one: calibrations of one detector differ by as much.
pub const SAME_DISPERSION: f64 = 0.01;

/// The channels to look at where the user names no range: all, but for the zero-loss peak of a spectrum that reaches to
/// core losses.
fn core_loss(axis: &Axis) -> Range<usize> {
    let last = axis.value(axis.size - 1);
    if axis.value(0) <= 0.0 && last >= REACHES_CORE_LOSS_EV { axis.indices(CORE_LOSS_EV, last) } else { 0..axis.size }
}

/// By how much the pixels of a cube read too high.
pub struct Shifts {
    /// `[y, x]` in eV, NaN where ignored. Whole on every rank, as the map of what is ignored.
    pub map: Array2<f32>,
    /// Pixels that took the shift of their neighbours, having none of their own.
    pub unmeasured: usize,
    /// What they were measured by.
    pub by: String,
}

impl Shifts {
    /// The lowest, the median and the highest shift of a pixel that counts, eV.
    pub fn extent(&self) -> [f64; 3] {
        let mut finite: Vec<f32> = self.map.iter().copied().filter(|v| v.is_finite()).collect();
        finite.sort_by(f32::total_cmp);
        let at = |i: usize| f64::from(finite.get(i).copied().unwrap_or(0.0));
        let last = finite.len().saturating_sub(1);
        [at(0), at(last / 2), at(last)]
    }
}

/// An open cube, cropped in energy, with what is ignored in it.
pub struct Cube {
    reader: Reader,
    info: CubeInfo,
    /// The stored channels that are read.
    channels: Range<usize>,
    /// The energies that the configuration asks for, as the file has them.
    asked: Axis,
    /// The energies in use: those asked for, until [`Cube::conform`] gives others.
    pub energy: Axis,
    /// From the channels read to the energies in use, where they differ.
    resampling: Option<Resampling>,
    /// None where the pixels' energies are taken as they are.
    pub shifts: Option<Shifts>,
    /// `[y, x]`: pixels that no score and no statistic looks at.
    pub ignored: Array2<bool>,
    /// `[y, x]`: pixels that training leaves out although they are scored; none where all are trained on.
    pub untrained: Option<Array2<bool>>,
    /// The noise of its own stored values; set by [`survey`].
    fitted: Option<NoiseModel>,
    /// Its own noise counts, not that of the cubes around: it was recorded at another dispersion.
    own_noise: bool,
    /// The largest stored value that is finite; set by [`survey`].
    largest: f64,
    options: PrepareOptions,
}

impl Cube {
    /// Opens a cube of the catalogue. Rank-local.
    ///
    /// # Errors
    /// Whatever the reader refuses, an energy range outside the cube's, regions beyond its pixels.
    pub fn open(source: &Source, config: &Config) -> Result<Cube> {
        let reader = Reader::open(&source.path, &Options::of(config))?;
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
        let regions = &config.archive.regions;
        let untrained = regions::mark(regions, &source.id, &mut ignored).with_context(place)?;
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
            asked: energy.clone(),
            energy,
            resampling: None,
            shifts: None,
            ignored,
            untrained,
            fitted: None,
            own_noise: false,
            largest: 0.0,
            options,
        })
    }

    /// The energies (eV) from and to which every pixel that counts was measured, its shift corrected; never more than
    /// the configuration asks for.
    pub fn covered(&self) -> [f64; 2] {
        let [asked_low, asked_high] = self.asked.span();
        let [low, high] = self.info.energy.span();
        let [least, most] = self.shift_range();
        [asked_low.max(low - least), asked_high.min(high - most)]
    }

    /// The energies that the configuration asks for, as the file has them.
    pub fn asked(&self) -> &Axis {
        &self.asked
    }

    /// The lowest and highest shift (eV) of a pixel that counts; 0 where none is corrected.
    pub fn shift_range(&self) -> [f64; 2] {
        let [least, _, most] = self.shifts.as_ref().map_or([0.0; 3], Shifts::extent);
        [least, most]
    }

    /// From now on gives spectra on `target`, which must lie within [`Cube::covered`].
    pub fn conform(&mut self, target: &Axis) {
        let stored = &self.info.energy;
        let start = ((target.offset - stored.offset) / stored.scale).round().max(0.0) as usize;
        let straight = start..(start + target.size).min(stored.size);
        if self.shifts.is_none() && stored.slice(straight.clone()).agrees(target) {
            self.channels = straight;
            self.resampling = None;
        } else {
            let ([low, high], [least, most]) = (target.span(), self.shift_range());
            let place = |ev: f64| (ev - stored.span()[0]) / stored.scale;
            let first = (place(low + least) + 1e-6).floor().max(0.0) as usize;
            let end = (place(high + most) - 1e-6).ceil().max(0.0) as usize;
            self.channels = first..end.min(stored.size);
            let read = stored.slice(self.channels.clone());
            self.resampling = Some(Resampling::new(&read, target));
        }
        self.options.zero_loss = zero_loss_channels(&stored.slice(self.channels.clone()));
        self.energy = target.clone();
    }

    /// The dispersion (eV per channel) at which it was recorded.
    pub fn dispersion(&self) -> f64 {
        self.info.energy.scale
    }

    /// Whether it was recorded at `dispersion` eV per channel: another one is another measurement, with a gain of its own.
    pub fn has_dispersion(&self, dispersion: f64) -> bool {
        (self.dispersion() / dispersion - 1.0).abs() <= SAME_DISPERSION
    }

    /// Counts the noise that was fitted to this cube alone, not that of the cubes around it.
    pub fn use_own_noise(&mut self) {
        self.own_noise = true;
    }

    /// The noise of its stored values, where that of the cubes around it is `noise`.
    pub fn noise<'a>(&'a self, noise: &'a NoiseModel) -> &'a NoiseModel {
        match &self.fitted {
            Some(own) if self.own_noise => own,
            _ => noise,
        }
    }

    /// The low-loss spectra that were measured with it; none where there are none. Rank-local.
    ///
    /// # Errors
    /// A companion that cannot be read or does not fit.
    pub fn low_loss(&self, config: &Config) -> Result<Option<LowLoss>> {
        let pattern = config.archive.low_loss.as_deref();
        let found = archive::low_loss(&self.reader, &Options::of(config), pattern)?;
        Ok(found.map(|reader| LowLoss::new(reader, config.preprocess.max_shift_ev)))
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

    /// Its size as training sees it.
    pub fn extent(&self) -> Extent {
        Extent { rows: self.info.y.size, columns: self.info.x.size, chunk_rows: self.info.chunk_rows }
    }

    /// Blocks of lines that are streamed as wholes: what is read of them is bounded, which may be more than is used.
    pub fn blocks(&self) -> Blocks {
        let [rows, columns, channels] = self.shape();
        Blocks::new([rows, columns, channels.max(self.channels.len())])
    }

    /// An identity of the files that its results come from, which does not know their paths: of the cube's own, of its mask
    /// and truth, and of its low losses where they count. Rank-local.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn fingerprint(&self, config: &Config) -> Result<String> {
        let own = self.reader.fingerprint()?;
        let maps = archive::digest(&archive::companions(&self.info.path));
        let preprocess = &config.preprocess;
        if preprocess.align != Align::LowLoss && !preprocess.thickness {
            return Ok(format!("{own}-{maps}"));
        }
        Ok(match self.low_loss(config)? {
            Some(low_loss) => format!("{own}-{maps}-{}", low_loss.fingerprint()?),
            None => format!("{own}-{maps}"),
        })
    }

    /// Whether training takes the pixel, where it counts at all.
    pub fn is_trained_on(&self, y: usize, x: usize) -> bool {
        !self.untrained.as_ref().is_some_and(|map| map[[y, x]])
    }

    /// Stored values of whole lines, `[y, x, energy]`. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn raw(&self, rows: Range<usize>) -> Result<Array3<f32>> {
        self.reader.read(rows, 0..self.size()[1], self.channels.clone())
    }

    /// Clean electrons of whole lines. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn lines(&self, rows: Range<usize>, noise: &NoiseModel) -> Result<Prepared> {
        self.window(rows, 0..self.size()[1], noise)
    }

    /// As [`Cube::lines`], for lines to keep: what is needed on the way is half of what is kept, not twice as much.
    /// Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn lines_to_keep(&self, rows: Range<usize>, noise: &NoiseModel) -> Result<Prepared> {
        let [_, columns, channels] = self.shape();
        let mut kept = Prepared {
            counts: Array3::zeros((rows.len(), columns, channels)),
            valid: Array2::from_elem((rows.len(), columns), false),
            share: Array2::zeros((rows.len(), columns)),
            spikes: Array2::zeros((rows.len(), columns)),
        };
        let read_over = self.channels.len().div_ceil(channels).max(1);
        let piece = rows.len().div_ceil(PIECES * read_over).max(1);
        for start in rows.clone().step_by(piece) {
            let part = start..(start + piece).min(rows.end);
            let place = part.start - rows.start..part.end - rows.start;
            let read = self.lines(part, noise)?;
            let counts = kept.counts.slice_mut(s![place.clone(), .., ..]);
            read.counts.assign_to(counts);
            read.valid.assign_to(kept.valid.slice_mut(s![place.clone(), ..]));
            read.share.assign_to(kept.share.slice_mut(s![place.clone(), ..]));
            read.spikes.assign_to(kept.spikes.slice_mut(s![place, ..]));
        }
        Ok(kept)
    }

    /// Clean electrons of a window of pixels, the same to the bit in any larger one. Rank-local.
    ///
    /// # Errors
    /// Unreadable data.
    pub fn window(&self, rows: Range<usize>, columns: Range<usize>, noise: &NoiseModel) -> Result<Prepared> {
        let grown = |range: &Range<usize>, size: usize| range.start.saturating_sub(HALO)..(range.end + HALO).min(size);
        let [height, width] = self.size();
        let (read_rows, read_columns) = (grown(&rows, height), grown(&columns, width));
        let raw = self.reader.read(read_rows.clone(), read_columns.clone(), self.channels.clone())?;
        let ignored = self.ignored.slice(s![read_rows.clone(), read_columns.clone()]);
        let mut prepared = prepare_rows(
            raw.view(),
            read_rows.start,
            rows,
            ignored,
            self.noise(noise),
            &self.options,
            self.resampling.as_ref().map(|resampling| Onto {
                resampling,
                channels: self.energy.size,
                shifts: (self.shifts.as_ref()).map(|shifts| shifts.map.slice(s![read_rows, read_columns.clone()])),
            }),
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
        Axis::energy_loss(offset, scale, size)
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
