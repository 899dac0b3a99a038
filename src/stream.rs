//! A cube as the models see it: clean electrons of any window, read and prepared when asked for.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Mutex;

use anyhow::{ensure, Result};
use ndarray::{s, Array2, Array3};

use crate::archive::{self, Reader, Source};
use crate::comm::{Comm, ExactSum};
use crate::config::{Auto, Config, RegionUse};
use crate::cube::{Axis, CubeInfo};
use crate::preprocess::despike::zero_loss_channels;
use crate::preprocess::noise::{NoiseModel, NoiseStatistics};
use crate::preprocess::prepare::{prepare_rows, PrepareOptions, Prepared, HALO};
use crate::preprocess::vacuum::{pixel_totals, signal_floor, vacuum_threshold};
use crate::shard::Blocks;

/// In how many pieces lines to keep are read. Preparing a piece takes twice its size beside what is kept; a piece reads a
/// few lines of its neighbours again.
const PIECES: usize = 4;

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
            None => 0..axis.size,
        };
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

/// What one look at the raw values tells of a set of cubes.
#[derive(Clone, Copy)]
pub struct Survey {
    pub noise: NoiseModel,
    /// Bound on the electrons of one channel, summed over all pixels.
    pub bound: f64,
}

/// Fits the noise model, finds the vacuum of each cube and adds it to what the cube ignores.
///
/// A cube that cannot be read, or has no pixel with signal, goes to `set_aside`, which all ranks call alike; it is then
/// gone from `cubes` and from the statistics.
///
/// # Collective
/// # Errors
/// Those of `set_aside`.
pub fn survey(
    comm: &Comm,
    cubes: &mut Vec<Cube>,
    config: &Config,
    mut set_aside: impl FnMut(&Cube, anyhow::Error) -> Result<()>,
) -> Result<Survey> {
    let mut statistics = NoiseStatistics::default();
    let mut positive = 0f64;
    for mut cube in std::mem::take(cubes) {
        let mut own = NoiseStatistics::default();
        let mut largest = 0f64;
        match survey_cube(comm, &mut cube, config, &mut own, &mut largest) {
            Ok(()) => {
                let counts = statistics.counts_mut().iter_mut().zip(own.counts());
                counts.for_each(|(sum, count)| *sum += count);
                positive = positive.max(largest);
                cubes.push(cube);
            }
            Err(error) => set_aside(&cube, error)?,
        }
    }
    comm.sum_i64(statistics.counts_mut());
    let mut noise = statistics.fit();
    if let Auto::Given(gain) = config.preprocess.gain {
        noise = NoiseModel {
            gain,
            fitted: false,
            // Read noise is counted in electrons: the fitted one was in units of the fitted gain.
            read_noise: noise.read_noise * noise.gain / gain,
        };
    }
    if let Auto::Given(read_noise) = config.preprocess.read_noise {
        noise.read_noise = read_noise;
    }
    let largest = comm.max_f64(positive);
    let pixels: usize = cubes.iter().map(|cube| cube.ignored.len()).sum();
    Ok(Survey {
        noise,
        bound: (largest / noise.gain) * pixels as f64,
    })
}

/// # Collective
fn survey_cube(
    comm: &Comm,
    cube: &mut Cube,
    config: &Config,
    statistics: &mut NoiseStatistics,
    largest: &mut f64,
) -> Result<()> {
    let mut totals = Vec::new();
    let read = read_raw(comm, cube, statistics, &mut totals, largest);
    comm.agree(read)?;
    let found = comm.agree(match comm.gather_bands(&totals) {
        Some(totals) => find_vacuum(cube, &totals, config.preprocess.vacuum),
        None => Ok(Vec::new()),
    })?;
    let mut ignored = if comm.is_root() {
        found
    } else {
        vec![0; cube.ignored.len()]
    };
    comm.broadcast_into(&mut ignored);
    for (flag, ignored) in cube.ignored.iter_mut().zip(ignored) {
        *flag = ignored != 0;
    }
    Ok(())
}

/// Takes in this rank's blocks: noise statistics, totals per pixel and the largest voxel. Rank-local.
fn read_raw(
    comm: &Comm,
    cube: &Cube,
    statistics: &mut NoiseStatistics,
    totals: &mut Vec<f32>,
    largest: &mut f64,
) -> Result<()> {
    let blocks = cube.blocks();
    for block in blocks.owned(comm.rank(), comm.size()) {
        let raw = cube.raw(blocks.rows(block))?;
        statistics.add(raw.view());
        totals.extend(pixel_totals(raw.view()));
        for &value in &raw {
            if value.is_finite() {
                *largest = largest.max(value as f64);
            }
        }
    }
    Ok(())
}

