//! What the spectra of one cube show, measured as in a run: noise, spikes, vacuum, edges and drift.

use anyhow::Result;
use ndarray::{ArrayView2, s};
use serde::Serialize;

use super::counts::{Counts, count, dark};
use crate::archive::Source;
use crate::comm::Comm;
use crate::config::{Config, Window};
use crate::cube::Axis;
use crate::pipeline::{cube_edges, sum_cube};
use crate::preprocess::despike::zero_loss_channels;
use crate::preprocess::prepare::Prepared;
use crate::score::Drift;
use crate::spectrum::FoundEdge;
use crate::stream::{Band, Cube, measure_statistics};

/// A channel with fewer electrons over all pixels is too noisy to be called dead or hot.
const MIN_ELECTRONS: f64 = 400.0;

/// All that is measured; what could not be measured is null.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    pub counts: Option<Counts>,
    pub noise: Option<Noise>,
    pub spikes: Option<Spikes>,
    pub vacuum: Option<Vacuum>,
    /// The most significant first.
    pub edges: Option<Vec<EdgeReport>>,
    pub drift: Option<DriftReport>,
    pub defects: Option<Defects>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Noise {
    /// Variance of one channel over its mean, stored units.
    pub gain: f64,
    /// Electrons rms.
    pub read_noise: f64,
    /// False if there were too few data, or the configuration gives the gain.
    pub fitted: bool,
    /// Mean over the pixels that are not ignored, in the energies in use.
    pub electrons_per_pixel: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Spikes {
    pub count: u64,
    /// Of the voxels.
    pub share: f64,
}

/// Pixels that a run ignores: vacuum, no signal, masked.
#[derive(Clone, Debug, Serialize)]
pub struct Vacuum {
    pub pixels: usize,
    /// Of the pixels.
    pub share: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct EdgeReport {
    /// `O K` where that is clear, else `edge_520eV`.
    pub name: String,
    pub onset_ev: f64,
    /// Candidates for its name, the likeliest first.
    pub candidates: Vec<String>,
    /// How much too high the axis seems to read here; null where the name is not clear.
    pub axis_error_ev: Option<f64>,
    /// The window around it, as scores use it.
    #[serde(skip)]
    pub window: Window,
}

/// How the reference edge moves from line to line, or from pixel to pixel of a single line.
#[derive(Clone, Debug, Serialize)]
pub struct DriftReport {
    /// The edge that it was measured on.
    pub edge: String,
    pub sd_ev: f64,
    pub peak_to_peak_ev: f64,
    /// Drift of each line, null where it could not be measured.
    pub lines_ev: Vec<Option<f64>>,
}

/// Parts of the detector or of the scan that differ from the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Defects {
    pub dead_channels_ev: Vec<f64>,
    pub hot_channels_ev: Vec<f64>,
    pub dark_columns: Vec<usize>,
    pub dark_lines: Vec<usize>,
}

/// Measures the cube of `source`; also gives why something could not be measured. The same on any number of ranks; only
/// root's value is complete.
///
/// # Collective
/// # Errors
/// A file that is no readable cube.
pub fn measure(comm: &Comm, config: &Config, source: &Source) -> Result<(Measured, Option<String>)> {
    let mut whole = config.clone();
    whole.archive.energy_range_ev = Some([f64::NEG_INFINITY, f64::INFINITY]);
    let cube = comm.agree(Cube::open(source, &whole))?;
    let (counts, totals) = count(comm, &cube)?;
    let [dark_columns, dark_lines] = totals.map_or_else(Default::default, |totals| dark(&totals, cube.size()));
    drop(cube);
    let mut measured = Measured {
        counts: Some(counts),
        defects: Some(Defects { dark_columns, dark_lines, ..Defects::default() }),
        ..Measured::default()
    };
    let spectra = measure_spectra(comm, config, source, &mut measured);
    Ok((measured, spectra.err().map(|error| format!("{error:#}"))))
}

/// Measures what needs prepared spectra.
///
/// # Collective
fn measure_spectra(comm: &Comm, config: &Config, source: &Source, measured: &mut Measured) -> Result<()> {
    let mut cubes = vec![comm.agree(Cube::open(source, config))?];
    let found = measure_statistics(comm, &mut cubes, config, |_, error| Err(error))?;
    let cube = &cubes[0];
    let ignored = cube.ignored.iter().filter(|&&ignored| ignored).count();
    measured.vacuum = Some(Vacuum { pixels: ignored, share: ignored as f64 / cube.ignored.len() as f64 });

    let lines = cube.blocks().band(comm.rank(), comm.size());
    let memory = config.io.memory_mib << 20;
    let band = comm.agree(Band::open(cube, found.noise, lines.clone(), lines, memory))?;
    let sum = sum_cube(comm, &band, found.bound, |_, _| true)?;
    let (mean, pixels) = (sum.mean(), sum.pixels.max(1.0));
    measured.noise = Some(Noise {
        gain: found.noise.gain,
        read_noise: found.noise.read_noise,
        fitted: found.noise.fitted,
        electrons_per_pixel: mean.iter().sum(),
    });
    if let Some(defects) = measured.defects.as_mut() {
        let [dead, hot] = odd_channels(&cube.energy, &mean, pixels);
        (defects.dead_channels_ev, defects.hot_channels_ev) = (dead, hot);
    }
    let edges = cube_edges(comm, &band, found.bound, &mean)?;
    let drift = edges.first().map(|edge| Drift::new(&cube.energy, &edge.window, &mean));
    let (spikes, lines_ev) = look_at_lines(comm, &band, drift.as_ref())?;
    measured.spikes =
        Some(Spikes { count: spikes, share: spikes as f64 / cube.shape().iter().product::<usize>() as f64 });
    measured.drift = edges.first().and_then(|edge| spread(&edge.window.name, lines_ev));
    measured.edges = Some(edges.into_iter().map(EdgeReport::from).collect());
    Ok(())
}

/// The number of spikes; on root also the drift of each line, or of each pixel of a single line.
///
/// # Collective
fn look_at_lines(comm: &Comm, band: &Band, drift: Option<&Drift>) -> Result<(u64, Vec<f64>)> {
    let is_line_scan = band.cube.size()[0] == 1;
    let mut spikes = 0;
    let mut lines_ev = Vec::new();
    let looked = band.each_block(|_, prepared| {
        spikes += prepared.spikes.iter().map(|&n| u64::from(n)).sum::<u64>();
        if let Some(drift) = drift {
            lines_ev.extend(shifts(drift, prepared, is_line_scan));
        }
        Ok(())
    });
    comm.agree(looked)?;
    let lines_ev = comm.gather_bands(&lines_ev).unwrap_or_default();
    Ok((comm.sum_u64(spikes), lines_ev))
}

/// The shift of each line of `prepared`, or of each pixel, eV; NaN where it cannot be measured.
fn shifts(drift: &Drift, prepared: &Prepared, by_pixel: bool) -> Vec<f64> {
    let of = |u: ArrayView2<f32>, valid: &[bool]| drift.of_line(u, valid).unwrap_or(f64::NAN);
    let lines = prepared.counts.outer_iter().zip(prepared.valid.outer_iter());
    lines
        .flat_map(|(line, valid)| {
            let valid = valid.to_vec();
            if by_pixel {
                let pixels = 0..valid.len();
                pixels.map(|x| of(line.slice(s![x..x + 1, ..]), &valid[x..x + 1])).collect()
            } else {
                vec![of(line, &valid)]
            }
        })
        .collect()
}

/// The spread of the drift; none where fewer than two lines could be measured.
fn spread(edge: &str, lines_ev: Vec<f64>) -> Option<DriftReport> {
    let known: Vec<f64> = lines_ev.iter().copied().filter(|ev| ev.is_finite()).collect();
    if known.len() < 2 {
        return None;
    }
    let count = known.len() as f64;
    let mean = known.iter().sum::<f64>() / count;
    let variance = known.iter().map(|ev| (ev - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let highest = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lowest = known.iter().copied().fold(f64::INFINITY, f64::min);
    Some(DriftReport {
        edge: edge.into(),
        sd_ev: variance.sqrt(),
        peak_to_peak_ev: highest - lowest,
        lines_ev: lines_ev.into_iter().map(|ev| ev.is_finite().then_some(ev)).collect(),
    })
}

/// Energies of dead and of hot channels: those with less than half of, and more than one and a half times, each of
/// their four neighbours. Above the zero-loss peak only. `mean` is in electrons per pixel.
fn odd_channels(energy: &Axis, mean: &[f64], pixels: f64) -> [Vec<f64>; 2] {
    let zero_loss = zero_loss_channels(energy);
    let mut odd = [Vec::new(), Vec::new()];
    for i in zero_loss.end.max(2)..mean.len().saturating_sub(2) {
        let around = [mean[i - 2], mean[i - 1], mean[i + 1], mean[i + 2]];
        let lowest = around.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = around.iter().copied().fold(0.0, f64::max);
        if pixels * highest < MIN_ELECTRONS {
            continue;
        }
        if mean[i] < 0.5 * lowest || (mean[i] == 0.0 && highest > 0.0) {
            odd[0].push(energy.value(i));
        } else if mean[i] > 1.5 * highest {
            odd[1].push(energy.value(i));
        }
    }
    odd
}

impl From<FoundEdge> for EdgeReport {
    fn from(edge: FoundEdge) -> EdgeReport {
        EdgeReport {
            name: edge.window.name.clone(),
            window: edge.window,
            onset_ev: edge.onset_ev,
            candidates: edge.candidates,
            axis_error_ev: edge.axis_error_ev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_and_hot_channels_and_the_drift_that_is_known() {
        let energy = Axis::energy_loss(400.0, 0.5, 40);
        let mut mean = vec![10.0; 40];
        (mean[7], mean[20], mean[30]) = (0.0, 16.0, 14.0);
        assert_eq!(odd_channels(&energy, &mean, 100.0), [vec![403.5], vec![410.0]]);
        assert!(odd_channels(&energy, &mean, 10.0).iter().all(Vec::is_empty));
        let drift = spread("O K", vec![0.5, f64::NAN, -0.5]).unwrap();
        assert_eq!(drift.peak_to_peak_ev, 1.0);
        assert!((drift.sd_ev - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(drift.lines_ev, [Some(0.5), None, Some(-0.5)]);
        assert!(spread("O K", vec![0.5, f64::NAN]).is_none());
    }
}
