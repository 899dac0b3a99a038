//! Grows one kind of anomaly: learns by turns its mean residual, and which pixels show it.

use anyhow::Result;
use ndarray::{Array2, Zip};
use rayon::prelude::*;

use super::basis::{Basis, Change, Template};
use super::discs::Disc;
use super::left_out::{LeftOut, Model, Residuals};
use super::mean_field::mean_field;
use super::sample::Sample;
use super::spread::{correlation, variance};
use super::surprise::{Start, border_spread};
use crate::bands::Bands;
use crate::comm::ExactSum;

/// Rounds of expectation and maximisation; most kinds converge in ten.
const ROUNDS: usize = 20;
/// Pixels that are less like a kind than this share of it are outside of it.
const OUTSIDE: f64 = 0.4;
/// The least share of the pixels outside, if what is like the kind is not to be counted.
const LEAST_OUTSIDE: f64 = 0.3;
/// Evidence of pixels that belong to another kind.
const TAKEN: f32 = -30.0;
/// Share of the pixels that a model is estimated from, about.
const JUDGES: f64 = 0.6;
/// A kind whose mean residual lies along a template by at least this share is of the template's kind.
const LEAST_EXPLAINED: f64 = 0.5;
/// Step and range of the search for the shift of a kind, eV.
const SHIFT_STEP_EV: f64 = 0.05;
const MAX_SHIFT_EV: f64 = 15.0;
/// An edge shifted further would leave its window: what looks so has another shape.
const FARTHEST_EV: f64 = 13.0;
/// Standard error of the position of an edge between channels, besides noise, in channels (the rms of the estimates of
/// `configs/experiments/e1_shift_phys.yaml`, where there is little noise).
const POSITION_ERROR: f64 = 0.07;
/// Prior standard deviation of the share of an edge that moved about 1: the model has followed some of it, and thickness
/// varies.
const MOVED_SHARE_SD: f64 = 0.2;

/// A family of anomalies, by what it leaves in a residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// An edge at another energy or of another fine structure.
    Shift,
    /// An edge of another height.
    Composition,
}

/// What has grown: the same on all ranks, but for the maps, of which each has its band.
pub struct Grown {
    /// Posterior log odds that a pixel belongs to the kind, and the probabilities.
    pub odds: Array2<f32>,
    pub belief: Array2<f32>,
    pub mean: Mean,
    /// How much the projection on the kind varies where it is not, pooled over the start's disc, in units of noise.
    pub variance: f64,
    /// How far the kind stands out: its largest projection, pooled over the start's disc, in units of the largest elsewhere.
    pub prominence: f64,
    /// What the start's block is judged by.
    pub model: Model,
}

/// What a kind is.
pub struct Difference {
    /// Index of the window in which it shows.
    pub window: usize,
    pub family: Family,
    /// Where a shift of the edge explains it: the shift and its standard error, eV.
    pub shift_ev: Option<(f64, f64)>,
}

/// The mean residual of a kind, in whitened coordinates.
pub struct Mean {
    mean: Vec<f64>,
    /// The mean, shrunk towards the template that is most like it.
    signature: Vec<f64>,
    /// That template, if there are any, and the share of the mean's square along it.
    pub template: Option<(usize, f64)>,
    /// Pixels that it is the mean of.
    pixels: f64,
    /// How many pixels' worth of noise neighbours share.
    noise_correlation: f64,
}

impl Mean {
    /// The mean of `pixels` pixels: its part along the best of `templates` stays, the rest is shrunk by the noise that it is
    /// expected to hold.
    ///
    /// # Source
    /// James & Stein, Proc. 4th Berkeley Symp. 1 (1961) 361, positive part, about the template.
    fn new(mean: Vec<f64>, templates: &[(usize, Vec<f64>)], pixels: f64, noise_correlation: f64) -> Mean {
        let along = |direction: &Vec<f64>| dot(direction, &mean);
        let best = templates.iter().max_by(|a, b| along(&a.1).total_cmp(&along(&b.1)));
        let amount = best.map_or(0.0, |best| along(&best.1).max(0.0));
        let zero = vec![0.0; mean.len()];
        let template = best.map_or(&zero, |best| &best.1);
        let rest: Vec<f64> = mean.iter().zip(template).map(|(m, t)| m - amount * t).collect();
        let noise = (mean.len() as f64 - 1.0) * noise_correlation / pixels;
        let kept = (1.0 - noise / dot(&rest, &rest).max(1e-12)).max(0.0);
        let signature: Vec<f64> = rest.iter().zip(template).map(|(r, t)| amount * t + kept * r).collect();
        let explained = amount * amount / dot(&signature, &signature).max(1e-12);
        Mean { template: best.map(|best| (best.0, explained)), signature, mean, pixels, noise_correlation }
    }

