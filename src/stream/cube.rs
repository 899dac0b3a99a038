//! An open cube: any window of it is read and prepared (clean electrons, `[y, x, energy]`) when asked for.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, Array3, s};

use super::low_loss::LowLoss;
use super::regions_of_interest;
use super::shifts::Shifts;
use crate::archive::{self, Microscope, Options, Reader, Source};
use crate::config::{Align, Config};
use crate::cube::{Axis, CubeInfo};
use crate::preprocess::despike::zero_loss_channels;
use crate::preprocess::noise::NoiseModel;
use crate::preprocess::prepare::{HALO, Onto, PrepareOptions, Prepared, prepare_rows};
use crate::shard::{Blocks, Extent};
use crate::spectrum::Resampling;

/// Pieces in which lines to keep are read. Preparing a piece takes twice its size besides what is kept; more pieces read
/// more lines twice, as each needs a halo.
const PIECES: usize = 4;

/// Where core losses begin, eV. Below lie the zero-loss peak and the plasmons, whose counts would drown them.
const CORE_LOSS_EV: f64 = 50.0;
/// Spectra that reach this far, eV, are taken to be recorded for their core losses.
const REACHES_CORE_LOSS_EV: f64 = 150.0;

/// Relative difference up to which dispersions count as the same: calibrations of one detector differ by as much.
pub const SAME_DISPERSION: f64 = 0.01;

/// The channels in use if the user names no range: all; but of a spectrum that covers both the zero-loss peak and core
/// losses, only the latter.
fn core_loss(axis: &Axis) -> Range<usize> {
    let last = axis.value(axis.size - 1);
    if axis.value(0) <= 0.0 && last >= REACHES_CORE_LOSS_EV { axis.indices(CORE_LOSS_EV, last) } else { 0..axis.size }
}

/// An open cube, cropped in energy, with the map of its ignored pixels.
pub struct Cube {
    reader: Reader,
    pub(super) info: CubeInfo,
    /// The stored channels that are read.
    channels: Range<usize>,
    /// The energies that the configuration asks for, on the axis of the file.
    asked: Axis,
    /// The energies in use: those asked for, until [`Cube::conform`] sets others.
    pub energy: Axis,
    /// From the channels read to the energies in use, if they differ.
    resampling: Option<Resampling>,
    /// None if the energies of the pixels are taken as they are.
    pub shifts: Option<Shifts>,
    /// `[y, x]`: pixels that no score and no statistic counts.
    pub ignored: Array2<bool>,
    /// `[y, x]`: pixels that are scored but not trained on; none if all are trained on.
    pub untrained: Option<Array2<bool>>,
    /// The noise fitted to its own stored values; set by [`measure_statistics`](super::measure_statistics).
    pub(super) fitted: Option<NoiseModel>,
    /// Whether its own noise is used, not that of all cubes together: it was recorded at another dispersion.
    own_noise: bool,
    /// The largest finite stored value; set by [`measure_statistics`](super::measure_statistics).
    pub(super) largest: f64,
    options: PrepareOptions,
}