/// Which pixels to ignore, 1 each, from the totals of all of them. Rank-local.
fn find_vacuum(cube: &Cube, totals: &[f32], vacuum: bool) -> Result<Vec<u8>> {
    let candidates: Vec<f32> = totals
        .iter()
        .zip(&cube.ignored)
        .filter(|(_, &ignored)| !ignored)
        .map(|(&total, _)| total)
        .collect();
    let floor = signal_floor(&candidates);
    let vacuum = if vacuum {
        vacuum_threshold(&candidates)
    } else {
        None
    };
    let ignored: Vec<u8> = totals
        .iter()
        .zip(&cube.ignored)
        .map(|(&total, &ignored)| {
            let dark = vacuum.is_some_and(|vacuum| total < vacuum);
            // Not `total <= floor`: a total that is no number has no signal either.
            let signal = total.partial_cmp(&floor) == Some(Ordering::Greater);
            (ignored || dark || !signal) as u8
        })
        .collect();
    let kept = ignored.iter().filter(|&&flag| flag == 0).count();
    let path = cube.info.path.display();
    ensure!(
        kept > 0,
        "{path}: no pixel has signal between {:.1} and {:.1} eV; look at it with `coreloss inspect`, and widen \
         archive.energy_range_ev or correct its mask",
        cube.energy.value(0),
        cube.energy.value(cube.energy.size - 1)
    );
    if kept < ignored.len() {
        log::info!(
            "{path}: {} of {} pixels ignored ({})",
            ignored.len() - kept,
            ignored.len(),
            match vacuum {
                Some(total) => format!("vacuum: fewer than {total:.4e} counts; mask; no signal"),
                None => "mask or no signal".to_string(),
            }
        );
    }
    Ok(ignored)
}

/// The mean spectrum of the pixels that are trained on, `[energy]`, sum 1, and the share of spikes.
///
/// # Collective
/// # Errors
/// Unreadable data; cubes without electrons.
pub fn mean_spectrum(comm: &Comm, cubes: &[Cube], survey: &Survey) -> Result<Mean> {
    let channels = cubes[0].energy.size;
    let mut sum = ExactSum::new(channels + 1, survey.bound.max(1.0));
    let mut spikes = 0;
    let mut voxels = 0;
    for cube in cubes {
        let blocks = cube.blocks();
        let mine = blocks.owned(comm.rank(), comm.size());
        let added = mine.into_iter().try_for_each(|block| {
            let rows = blocks.rows(block);
            let prepared = cube.lines(rows.clone(), &survey.noise)?;
            for (line, y) in rows.enumerate() {
                let mut total = vec![0f64; channels + 1];
                for x in 0..cube.size()[1] {
                    let untrained = cube.untrained.as_ref().is_some_and(|map| map[[y, x]]);
                    if prepared.valid[[line, x]] && !untrained {
                        for (total, &u) in
                            total.iter_mut().zip(prepared.counts.slice(s![line, x, ..]))
                        {
                            *total += u as f64;
                        }
                        total[channels] += 1.0;
                    }
                }
                sum.add(&total);
            }
            spikes += prepared.spikes.iter().map(|&n| n as u64).sum::<u64>();
            voxels += prepared.counts.len() as u64;
            Ok(())
        });
        comm.agree(added)?;
    }
    let mut spectrum = sum.total(comm)?;
    let pixels = spectrum.pop().unwrap_or(0.0);
    let electrons: f64 = spectrum.iter().sum();
    ensure!(
        electrons > 0.0,
        "no electrons are left to learn from after preprocessing: every pixel is ignored, dark or negative"
    );
    spectrum.iter_mut().for_each(|value| *value /= electrons);
    Ok(Mean {
        shares: spectrum,
        electrons_per_pixel: electrons / pixels,
        spike_share: comm.sum_u64(spikes) as f64 / comm.sum_u64(voxels) as f64,
    })
}

/// The mean spectrum of a set of cubes.
pub struct Mean {
    /// Share of the electrons in each channel, sum 1.
    pub shares: Vec<f64>,
    pub electrons_per_pixel: f64,
    /// Share of the voxels that were taken for spikes.
    pub spike_share: f64,
}

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
        Ok(Band {
            cube,
            lines,
            noise,
            held,
            recent: Mutex::new(None),
        })
    }

    /// Clean electrons of whole lines. Rank-local.
    pub fn lines(&self, rows: Range<usize>) -> Result<Prepared> {
        if let Some(part) = self.held.as_ref().and_then(|held| part_of(held, &rows)) {
            return Ok(part);
        }
        let mut recent = self.recent.lock().expect("no thread panics while it reads");
        if let Some(part) = recent.as_ref().and_then(|recent| part_of(recent, &rows)) {
            return Ok(part);
        }
        let read = (rows.clone(), self.cube.lines(rows.clone(), &self.noise)?);
        let part = part_of(&read, &rows).expect("what was read is what was asked for");
        *recent = Some(read);
        Ok(part)
    }

    /// Electrons `[y, x, energy]` of whole lines. Rank-local.
    pub fn counts(&self, rows: Range<usize>) -> Result<Array3<f32>> {
        Ok(self.lines(rows)?.counts)
    }

    /// Gives `work` this rank's lines, a block at a time. Rank-local.
    pub fn each_block(
        &self,
        mut work: impl FnMut(Range<usize>, &Prepared) -> Result<()>,
    ) -> Result<()> {
        let blocks = self.cube.blocks();
        (0..blocks.count())
            .map(|block| blocks.rows(block))
            .filter(|rows| self.lines.start <= rows.start && rows.end <= self.lines.end)
            .try_for_each(|rows| work(rows.clone(), &self.lines(rows)?))
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