    /// Its length in units of one pixel's noise.
    pub fn strength(&self) -> f64 {
        norm(&self.signature)
    }
}

/// Grows a kind from `belief` in the residuals of single `pixels`; `None` where nothing is left of it.
///
/// # Collective
/// # Errors
/// Residuals that are not finite.
/// # Source
/// Expectation-maximisation, Dempster, Laird & Rubin, J. R. Stat. Soc. B 39 (1977) 1, with the mean field for the
/// expectation. The evidence of a pixel is its log likelihood ratio for the kind's mean against 0 in white noise.
pub fn grow(
    sample: &Sample,
    basis: &Basis,
    pixels: &LeftOut,
    start: Start,
    disc: &Disc,
    belief: &Array2<f32>,
    taken: &Array2<bool>,
) -> Result<Option<Grown>> {
    let bands = sample.bands;
    let line_scan = bands.is_line_scan();
    let residuals = pixels.residuals(&pixels.models());
    let [y, x] = start.pixel;
    let model = pixels.model(pixels.blocks.of(y, x));
    let templates = directions(&model, sample, basis);
    let mut belief = Zip::from(belief).and(taken).map_collect(|&belief, &taken| if taken { 0.0 } else { belief });
    let mut before: Option<Array2<bool>> = None;
    let mut last = None;
    for _ in 0..ROUNDS {
        let weights: Vec<f32> = belief.iter().copied().collect();
        let total = bands.sum(&weights, 1.0)?;
        if total < 0.5 {
            return Ok(None);
        }
        let mean = weighted_mean(bands, &residuals, &weights, total)?;
        let outside = outside(bands, &residuals, &mean, &belief, taken);
        let along = masked(bands, residuals.along(&unit(&mean)), &outside);
        let (noise_correlation, error) = correlation(bands, &along)?;
        let mean = Mean::new(mean, &templates, total, noise_correlation);
        let square = dot(&mean.signature, &mean.signature);
        let mut evidence = bands.map(residuals.along(&mean.signature));
        Zip::from(&mut evidence).and(taken).for_each(|value, &taken| {
            let own = ((f64::from(*value) - 0.5 * square) / noise_correlation) as f32;
            *value = if taken && !own.is_nan() { TAKEN } else { own };
        });
        let odds = mean_field(evidence.view(), &mut belief, line_scan, |map| bands.with_halo(map, 1));
        let members = odds.mapv(|odds| odds > 0.0);
        let has_converged = !bands.comm.any(before.as_ref() != Some(&members));
        last = Some((odds, mean, outside, error));
        before = Some(members);
        if has_converged {
            break;
        }
    }
    let (Some((odds, mean, outside, error)), Some(inside)) = (last, before) else {
        return Ok(None);
    };
    let estimated = pixels.num_known() as f64 / (JUDGES * bands.num_valid.max(1) as f64);
    let around = if line_scan { 4.0 } else { 24.0 };
    let correlated = mean.noise_correlation - error - around * estimated;
    let near = bands.dilated(&inside, if line_scan { [0, 1] } else { [1, 1] });
    let outside = Zip::from(&outside).and(&near).map_collect(|&outside, &near| outside && !near);
    let mut along = residuals.along(&unit(&mean.signature));
    border_spread(bands, &residuals).divide(&mut along);
    let varied = variance(bands, &masked(bands, along.clone(), &outside), disc, estimated)?;
    let variance = varied.max(correlated);
    let prominence = prominence(bands, &bands.map(along), disc, &inside, taken);
    Ok(Some(Grown { odds, belief, mean, variance, prominence, model }))
}

