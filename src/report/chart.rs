//! The charts of a report: histogram, loss, scree, spectra.

use anyhow::Result;
use maud::Markup;
use ndarray::{Array2, ArrayView1};

use super::contents::{Cube, LossPoint, Map};
use super::plot::{Area, BLUE, GREEN, INK, Panel, Rgb, VERMILLION, svg};
use super::scale::Scale;
use super::text::number;
use super::words::probability;
use crate::config::ResidualSpectrum;

// Narrower than on the page: two side by side stay readable on paper.
const SIZE: [u32; 2] = [430, 235];
const SMALL: [u32; 2] = [380, 170];
const TALL: [u32; 2] = [430, 320];
const WIDE: [u32; 2] = [860, 240];

/// Histogram of the pixels by score with the threshold, log counts; normal and anomalous pixels apart where there is `truth`
/// `[y, x]`. `None` without a finite score.
pub fn histogram(map: &Map, truth: Option<&Array2<i32>>) -> Result<Option<Markup>> {
    const BINS: usize = 80;
    let mut finite: Vec<f32> = map.values.iter().copied().filter(|v| v.is_finite()).collect();
    if finite.is_empty() {
        return Ok(None);
    }
    finite.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| finite[(share * (finite.len() - 1) as f64) as usize] as f64;
    // A few extreme scores would squeeze all others into one bar: they share the last one instead.
    let knee = at(0.5) + 15.0 * (at(0.99) - at(0.5));
    let threshold = f64::from(map.threshold());
    let mut high = if knee > at(0.5) { at(1.0).min(knee) } else { at(1.0) };
    let gathers = high < at(1.0);
    let mut low = at(0.0);
    if threshold.is_finite() {
        low = low.min(threshold);
        high = high.max(threshold + 0.05 * (threshold - low));
    }
    if high <= low {
        (low, high) = (low - 0.5, low + 0.5);
    }
    let edges: Vec<f64> = (0..=BINS).map(|i| low + (high - low) * i as f64 / BINS as f64).collect();
    let mut counts = [vec![0.0; BINS], vec![0.0; BINS]];
    for (at, &value) in map.values.indexed_iter() {
        if value.is_finite() {
            let share = (value as f64 - low) / (high - low);
            let bin = ((share * BINS as f64) as usize).min(BINS - 1);
            let anomalous = truth.and_then(|t| t.get(at)).is_some_and(|&t| t > 0);
            counts[anomalous as usize][bin] += 1.0;
        }
    }
    let unit = if map.is_odds() { ", ln(1 + odds)" } else { "" };
    let last = if gathers { " (last bar: this and above)" } else { "" };
    let words = format!("{} score{unit}{last}", map.score);
    let mark = match map.is_odds() {
        true => format!("flagged above {}", probability(threshold)),
        false => format!("threshold {}", number(threshold)),
    };
    let x = Scale::linear(&words, edges.iter().copied(), 0.01);
    // The axis begins below one, so that a bar of a single pixel has a height.
    let heights = counts.iter().flatten().copied().chain([0.7, 10.0]);
    let y = Scale::log("pixels", heights, 0.0).headroom(0.1);
    let label = format!("Histogram of the {} score", map.title());
    svg(SIZE, &label, &x, |area| {
        let mut panel = Panel::new(area, &x, &y)?;
        panel.bars(&edges, &counts[0], BLUE)?;
        if truth.is_some() {
            panel.bars(&edges, &counts[1], VERMILLION)?;
        }
        panel.marker(threshold, &mark)
    })
    .map(Some)
}

/// Training and validation loss by step, on a log axis where the losses are positive and span more than a factor of five.
pub fn loss(points: &[LossPoint]) -> Result<Markup> {
    let train: Vec<(f64, f64)> = points.iter().map(|p| (p.step as f64, p.train)).collect();
    let validation: Vec<(f64, f64)> = points.iter().filter_map(|p| Some((p.step as f64, p.validation?))).collect();
    let losses = || train.iter().chain(&validation).map(|p| p.1).filter(|v| v.is_finite());
    let least = losses().fold(f64::INFINITY, f64::min);
    let greatest = losses().fold(f64::NEG_INFINITY, f64::max);
    let x = Scale::linear("step", train.iter().map(|p| p.0), 0.01);
    let y = if least > 0.0 && greatest > 5.0 * least {
        Scale::log("loss", losses(), 0.05)
    } else {
        Scale::linear("loss", losses(), 0.05)
    };
    svg(WIDE, "Loss by training step", &x, |area| {
        let mut panel = Panel::new(area, &x, &y)?;
        panel.line(&train, BLUE)?;
        panel.line(&validation, VERMILLION)?;
        if validation.len() < 60 {
            panel.dots(&validation, VERMILLION)?;
        }
        Ok(())
    })
}

/// Explained variance ratio of the first `MOST` components, log axis.
pub fn scree(ratios: &[f64]) -> Result<Markup> {
    const MOST: usize = 50;
    let points: Vec<(f64, f64)> =
        ratios.iter().take(MOST).enumerate().map(|(i, &ratio)| (i as f64 + 1.0, ratio)).collect();
    let x = Scale::linear("component", points.iter().map(|p| p.0), 0.03);
    let y = Scale::log("explained variance ratio", points.iter().map(|p| p.1), 0.05);
    svg(SIZE, "Scree plot of the principal components", &x, |area| {
        let mut panel = Panel::new(area, &x, &y)?;
        panel.line(&points, BLUE)?;
        panel.dots(&points, BLUE)
    })
}

