//! Component spectra: the background and each edge, including plural scattering.
//!
//! They are computed once on a fine energy grid; each scan line samples them at its own energy drift.

use crate::config::{Material, MaterialEdge};

/// Energies beyond the recorded range that scattering and drift can bring into it.
const MARGIN_BELOW_EV: f64 = 140.0;
const MARGIN_ABOVE_EV: f64 = 60.0;
/// Largest step of the fine grid.
const FINE_STEP_EV: f64 = 0.15;
/// The continuum above a step falls with this power.
const CONTINUUM_EXPONENT: f64 = 2.9;
const RESOLUTION_FWHM_EV: f64 = 0.9;
const PLASMON_EV: f64 = 24.0;
const PLASMON_FWHM_EV: f64 = 13.0;
/// Gaussian sigma of a full width at half maximum of 1.
pub(super) const SIGMA_OF_FWHM: f64 = 0.424_660_9;

/// The energies of the recorded spectra.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    pub offset_ev: f64,
    pub dispersion_ev: f64,
    pub channels: usize,
}

impl Grid {
    /// Fine steps per channel.
    fn oversampling(&self) -> usize {
        (self.dispersion_ev / FINE_STEP_EV).ceil().max(1.0) as usize
    }

    fn step(&self) -> f64 {
        self.dispersion_ev / self.oversampling() as f64
    }

    /// Energies of the fine grid.
    fn fine(&self) -> Vec<f64> {
        let start = self.offset_ev - MARGIN_BELOW_EV;
        let end = self.offset_ev + self.dispersion_ev * self.channels as f64 + MARGIN_ABOVE_EV;
        let steps = ((end - start) / self.step()).ceil() as usize;
        (0..steps).map(|i| start + i as f64 * self.step()).collect()
    }
}

/// How an edge differs from the material's own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Variant {
    /// How much higher it lies.
    pub shift_ev: f64,
    /// Full width at half maximum of a Gaussian that broadens it.
    pub added_fwhm_ev: f64,
    /// `[share, shift]`: a share of it lies a shift in eV higher.
    pub other_valence: Option<[f64; 2]>,
}

impl Variant {
    /// The edge in units of its whole step, before broadening.
    fn at(&self, edge: &MaterialEdge, energy_ev: f64) -> f64 {
        let energy_ev = energy_ev - self.shift_ev;
        match self.other_valence {
            None => edge_at(edge, energy_ev),
            Some([share, apart_ev]) => {
                (1.0 - share) * edge_at(edge, energy_ev) + share * edge_at(edge, energy_ev - apart_ev)
            }
        }
    }
}

/// A spectrum on the fine grid, in units of the background at its reference energy.
#[derive(Clone, Debug)]
pub struct Component {
    fine: Vec<f64>,
    grid: Grid,
}

impl Component {
    /// The power-law background, which includes plural scattering.
    pub fn background(material: &Material, grid: Grid) -> Component {
        let fine = grid.fine();
        let values = fine.iter().map(|&e| background_at(material, e)).collect();
        Component::recorded(values, grid)
    }

    /// The zeroth, first and second order of plural scattering of an edge in a `variant`.
    ///
    /// With thickness t in mean free paths the edge is `order[0] + t order[1] + t^2 / 2 order[2]`.
    ///
    /// # Source
    /// Egerton, EELS in the Electron Microscope (3rd ed.), 3.4: Poisson statistics of plasmon excitation.
    pub fn edge(material: &Material, edge: &MaterialEdge, variant: Variant, grid: Grid) -> [Component; 3] {
        let scale = edge.jump * background_at(material, edge.steps[0].energy_ev);
        let mut single: Vec<f64> = grid.fine().iter().map(|&e| scale * variant.at(edge, e)).collect();
        if variant.added_fwhm_ev > 0.0 {
            let sigma = SIGMA_OF_FWHM * variant.added_fwhm_ev;
            single = blurred(&single, 0.0, sigma, grid.step());
        }
        let sigma = SIGMA_OF_FWHM * PLASMON_FWHM_EV;
        let once = blurred(&single, PLASMON_EV, sigma, grid.step());
        let twice = blurred(&single, 2.0 * PLASMON_EV, sigma * 2f64.sqrt(), grid.step());
        [single, once, twice].map(|values| Component::recorded(values, grid))
    }

    /// As the spectrometer records it: blurred by its resolution, and averaged over the width of a channel.
    fn recorded(values: Vec<f64>, grid: Grid) -> Component {
        let sharp = blurred(&values, 0.0, SIGMA_OF_FWHM * RESOLUTION_FWHM_EV, grid.step());
        let width = grid.oversampling();
        let half = width / 2;
        let mean = |i: usize| {
            let from = i.saturating_sub(half);
            let to = (from + width).min(sharp.len());
            sharp[from..to].iter().sum::<f64>() / (to - from) as f64
        };
        Component { fine: (0..sharp.len()).map(mean).collect(), grid }
    }