/// The templates as whitened unit directions, with their indices; a height may change up or down. Rank-local.
fn directions(model: &Model, sample: &Sample, basis: &Basis) -> Vec<(usize, Vec<f64>)> {
    let mut directions = Vec::new();
    for (i, (template, residual)) in basis.templates.iter().zip(&sample.templates).enumerate() {
        let direction = model.direction(residual);
        if template.change == Change::Height {
            directions.push((i, direction.iter().map(|d| -d).collect()));
        }
        directions.push((i, direction));
    }
    directions
}

/// The pixels outside a kind: those that it is not believed of, that are not like its `mean`, and that are not `taken`.
///
/// # Collective
fn outside(
    bands: &Bands,
    residuals: &Residuals,
    mean: &[f64],
    belief: &Array2<f32>,
    taken: &Array2<bool>,
) -> Array2<bool> {
    let neighbours = Disc::neighbours(bands.is_line_scan());
    let along = bands.map(residuals.along(&unit(mean)));
    let (sums, counts) = neighbours.pooled(&bands.with_halo(along.view(), neighbours.reach()));
    let limit = (OUTSIDE * norm(mean)) as f32;
    let mut outside = Zip::from(&sums).and(&counts).map_collect(|&sum, &count| sum / count.sqrt().max(1.0) < limit);
    Zip::from(&mut outside).and(belief).and(taken).for_each(|out, &q, &taken| *out = *out && q < 0.5 && !taken);
    if bands.count(&outside) as f64 > LEAST_OUTSIDE * bands.num_valid as f64 {
        return outside;
    }
    Zip::from(&along).and(belief).map_collect(|value, &q| !value.is_nan() && q < 0.5)
}

/// The largest value `inside` a kind of the map `along` it, pooled over `disc`, in units of the largest of either sign whose
/// disc is clear of the kind and of those `taken`.
///
/// # Collective
fn prominence(bands: &Bands, along: &Array2<f32>, disc: &Disc, inside: &Array2<bool>, taken: &Array2<bool>) -> f64 {
    let reach = disc.reach_along_x() + 1;
    let reach = if bands.is_line_scan() { [0, reach] } else { [reach, reach] };
    let near = bands.dilated(&Zip::from(inside).and(taken).map_collect(|&inside, &taken| inside || taken), reach);
    let (pooled, _) = disc.pooled(&bands.with_halo(along.view(), disc.reach()));
    let (mut own, mut elsewhere) = (0f32, 0f32);
    Zip::from(&pooled).and(inside).and(&near).for_each(|&value, &inside, &near| {
        if inside {
            own = own.max(value);
        } else if !near {
            elsewhere = elsewhere.max(value.abs());
        }
    });
    bands.comm.max_f64(f64::from(own)) / bands.comm.max_f64(f64::from(elsewhere)).max(1.0)
}

/// `values` as a map, NaN where `kept` is not set. Rank-local.
fn masked(bands: &Bands, values: Vec<f32>, kept: &Array2<bool>) -> Array2<f32> {
    let mut map = bands.map(values);
    Zip::from(&mut map).and(kept).for_each(|value, &kept| {
        if !kept {
            *value = f32::NAN;
        }
    });
    map
}

/// The mean residual of all pixels by their `weights`, which sum to `total`.
///
/// # Collective
fn weighted_mean(bands: &Bands, residuals: &Residuals, weights: &[f32], total: f64) -> Result<Vec<f64>> {
    let width = bands.shape().1;
    let dimensions = residuals.dimensions;
    let weighed: Vec<Vec<f64>> = residuals
        .values
        .par_chunks((width * dimensions).max(1))
        .zip(weights.par_chunks(width.max(1)))
        .map(|(line, weights)| {
            let mut sums = vec![0.0; dimensions];
            for (pixel, &weight) in line.chunks(dimensions).zip(weights) {
                if weight > 0.0 && !pixel[0].is_nan() {
                    sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += f64::from(weight) * f64::from(v));
                }
            }
            sums
        })
        .collect();
    let largest = residuals.values.iter().filter(|v| !v.is_nan()).fold(1f64, |most, v| most.max(f64::from(v.abs())));
    let bound = bands.num_valid.max(1) as f64 * bands.comm.max_f64(largest);
    let mut sum = ExactSum::new(dimensions, bound);
    weighed.iter().for_each(|line| sum.add(line));
    Ok(sum.total(bands.comm)?.iter().map(|sum| sum / total).collect())
}