impl Cube {
    /// Opens a cube of the catalogue. Rank-local.
    ///
    /// # Errors
    /// What the reader refuses; an energy range outside the cube's; regions beyond its pixels.
    pub fn open(source: &Source, config: &Config) -> Result<Cube> {
        let reader = Reader::open(&source.path, &Options::of(config))?;
        let mut info = reader.info().clone();
        info.id = source.id.clone();
        let shown = || source.path.display().to_string();
        let [rows, columns, _] = info.shape();
        let axis = &info.energy;
        let channels = match config.archive.energy_range_ev {
            Some([low, high]) => axis.indices(low, high),
            None if archive::shows_zero_loss(&reader)? => core_loss(axis),
            None => 0..axis.size,
        };
        if config.archive.energy_range_ev.is_none() && channels.start > 0 {
            log::info!(
                "{}: the zero-loss peak and all below {CORE_LOSS_EV} eV are left out; archive.energy_range_ev takes \
                 what you name",
                shown()
            );
        }
        ensure!(
            !channels.is_empty(),
            "{}: archive.energy_range_ev holds none of its energies, {:.1} to {:.1} eV",
            shown(),
            axis.value(0),
            axis.value(axis.size - 1)
        );
        let mut ignored = archive::user_mask(&source.path, [rows, columns])?
            .unwrap_or_else(|| Array2::from_elem((rows, columns), false));
        let regions = &config.archive.regions;
        let untrained = regions_of_interest::mark(regions, &source.id, &mut ignored).with_context(shown)?;
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

    /// What is doubtful about the file, such as a missing calibration.
    pub fn problems(&self) -> &[String] {
        self.reader.problems()
    }

    /// The range (eV) that every pixel that counts covers once its shift is corrected, within what the configuration asks
    /// for.
    pub fn covered(&self) -> [f64; 2] {
        let [asked_low, asked_high] = self.asked.span();
        let [low, high] = self.info.energy.span();
        let [least, most] = self.shift_range();
        [asked_low.max(low - least), asked_high.min(high - most)]
    }

    /// The energies that the configuration asks for, on the axis of the file.
    pub fn asked(&self) -> &Axis {
        &self.asked
    }

    /// The lowest and highest shift (eV) of the pixels that count; 0 if shifts are not corrected.
    pub fn shift_range(&self) -> [f64; 2] {
        let [least, _, most] = self.shifts.as_ref().map_or([0.0; 3], Shifts::lowest_median_highest);
        [least, most]
    }

    /// Sets the energies in use to `target`, which must lie within [`Cube::covered`].
    pub fn conform(&mut self, target: &Axis) {
        let stored = &self.info.energy;
        let start = ((target.offset - stored.offset) / stored.scale).round().max(0.0) as usize;
        let stored_channels = start..(start + target.size).min(stored.size);
        if self.shifts.is_none() && stored.slice(stored_channels.clone()).agrees(target) {
            self.channels = stored_channels;
            self.resampling = None;
        } else {
            let ([low, high], [least, most]) = (target.span(), self.shift_range());
            let channel = |ev: f64| (ev - stored.span()[0]) / stored.scale;
            let first = (channel(low + least) + 1e-6).floor().max(0.0) as usize;
            let end = (channel(high + most) - 1e-6).ceil().max(0.0) as usize;
            self.channels = first..end.min(stored.size);
            let read = stored.slice(self.channels.clone());
            self.resampling = Some(Resampling::new(&read, target));
        }
        self.options.zero_loss = zero_loss_channels(&stored.slice(self.channels.clone()));
        self.energy = target.clone();
    }

    /// The stored channels that are in use, if spectra are neither shifted nor resampled.
    pub fn stored_channels(&self) -> Option<Range<usize>> {
        self.resampling.is_none().then(|| self.channels.clone())
    }

    /// The dispersion, eV per stored channel.
    pub fn dispersion(&self) -> f64 {
        self.info.energy.scale
    }

    /// Whether it was recorded at `dispersion` eV per channel; at another one the detector has another gain.
    pub fn has_dispersion(&self, dispersion: f64) -> bool {
        (self.dispersion() / dispersion - 1.0).abs() <= SAME_DISPERSION
    }

    /// Uses from now on the noise fitted to this cube alone.
    pub fn use_own_noise(&mut self) {
        self.own_noise = true;
    }

    /// The noise of its stored values: its own if that is used, else `noise`, that of all cubes together.
    pub fn noise<'a>(&'a self, noise: &'a NoiseModel) -> &'a NoiseModel {
        match &self.fitted {
            Some(own) if self.own_noise => own,
            _ => noise,
        }
    }

    /// The low-loss spectra that were measured with it, if there are any. Rank-local.
    ///
    /// # Errors
    /// A low-loss cube that cannot be read or does not fit.
    pub fn low_loss(&self, config: &Config) -> Result<Option<LowLoss>> {
        let pattern = config.archive.low_loss.as_deref();
        let found = archive::low_loss(&self.reader, &Options::of(config), pattern)?;
        Ok(found.map(|reader| LowLoss::new(reader, config.preprocess.max_shift_ev)))
    }

    /// What the file says of the cube: stored shape, axes, type.
    pub fn info(&self) -> &CubeInfo {
        &self.info
    }

    /// What the file says of the instrument.
    pub fn microscope(&self) -> &Microscope {
        self.reader.microscope()
    }

    /// `[y, x]` in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.info.y.size, self.info.x.size]
    }