    /// Samples the spectrum while all energies read `drift_ev` too high, from `before` channels below the grid's first
    /// on.
    ///
    /// Linear between the points of the fine grid, constant beyond its ends.
    pub fn sample(&self, drift_ev: f64, before: usize, out: &mut [f32]) {
        let last = self.fine.len() - 1;
        for (i, value) in out.iter_mut().enumerate() {
            let channel = i as f64 - before as f64;
            let above = MARGIN_BELOW_EV + channel * self.grid.dispersion_ev - drift_ev;
            let position = (above / self.grid.step()).clamp(0.0, last as f64);
            let low = (position as usize).min(last.saturating_sub(1));
            let part = position - low as f64;
            let high = self.fine[(low + 1).min(last)];
            *value = (self.fine[low] + part * (high - self.fine[low])) as f32;
        }
    }
}

fn background_at(material: &Material, energy_ev: f64) -> f64 {
    // The margin of the grid may reach low energies, where the power law would diverge. Nothing is recorded there.
    (energy_ev.max(20.0) / 500.0).powf(-material.background_exponent)
}

/// The edge in units of its whole step, before plural scattering.
fn edge_at(edge: &MaterialEdge, energy_ev: f64) -> f64 {
    let steps = edge.steps.iter().map(|step| {
        let above = energy_ev - step.energy_ev;
        if above < 0.0 {
            return 0.0;
        }
        let rise = if step.width_ev > 0.0 { 1.0 - (-above / step.width_ev).exp() } else { 1.0 };
        step.weight * rise * (energy_ev / step.energy_ev).powf(-CONTINUUM_EXPONENT)
    });
    let peaks = edge.peaks.iter().map(|peak| {
        let distance = (energy_ev - peak.energy_ev) / (SIGMA_OF_FWHM * peak.fwhm_ev);
        peak.height * (-0.5 * distance * distance).exp()
    });
    steps.chain(peaks).sum()
}

/// `values` moved up by `center_ev` and blurred by a Gaussian of `sigma_ev`; the end values go on beyond the ends.
pub(super) fn blurred(values: &[f64], center_ev: f64, sigma_ev: f64, step: f64) -> Vec<f64> {
    let from = ((center_ev - 4.0 * sigma_ev) / step).floor() as isize;
    let to = ((center_ev + 4.0 * sigma_ev) / step).ceil() as isize;
    let weights: Vec<f64> =
        (from..=to).map(|i| (-0.5 * ((i as f64 * step - center_ev) / sigma_ev).powi(2)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let last = values.len() as isize - 1;
    (0..=last)
        .map(|i| {
            let moved = weights.iter().zip(from..=to);
            moved.map(|(w, k)| w * values[(i - k).clamp(0, last) as usize]).sum::<f64>() / total
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MaterialChoice;

    fn bismuth_ferrite() -> Material {
        MaterialChoice::default().material().unwrap()
    }

    const GRID: Grid = Grid { offset_ev: 420.0, dispersion_ev: 0.5, channels: 800 };

    fn sampled(component: &Component, drift_ev: f64) -> Vec<f32> {
        let mut out = vec![0.0; GRID.channels];
        component.sample(drift_ev, 0, &mut out);
        out
    }

    #[test]
    fn the_background_is_the_power_law() {
        let out = sampled(&Component::background(&bismuth_ferrite(), GRID), 0.0);
        // 460 eV is channel 80, 690 eV channel 540: (690 / 460)^2.9 = 3.241.
        assert!((out[80] / out[540] - 1.5f32.powf(2.9)).abs() < 0.01);
    }

    #[test]
    fn the_jump_has_its_height_and_scattering_moves_it_up() {
        let material = bismuth_ferrite();
        let orders = Component::edge(&material, &material.edges[1], Variant::default(), GRID);
        let [single, once, _] = orders.each_ref().map(|component| sampled(component, 0.0));
        let background = sampled(&Component::background(&material, GRID), 0.0);
        // Between the steps, at 718 eV (channel 596): 2/3 of .35 of the background, and the tail of a peak.
        let share = single[596] / background[579];
        assert!((0.21..0.27).contains(&share), "{share}");
        let highest = |values: &[f32]| {
            let best = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]));
            420.0 + 0.5 * best.unwrap() as f64
        };
        assert!((highest(&single) - 709.5).abs() <= 1.0);
        assert!((highest(&once) - 735.0).abs() < 6.0, "{}", highest(&once));
        assert!(single[540] < 1e-4 * background[540]);
    }

    #[test]
    fn a_drift_of_whole_channels_moves_the_channels() {
        let material = bismuth_ferrite();
        let [single, ..] = Component::edge(&material, &material.edges[0], Variant::default(), GRID);
        let (still, moved) = (sampled(&single, 0.0), sampled(&single, 2.0));
        for e in 200..700 {
            assert!((still[e] - moved[e + 4]).abs() < 1e-5 * still[240]);
        }
    }
}