/// A factor of a principal component by eV, with the shaded `windows`.
pub fn factor(energy_ev: &[f64], factor: &[f64], windows: &[(String, [f64; 2])]) -> Result<Markup> {
    let points = points(energy_ev, factor.iter().copied());
    let x = energy_scale(&points);
    let y = Scale::linear("factor", points.iter().map(|p| p.1).chain([0.0]), 0.05).headroom(0.15);
    svg(SIZE, "Factor of a principal component", &x, |area| {
        let mut panel = Panel::new(area, &x, &y)?;
        panel.shades(windows)?;
        panel.rule(0.0)?;
        panel.line(&points, BLUE)?;
        panel.shade_names(windows)
    })
}

/// A residual spectrum, in units of its noise.
pub fn residual(spectrum: &ResidualSpectrum) -> Result<Markup> {
    let energy = |i: usize| spectrum.first_ev + spectrum.step_ev * i as f64;
    let points: Vec<(f64, f64)> = spectrum.values.iter().enumerate().map(|(i, &value)| (energy(i), value)).collect();
    let x = energy_scale(&points);
    let y = Scale::linear("residual", points.iter().map(|p| p.1).chain([0.0]), 0.1);
    svg(SMALL, "Mean residual spectrum of the kind", &x, |area| {
        let mut panel = Panel::new(area, &x, &y)?;
        panel.rule(0.0)?;
        panel.line(&points, GREEN)
    })
}

/// A figure of the training by step, on a log axis.
pub fn training(words: &str, points: &[(f64, f64)]) -> Result<Markup> {
    let x = Scale::linear("step", points.iter().map(|p| p.0), 0.01);
    let y = Scale::log(words, points.iter().map(|p| p.1), 0.05);
    svg(SIZE, words, &x, |area| Panel::new(area, &x, &y)?.line(points, BLUE))
}

/// The mean spectrum (counts by eV) of `cube`, its windows shaded, its edges marked.
pub fn mean_spectrum(cube: &Cube) -> Result<Markup> {
    let points = points(&cube.energy_ev, cube.mean_spectrum.iter().copied());
    let x = energy_scale(&points);
    let y = counts_scale("mean counts", &[&points]);
    svg(WIDE, "Mean spectrum", &x, |area| {
        let mut panel = spectra(area, [&x, &y], &[(&points, INK)], &cube.windows)?;
        panel.onsets(&cube.edges)
    })
}

/// The spectra of a region, counts by channel.
pub struct RegionLines<'a> {
    pub label: i32,
    pub measured: ArrayView1<'a, f32>,
    pub explained: Option<ArrayView1<'a, f32>>,
}

/// A region's mean spectrum (counts by eV) with the shaded `windows`; where there is a reconstruction, that over it and
/// the residual below. Only energies in `shown` are drawn, where that is given.
pub fn region(
    energy_ev: &[f64],
    lines: &RegionLines,
    windows: &[(String, [f64; 2])],
    shown: Option<[f64; 2]>,
) -> Result<Markup> {
    let in_view = |&(energy, _): &(f64, f64)| shown.is_none_or(|[low, high]| low <= energy && energy <= high);
    let line = |values: ArrayView1<f32>| -> Vec<(f64, f64)> {
        points(energy_ev, values.iter().map(|&v| v as f64)).into_iter().filter(in_view).collect()
    };
    let measured = line(lines.measured);
    let modelled = lines.explained.map_or(Vec::new(), line);
    let x = energy_scale(&measured);
    let y = counts_scale("counts", &[&measured, &modelled]);
    let label = format!("Spectrum of region {}", lines.label);
    if modelled.is_empty() {
        return svg(SIZE, &label, &x, |area| spectra(area, [&x, &y], &[(&measured, INK)], windows).map(|_| ()));
    }
    let residual: Vec<(f64, f64)> = measured.iter().zip(&modelled).map(|(m, r)| (m.0, m.1 - r.1)).collect();
    // The panels share the energy axis: its label stands once, below.
    let bare_x = Scale::linear("", measured.iter().map(|p| p.0), 0.0);
    let residual_y = Scale::linear("residual", residual.iter().map(|p| p.1).chain([0.0]), 0.1);
    svg(TALL, &label, &x, |area| {
        let (_, height) = area.dim_in_pixel();
        let (top, bottom) = area.split_vertically(height * 61 / 100);
        let lines = [(&measured[..], INK), (&modelled[..], VERMILLION)];
        spectra(&top, [&bare_x, &y], &lines, windows)?;
        let mut panel = Panel::new(&bottom, &x, &residual_y)?;
        panel.shades(windows)?;
        panel.rule(0.0)?;
        panel.line(&residual, GREEN)
    })
}

/// Draws `lines` over shaded and named `windows`, on the axes `[x, y]`.
fn spectra<'a, 'b, 's>(
    area: &'a Area<'b>,
    [x, y]: [&'s Scale<'s>; 2],
    lines: &[(&[(f64, f64)], Rgb)],
    windows: &[(String, [f64; 2])],
) -> Result<Panel<'a, 'b, 's>> {
    let mut panel = Panel::new(area, x, y)?;
    panel.shades(windows)?;
    for (points, color) in lines {
        panel.line(points, *color)?;
    }
    panel.shade_names(windows)?;
    Ok(panel)
}

fn energy_scale(points: &[(f64, f64)]) -> Scale<'static> {
    Scale::linear("energy loss (eV)", points.iter().map(|p| p.0), 0.0)
}

/// The values of `lines`, with room above for the names of windows.
fn counts_scale<'a>(label: &'a str, lines: &[&[(f64, f64)]]) -> Scale<'a> {
    let values = lines.iter().copied().flatten().map(|p| p.1);
    Scale::linear(label, values, 0.05).headroom(0.15)
}

/// Energies paired with values, as far as both go.
fn points(energy_ev: &[f64], values: impl Iterator<Item = f64>) -> Vec<(f64, f64)> {
    energy_ev.iter().copied().zip(values).collect()
}
