//! Writes copies of measured cubes with anomalies put in, and their truth.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use ndarray::{Array2, Array3, ArrayView3, s};

use super::{write_labelled, write_map};
use crate::archive::{self, Reader};
use crate::comm::{Comm, ExactSum};
use crate::config::{Config, EdgeAnomaly, InjectedCube, Places, Window};
use crate::cube::neighbourhood;
use crate::invalid::Invalid;
use crate::output::{Measurement, read_text};
use crate::pipeline::list_inputs;
use crate::preprocess::despike::{despike, zero_loss_channels};
use crate::preprocess::noise::NoiseModel;
use crate::shard::Blocks;
use crate::simulate::discs::{Disc, place_discs};
use crate::simulate::inject::{EdgeRange, Injector};
use crate::simulate::random::{Purpose, Randomness};
use crate::spectrum::{find_windows, sum_spectra};
use crate::stream::{Cube, measure_statistics};

/// The name of the text in a copy that tells what was put into it.
const INJECTED: &str = "injected";
/// Largest distance of an edge from its nominal energy, eV: axes are off by up to 10 eV.
const NEAR_EV: f64 = 15.0;
/// Windows begin this far before the onset of their edge, eV.
const LEAD_EV: f64 = 8.0;
/// An edge is taken to end this far before the next one begins, eV.
const CLEAR_EV: f64 = 3.0;

/// Writes one copy into `inject.dir`, with its mask where the original has one, and then its truth.
///
/// # Collective
/// # Errors
/// An input that cannot be read; a copy that would replace a file that is not one; an edge that is not found; anomalies
/// that do not fit on the specimen; a folder that cannot be written.
pub fn write_copy(comm: &Comm, config: &Config, copy: &InjectedCube) -> Result<()> {
    let original = Original::open(comm, config, copy)?;
    let edges = original.edges(comm, copy)?;
    let injectors: Result<Vec<Injector>> = copy
        .anomalies
        .iter()
        .zip(&edges)
        .map(|(anomaly, edge)| Injector::new(anomaly, *edge, &original.reader.info().energy))
        .collect();
    let size = original.cube.size();
    let ignored = &original.cube.ignored;
    let places: Vec<Places> = copy.anomalies.iter().map(EdgeAnomaly::places).collect();
    let randomness = Randomness { seed: copy.seed, cube: 0 };
    let free = ignored.iter().filter(|&&ignored| !ignored).count();
    let discs = place_discs(&places, size, free, |y, x| !ignored[[y, x]], randomness)?;
    let injection = Injection { injectors: injectors?, discs, randomness, reach: copy.neighbours_px, original };
    injection.log(comm, &copy.name);
    injection.write(comm, config, copy)
}

/// A measured cube, and which of its pixels are specimen.
struct Original {
    /// Cropped as configured, with its vacuum ignored.
    cube: Cube,
    /// Reads the whole energy axis.
    reader: Reader,
    noise: NoiseModel,
    /// Bound on the stored values of one channel, summed over all pixels.
    bound: f64,
    despike: bool,
}

impl Original {
    /// # Collective
    fn open(comm: &Comm, config: &Config, copy: &InjectedCube) -> Result<Original> {
        let input = copy.input.as_ref().or(config.inject.input.as_ref());
        let input = input.context("`input` is not given")?;
        let found = list_inputs(comm, std::slice::from_ref(input))?;
        let [source] = &found[..] else {
            let words = format!("`input` {input} means {} files: name one", found.len());
            return Err(Invalid(words).into());
        };
        let path = config.inject.dir.join(format!("{}.hspy", copy.name));
        comm.on_root(|| may_write(&path, &source.path))?;
        let options = archive::Options::of(config);
        let opened = Cube::open(source, config).and_then(|cube| Ok((cube, Reader::open(&source.path, &options)?)));
        let (cube, reader) = comm.agree(opened)?;
        let mut cubes = vec![cube];
        let statistics = measure_statistics(comm, &mut cubes, config, |_, error| Err(error))?;
        let cube = cubes.pop().context("a cube that is set aside is an error")?;
        Ok(Original {
            cube,
            reader,
            noise: statistics.noise,
            bound: statistics.bound * statistics.noise.gain,
            despike: config.preprocess.despike,
        })
    }