    /// `[y, x, energy]`, with the energies in use.
    pub fn shape(&self) -> [usize; 3] {
        [self.info.y.size, self.info.x.size, self.energy.size]
    }

    /// Its size for the [lanes](crate::shard) of training.
    pub fn extent(&self) -> Extent {
        Extent { rows: self.info.y.size, columns: self.info.x.size, chunk_rows: self.info.chunk_rows }
    }

    /// Its [blocks](crate::shard), sized by the channels read or in use, whichever are more.
    pub fn blocks(&self) -> Blocks {
        let [rows, columns, channels] = self.shape();
        Blocks::new([rows, columns, channels.max(self.channels.len())])
    }

    /// An identity of the files behind its results, independent of their paths: the cube, its mask and truth, and its
    /// low-loss spectra if they are used. Rank-local.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn fingerprint(&self, config: &Config) -> Result<String> {
        let own = self.reader.fingerprint()?;
        let maps = archive::digest(&archive::companions_identity(&self.info.path));
        if !self.uses_low_loss(config, true) {
            return Ok(format!("{own}-{maps}"));
        }
        Ok(match self.low_loss(config)? {
            Some(low_loss) => format!("{own}-{maps}-{}", low_loss.fingerprint()?),
            None => format!("{own}-{maps}"),
        })
    }

    /// The files behind its results, whether they exist or not: the cube, its mask, its low-loss spectra if they are used, and
    /// its truth map if that is asked for. Rank-local.
    ///
    /// # Errors
    /// Low-loss spectra that cannot be read.
    pub(super) fn files(&self, config: &Config, with_truth: bool) -> Result<Vec<PathBuf>> {
        let [mask, truth] = archive::companions(&self.info.path);
        let mut files = self.reader.files();
        files.push(mask);
        if self.uses_low_loss(config, with_truth)
            && let Some(low_loss) = self.low_loss(config)?
        {
            files.extend(low_loss.files());
        }
        files.extend(with_truth.then_some(truth));
        Ok(files)
    }

    /// What is read of its file, and as what.
    pub(super) fn stored_as(&self) -> String {
        format!("{:?} {} {}", self.info.shape(), self.info.dtype, self.reader.dataset())
    }

    /// Whether its energies are aligned by its low-loss spectra or, where it is scored, its thickness is measured.
    fn uses_low_loss(&self, config: &Config, scored: bool) -> bool {
        config.preprocess.align == Align::LowLoss || scored && config.preprocess.thickness
    }

    /// Whether training takes the pixel, unless it is ignored.
    pub fn is_trained_on(&self, y: usize, x: usize) -> bool {
        !self.untrained.as_ref().is_some_and(|map| map[[y, x]])
    }

    /// Stored values of whole lines, `[y, x, energy]` over the channels read. Rank-local.
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

    /// As [`Cube::lines`], but the memory needed on the way is half of the result, not twice as much. Rank-local.
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
            let target = part.start - rows.start..part.end - rows.start;
            let read = self.lines(part, noise)?;
            let counts = kept.counts.slice_mut(s![target.clone(), .., ..]);
            read.counts.assign_to(counts);
            read.valid.assign_to(kept.valid.slice_mut(s![target.clone(), ..]));
            read.share.assign_to(kept.share.slice_mut(s![target.clone(), ..]));
            read.spikes.assign_to(kept.spikes.slice_mut(s![target, ..]));
        }
        Ok(kept)
    }

    /// Clean electrons of a window of pixels, equal to the bit whatever window they are part of. Rank-local.
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
