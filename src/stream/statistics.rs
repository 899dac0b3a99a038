//! Passes over whole cubes before anything is learned: noise model, vacuum and mean spectrum.

use std::cmp::Ordering;

use anyhow::{Result, ensure};
use ndarray::Axis as Dim;

use super::cube::Cube;
use crate::comm::{Comm, ExactSum};
use crate::config::{Auto, Config};
use crate::preprocess::noise::{NoiseModel, NoiseStatistics};
use crate::preprocess::vacuum::{pixel_totals, signal_floor, vacuum_threshold};
use crate::spectrum::sum_spectra;

/// More than any detector counts; values read in the wrong type or byte order soon exceed it.
const MOST_COUNTS: f64 = 1e15;

/// What one pass over the stored values yields for a set of cubes.
#[derive(Clone, Copy)]
pub struct CubeStatistics {
    pub noise: NoiseModel,
    /// Upper bound on the electrons of one channel, summed over all pixels.
    pub bound: f64,
}

/// Fits the noise model, and marks the vacuum of each cube as ignored.
///
/// A cube that cannot be read, has no pixel with signal, or holds values that are no counts is passed to `set_aside`, on
/// all ranks alike, and removed from `cubes`; it does not count in the statistics.
///
/// # Collective
/// # Errors
/// Those of `set_aside`.
pub fn measure_statistics(
    comm: &Comm,
    cubes: &mut Vec<Cube>,
    config: &Config,
    mut set_aside: impl FnMut(&Cube, anyhow::Error) -> Result<()>,
) -> Result<CubeStatistics> {
    let mut statistics = NoiseStatistics::default();
    for mut cube in std::mem::take(cubes) {
        let mut own = NoiseStatistics::default();
        match measure_cube(comm, &mut cube, config, &mut own) {
            Ok(()) => {
                comm.sum_i64(own.counts_mut());
                // Cubes of another dispersion have noise of their own.
                if cubes.first().is_none_or(|first| first.has_dispersion(cube.dispersion())) {
                    let counts = statistics.counts_mut().iter_mut().zip(own.counts());
                    counts.for_each(|(sum, count)| *sum += count);
                }
                cube.fitted = Some(noise_of(&own, config));
                cubes.push(cube);
            }
            Err(error) => set_aside(&cube, error)?,
        }
    }
    let noise = noise_of(&statistics, config);
    let bound = electron_bound(cubes, &noise);
    Ok(CubeStatistics { noise, bound })
}

/// Upper bound on the electrons of one channel in use, summed over all pixels of `cubes`. Rank-local.
pub fn electron_bound(cubes: &[Cube], noise: &NoiseModel) -> f64 {
    let brightest = cubes.iter().map(|cube| {
        // A channel in use may merge several stored ones.
        let merged = (cube.energy.scale / cube.dispersion()).max(1.0);
        cube.largest / cube.noise(noise).gain * merged
    });
    let pixels: usize = cubes.iter().map(|cube| cube.ignored.len()).sum();
    brightest.fold(0.0, f64::max) * pixels as f64
}

/// The noise model fitted to `statistics`, except for what the configuration gives.
fn noise_of(statistics: &NoiseStatistics, config: &Config) -> NoiseModel {
    let mut noise = statistics.fit();
    if let Auto::Given(gain) = config.preprocess.gain {
        noise = NoiseModel {
            gain,
            fitted: false,
            // Read noise is in electrons, so the fitted one depends on the fitted gain.
            read_noise: noise.read_noise * noise.gain / gain,
        };
    }
    if let Auto::Given(read_noise) = config.preprocess.read_noise {
        noise.read_noise = read_noise;
    }
    noise
}

/// Adds the cube to `statistics`; finds its largest value and its vacuum.
///
/// # Collective
fn measure_cube(comm: &Comm, cube: &mut Cube, config: &Config, statistics: &mut NoiseStatistics) -> Result<()> {
    let mut totals = Vec::new();
    let mut largest = 0.0;
    let read = read_raw(comm, cube, statistics, &mut totals, &mut largest);
    comm.agree(read)?;
    cube.largest = comm.max_f64(largest);
    ensure!(
        cube.largest <= MOST_COUNTS,
        "{}: it holds values up to {:.1e}, which no detector counts: they were stored in another type or byte order \
         than the file says, or scaled; export it again",
        cube.info.path.display(),
        cube.largest
    );
    let found = comm.agree(match comm.gather_bands(&totals) {
        Some(totals) => find_vacuum(cube, &totals, config.preprocess.vacuum),
        None => Ok(Vec::new()),
    })?;
    let mut ignored = if comm.is_root() { found } else { vec![0; cube.ignored.len()] };
    comm.broadcast_into(&mut ignored);
    for (flag, ignored) in cube.ignored.iter_mut().zip(ignored) {
        *flag = ignored != 0;
    }
    Ok(())
}

/// Reads this rank's blocks for the noise statistics, the total of each pixel and the largest value. Rank-local.
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

/// The pixels to ignore, as 1, by the totals of all pixels. Rank-local.
fn find_vacuum(cube: &Cube, totals: &[f32], vacuum: bool) -> Result<Vec<u8>> {
    let candidates: Vec<f32> =
        totals.iter().zip(&cube.ignored).filter(|&(_, &ignored)| !ignored).map(|(&total, _)| total).collect();
    let floor = signal_floor(&candidates);
    let vacuum = if vacuum { vacuum_threshold(&candidates) } else { None };
    let ignored: Vec<u8> = totals
        .iter()
        .zip(&cube.ignored)
        .map(|(&total, &ignored)| {
            let dark = vacuum.is_some_and(|vacuum| total < vacuum);
            // Not `total <= floor`: NaN has no signal either.
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

/// The mean spectrum of the pixels that are trained on, and the share of spikes.
///
/// # Collective
/// # Errors
/// Unreadable data; cubes without electrons.
pub fn mean_spectrum(comm: &Comm, cubes: &[Cube], statistics: &CubeStatistics) -> Result<MeanSpectrum> {
    let channels = cubes[0].energy.size;
    let pixels: usize = cubes.iter().map(|cube| cube.ignored.len()).sum();
    // The last element counts pixels.
    let mut sum = ExactSum::new(channels + 1, statistics.bound.max(pixels as f64));
    let mut spikes = 0;
    let mut voxels = 0;
    for cube in cubes {
        let blocks = cube.blocks();
        let mine = blocks.owned(comm.rank(), comm.size());
        let added = mine.into_iter().try_for_each(|block| {
            let rows = blocks.rows(block);
            let prepared = cube.lines(rows.clone(), &statistics.noise)?;
            for (line, y) in rows.enumerate() {
                let counts = |x: usize| prepared.valid[[line, x]] && cube.is_trained_on(y, x);
                let mut total = sum_spectra(prepared.counts.index_axis(Dim(0), line), counts);
                total.push((0..cube.size()[1]).filter(|&x| counts(x)).count() as f64);
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
    Ok(MeanSpectrum {
        shares: spectrum,
        electrons_per_pixel: electrons / pixels,
        pixels,
        spike_share: comm.sum_u64(spikes) as f64 / comm.sum_u64(voxels) as f64,
    })
}

/// The mean spectrum of a set of cubes.
pub struct MeanSpectrum {
    /// `[energy]`: share of the electrons in each channel, sum 1.
    pub shares: Vec<f64>,
    pub electrons_per_pixel: f64,
    /// Number of pixels.
    pub pixels: f64,
    /// Share of the voxels that were removed as spikes.
    pub spike_share: f64,
}