    /// The edge of each anomaly.
    ///
    /// # Collective
    fn edges(&self, comm: &Comm, copy: &InjectedCube) -> Result<Vec<EdgeRange>> {
        let is_sought = |anomaly: &EdgeAnomaly| anomaly.edge_ev.is_some();
        let found = if copy.anomalies.iter().any(is_sought) {
            find_windows(&self.cube.energy, &self.mean(comm)?)
        } else {
            Vec::new()
        };
        let last = self.reader.info().energy.value(self.reader.info().energy.size - 1);
        copy.anomalies
            .iter()
            .map(|anomaly| match (anomaly.edge_ev, anomaly.range_ev, anomaly.background_ev) {
                (Some(nominal), ..) => nearest_edge(nominal, &found, last),
                (_, Some(range_ev), Some(background_ev)) => Ok(EdgeRange { range_ev, background_ev }),
                _ => unreachable!("the configuration was validated"),
            })
            .collect()
    }

    /// The mean of the pixels that are not ignored, `[energy]` of the cube.
    ///
    /// # Collective
    fn mean(&self, comm: &Comm) -> Result<Vec<f64>> {
        let blocks = self.cube.blocks();
        let channels = self.cube.energy.size;
        let mut sum = ExactSum::new(channels, self.bound.max(1.0));
        let summed = blocks.owned(comm.rank(), comm.size()).try_for_each(|block| {
            let rows = blocks.rows(block);
            let raw = self.cube.raw(rows.clone())?;
            let finite = raw.mapv_into(|value| if value.is_finite() { value } else { 0.0 });
            for (line, y) in finite.outer_iter().zip(rows) {
                sum.add(&sum_spectra(line, |x| !self.cube.ignored[[y, x]]));
            }
            Ok(())
        });
        comm.agree(summed)?;
        let pixels = self.cube.ignored.iter().filter(|&&ignored| !ignored).count();
        let sums = sum.total(comm)?;
        Ok(sums.iter().map(|sum| sum / pixels as f64).collect())
    }
}

/// Refuses to write over a measured cube: only an earlier copy may be replaced. Rank-local.
fn may_write(path: &Path, original: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let shown = path.display();
    if fs::canonicalize(path)? == fs::canonicalize(original)? {
        return Err(Invalid(format!(
            "{shown}: would be written over itself; choose another inject.dir or another name"
        ))
        .into());
    }
    if read_text(path, INJECTED).is_err() {
        return Err(Invalid(format!(
            "{shown}: is there already and is no copy with anomalies: it is not written over. Choose another inject.dir or \
             another name, or move it away"
        ))
        .into());
    }
    Ok(())
}

/// The edge found nearest to a nominal onset; it extends to the next edge, or to the `last` energy.
fn nearest_edge(nominal: f64, found: &[Window], last: f64) -> Result<EdgeRange> {
    let onset = |window: &Window| window.range_ev[0] + LEAD_EV;
    let window = found
        .iter()
        .min_by(|a, b| {
            let distance = |window: &Window| (onset(window) - nominal).abs();
            distance(a).total_cmp(&distance(b))
        })
        .filter(|window| (onset(window) - nominal).abs() <= NEAR_EV);
    let Some(window) = window else {
        let onsets: Vec<String> = found.iter().map(|w| format!("{:.0}", onset(w))).collect();
        let onsets = if onsets.is_empty() { "none".into() } else { onsets.join(", ") };
        return Err(Invalid(format!(
            "no edge within {NEAR_EV} eV of `edge_ev` {nominal}: found were {onsets} eV; give range_ev and \
             background_ev"
        ))
        .into());
    };
    let next = found.iter().map(onset).filter(|&next| next > onset(window)).fold(f64::INFINITY, f64::min);
    Ok(EdgeRange { range_ev: [window.range_ev[0], (next - CLEAR_EV).min(last)], background_ev: window.background_ev })
}

/// Anomalies, and where to put them.
struct Injection {
    original: Original,
    injectors: Vec<Injector>,
    discs: Vec<Disc>,
    randomness: Randomness,
    /// Pixels on either side whose mean helps to separate an edge.
    reach: usize,
}

impl Injection {
    fn log(&self, comm: &Comm, name: &str) {
        if !comm.is_root() {
            return;
        }
        let [height, width] = self.original.cube.size();
        for (i, injector) in self.injectors.iter().enumerate() {
            let pixels =
                (0..height * width).filter(|pixel| self.anomaly_at(pixel / width, pixel % width) == Some(i)).count();
            log::info!("{name}: anomaly {}: {}, {pixels} pixels", i + 1, injector.describe());
        }
    }

    fn anomaly_at(&self, y: usize, x: usize) -> Option<usize> {
        let disc = self.discs.iter().find(|disc| disc.holds(y, x));
        disc.map(|disc| disc.anomaly)
    }