impl Grown {
    /// In which window and how the edge differs.
    ///
    /// # Collective
    /// # Errors
    /// Counts that are not finite.
    pub fn describe(&self, sample: &Sample, basis: &Basis) -> Result<Difference> {
        let Some((template, explained)) = self.mean.template else {
            return Ok(Difference { window: 0, family: Family::Shift, shift_ev: None });
        };
        let Template { window, change, .. } = basis.templates[template];
        if change == Change::Height && explained >= LEAST_EXPLAINED {
            return Ok(Difference { window, family: Family::Composition, shift_ev: None });
        }
        let root = self.root_electrons(sample)?;
        Ok(Difference { window, family: Family::Shift, shift_ev: self.shift_ev(sample, basis, window, root) })
    }

    /// The mean root of the electrons of its pixels.
    ///
    /// # Collective
    fn root_electrons(&self, sample: &Sample) -> Result<f64> {
        let bands = sample.bands;
        let inside = Zip::from(&self.odds)
            .and(&sample.electrons)
            .map_collect(|&odds, &electrons| if odds > 0.0 { electrons.sqrt() } else { f32::NAN });
        let roots: Vec<f32> = inside.iter().copied().collect();
        let count = bands.comm.sum_u64(roots.iter().filter(|root| !root.is_nan()).count() as u64).max(1);
        let largest = roots.iter().filter(|root| !root.is_nan()).fold(1f64, |most, &root| most.max(f64::from(root)));
        Ok(bands.sum(&roots, bands.comm.max_f64(largest))? / count as f64)
    }

    /// The shift of the edge that explains the mean best; `None` where no shift explains enough. Rank-local.
    ///
    /// A small shift shows in the size of its residual, not in its shape: a prior therefore says that nearly all of the edge
    /// has moved.
    ///
    /// # Source
    /// Profile likelihood over the shift, with a normal prior on the share that moved. The standard error is where twice the
    /// log likelihood has fallen by 1, added in squares to that of positions between channels.
    fn shift_ev(&self, sample: &Sample, basis: &Basis, window: usize, root: f64) -> Option<(f64, f64)> {
        let edge = basis.edge(window)?;
        let mean = &self.mean.mean;
        let weight = self.mean.pixels / self.mean.noise_correlation;
        let certainty = MOVED_SHARE_SD.powi(-2);
        let steps = (MAX_SHIFT_EV / SHIFT_STEP_EV) as i64;
        let turn = &sample.turn;
        let profile: Vec<(f64, f64)> = (-steps..=steps)
            .into_par_iter()
            .map(|step| {
                let shift = step as f64 * SHIFT_STEP_EV;
                let moved = self.model.whitened(&turn.turned(&basis.coordinates(&edge.moved(shift))));
                let (along, square) = (root * dot(&moved, mean), root * root * dot(&moved, &moved));
                let share = (weight * along + certainty) / (weight * square + certainty);
                let explained = weight * share * (2.0 * along - share * square);
                (shift, explained - certainty * (share - 1.0).powi(2))
            })
            .collect();
        let best = profile.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let signal = weight * dot(mean, mean) - mean.len() as f64;
        if best.1 <= f64::max(1.0, LEAST_EXPLAINED * signal) || best.0.abs() > FARTHEST_EV {
            return None;
        }
        let near = profile.iter().filter(|p| p.1 >= best.1 - 1.0 && p.0.signum() == best.0.signum());
        let farthest = near.map(|p| (p.0 - best.0).abs()).fold(0.0, f64::max);
        let position_error = POSITION_ERROR * edge.scale_ev;
        Some((best.0, farthest.max(0.5 * SHIFT_STEP_EV).hypot(position_error)))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

/// `vector` scaled to length 1; zero stays zero.
fn unit(vector: &[f64]) -> Vec<f64> {
    let length = norm(vector).max(1e-9);
    vector.iter().map(|value| value / length).collect()
}