    /// # Collective
    fn write(&self, comm: &Comm, config: &Config, copy: &InjectedCube) -> Result<()> {
        let info = self.original.reader.info();
        let folder = &config.inject.dir;
        let texts: BTreeMap<String, String> = [
            (INJECTED, serde_json::to_string(copy)?),
            ("input", info.path.display().to_string()),
            ("fingerprint", comm.agree(self.original.reader.fingerprint())?),
            ("version", env!("CARGO_PKG_VERSION").to_string()),
        ]
        .map(|(name, text)| (name.to_string(), text))
        .into();
        let mask = comm.agree(archive::user_mask(&info.path, self.original.cube.size()))?;
        if let Some(mask) = mask {
            // A copy ignores what its original ignores. The mask comes first, so that no copy is ever without it.
            let blocks = Blocks::new(info.shape());
            let band = blocks.band(comm.rank(), comm.size());
            let local = mask.slice(s![band, ..]).iter().map(|&flag| flag as i32).collect();
            let path = folder.join(format!("{}.mask.hspy", copy.name));
            let axes = [info.y.clone(), info.x.clone()];
            write_map(comm, &path, "mask", &axes, &blocks, local, &texts)?;
        }
        let axes = [info.y.clone(), info.x.clone(), info.energy.clone()];
        // A copy keeps the metadata of the measurement.
        let measurement = comm.on_root(|| Measurement::of(&self.original.reader))?;
        write_labelled(comm, folder, &copy.name, axes, &texts, measurement, |rows| self.lines(rows))
    }

    /// Lines with their anomalies, and their truth. Rank-local.
    fn lines(&self, rows: Range<usize>) -> Result<(Array3<f32>, Vec<i32>)> {
        let info = self.original.reader.info();
        let [height, width, channels] = info.shape();
        let read = |rows| self.original.reader.read(rows, 0..width, 0..channels);
        let mut copy = read(rows.clone())?;
        let truth: Vec<i32> = (rows.start * width..rows.end * width)
            .map(|pixel| self.anomaly_at(pixel / width, pixel % width))
            .map(|anomaly| anomaly.map_or(0, |index| index as i32 + 1))
            .collect();
        for (line, y) in rows.enumerate() {
            let labels = &truth[line * width..(line + 1) * width];
            if labels.iter().all(|&label| label == 0) {
                continue;
            }
            let near = neighbourhood(y, self.reach, height);
            let clean = self.clean(read(near.clone())?);
            for (x, &label) in labels.iter().enumerate().filter(|&(_, &label)| label > 0) {
                let around = self.mean_around(clean.view(), &near, x);
                let pixel = (y * width + x) as u64;
                let mut random = self.randomness.stream(Purpose::Pixel, pixel);
                let mut spectrum = copy.slice(s![line, x, ..]).to_vec();
                self.injectors[label as usize - 1]
                    .apply(&mut spectrum, &around, &mut random)
                    .with_context(|| format!("{}: pixel y {y}, x {x}", info.path.display()))?;
                copy.slice_mut(s![line, x, ..]).assign(&ndarray::aview1(&spectrum));
            }
        }
        Ok((copy, truth))
    }

    /// `raw` without the spikes that a run would remove too.
    fn clean(&self, raw: Array3<f32>) -> Array3<f32> {
        if !self.original.despike {
            return raw;
        }
        let zero_loss = zero_loss_channels(&self.original.reader.info().energy);
        despike(raw.view(), 0..raw.dim().0, &self.original.noise, zero_loss).0
    }

    /// The mean spectrum of the specimen's pixels around column `x` of `lines`, which are the rows `near` of the cube.
    fn mean_around(&self, lines: ArrayView3<f32>, near: &Range<usize>, x: usize) -> Vec<f64> {
        let (_, width, channels) = lines.dim();
        let columns = neighbourhood(x, self.reach, width);
        let ignored: &Array2<bool> = &self.original.cube.ignored;
        let mut sums = vec![(0f64, 0f64); channels];
        for (line, y) in lines.outer_iter().zip(near.clone()) {
            for column in columns.clone().filter(|&column| !ignored[[y, column]]) {
                for (sum, &value) in sums.iter_mut().zip(line.row(column)) {
                    if value.is_finite() {
                        sum.0 += f64::from(value);
                        sum.1 += 1.0;
                    }
                }
            }
        }
        sums.iter().map(|(sum, count)| sum / count.max(1.0)).collect()
    }
}
