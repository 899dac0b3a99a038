//! The kinds of anomaly in a cube, found one after the other, each grown from its most surprising pixel.

use std::fmt;

use anyhow::Result;
use ndarray::{Array2, Zip};

use super::basis::Basis;
use super::grow::{Difference, Family, Grown, grow};
use super::left_out::LeftOut;
use super::regions::regions;
use super::sample::Sample;
use super::setting::Setting;
use super::surprise::{Group, Start, Surprise};
use crate::bands::Bands;

/// A report shows no more kinds than this.
const MAX_KINDS: usize = 8;
/// A kind with a larger share of the pixels is another phase, not an anomaly.
const MAX_SHARE: f64 = 0.3;
/// Pixels that look like a start by at least this share take no part in judging it.
const ALIKE: f32 = 0.4;
/// Where more pixels look like a start they are the rule; then only those this near, in pixels, are left out.
const MAX_ALIKE: f64 = 0.35;
const NEAR_PX: usize = 6;
/// How often the normal pixels are measured anew without a kind.
const ROUNDS: usize = 2;
/// The least share of the pixels that normal ones are measured on.
const LEAST_NORMAL: f64 = 0.5;
/// Log odds of a probability of 95 %, which one pixel of an area has to exceed.
const SURE: f32 = 2.944_439;
/// Pixels around a kind that may start no other, because of its blur.
const BLUR_PX: usize = 2;
/// Misfit has no known law: a start along it has to exceed what chance reaches by the first factor; less, if the kind is a
/// small one that exceeds all else along it by the second.
const MISFIT_FACTORS: [(f64, f64); 4] = [(2.25, 0.0), (1.7, 2.5), (1.3, 3.5), (1.0, 5.0)];
/// The largest share of the pixels of a small kind.
const SMALL_SHARE: f64 = 0.1;
/// A kind that does not exceed all else along it by this factor has to exceed what chance reaches by the margin, unless one of
/// its family was found in its window.
const LEAST_PROMINENCE: f64 = 2.0;
const MARGIN: f64 = 1.3;

/// One kind of anomaly: pixels whose residuals are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// Name of the window in which it shows.
    pub window: String,
    pub family: Family,
    pub area_px: usize,
    /// Length of its mean residual in units of one pixel's noise.
    pub strength: f64,
    /// Where a shift of the edge explains it: the shift and its standard error, eV.
    pub shift_ev: Option<(f64, f64)>,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (area, strength) = (self.area_px, self.strength);
        write!(f, "{}: {area} pixels differ alike by {strength:.1} sigma each", self.window)?;
        match self.shift_ev {
            Some((shift, error)) => write!(f, ", the edge shifted by {shift:.2} +- {error:.2} eV"),
            None if self.family == Family::Shift => f.write_str(", the edge of another shape"),
            None => f.write_str(", the edge of another height"),
        }
    }
}

/// What was found; maps are this rank's bands.
pub struct Found {
    pub kinds: Vec<Kind>,
    /// By kind: the log odds that a pixel belongs to it, where it does; 0 elsewhere.
    pub odds: Vec<Array2<f32>>,
    /// Before any kind was found.
    pub surprise: Surprise,
}

/// Finds the kinds of anomaly in `sample`.
///
/// # Collective
/// # Errors
/// Residuals that are not finite.
pub fn find_kinds(sample: &Sample, basis: &Basis, setting: &Setting) -> Result<Found> {
    let none = || Array2::from_elem(sample.bands.shape(), false);
    let first = Surprise::new(sample, basis, setting, None);
    let mut search =
        Search { sample, basis, setting, taken: none(), explained: none(), kinds: Vec::new(), odds: Vec::new() };
    let mut renewed = None;
    for _ in 0..2 * MAX_KINDS {
        let surprise = renewed.as_ref().unwrap_or(&first);
        let Some(start) = surprise.start(sample.bands, &search.explained) else {
            break;
        };
        if search.try_start(start)? {
            if search.kinds.len() == MAX_KINDS {
                break;
            }
            renewed = Some(Surprise::new(sample, basis, setting, Some(&search.taken)));
        }
    }
    Ok(Found { kinds: search.kinds, odds: search.odds, surprise: first })
}

/// The state of a search; maps are this rank's bands.
struct Search<'a> {
    sample: &'a Sample<'a>,
    basis: &'a Basis,
    setting: &'a Setting,
    /// Pixels of a kind.
    taken: Array2<bool>,
    /// Pixels where no kind may start.
    explained: Array2<bool>,
    kinds: Vec<Kind>,
    odds: Vec<Array2<f32>>,
}

impl Search<'_> {
    /// Grows a kind from `start`; whether it is kept.
    ///
    /// # Collective
    fn try_start(&mut self, start: Start) -> Result<bool> {
        let bands = self.sample.bands;
        self.explain(&self.around(start.pixel, 1));
        let reach = self.reach(1);
        let alike = self.alike(start);
        let mut belief = self.disc_around(start);
        let mut unseen = union(&alike, &bands.dilated(&self.taken, reach));
        let mut kept: Option<Grown> = None;
        for _ in 0..=ROUNDS {
            let weights = self.setting.weights_without(Some(&unseen));
            if kept.is_some() && (bands.count(&weights) as f64) < LEAST_NORMAL * bands.num_valid as f64 {
                break;
            }
            let pixels = LeftOut::new(
                self.sample,
                self.setting.trust,
                &self.setting.discs[0],
                &weights,
                None,
                self.setting.guard,
            );
            let grown =
                grow(self.sample, self.basis, &pixels, start, &self.setting.discs[start.size], &belief, &self.taken)?;
            let Some(grown) = grown else { break };
            let inside = grown.odds.mapv(|odds| odds > 0.0);
            let area = bands.count(&inside);
            let (none, too_large) = (area == 0, self.is_too_large(area));
            unseen = bands.dilated(&union(&inside, &self.taken), reach);
            belief.assign(&grown.belief);
            kept = Some(grown);
            if none || too_large {
                break;
            }
        }
        let Some(grown) = kept else { return Ok(false) };
        self.keep(start, grown)
    }

    /// # Collective
    fn keep(&mut self, start: Start, grown: Grown) -> Result<bool> {
        let bands = self.sample.bands;
        let inside = sure_areas(bands, &grown.odds);
        let area = bands.count(&inside);
        if area == 0 {
            return Ok(false);
        }
        let Difference { window, family, shift_ev } = grown.describe(self.sample, self.basis)?;
        let window = &self.basis.windows()[window].name;
        if self.is_too_large(area) {
            if bands.comm.is_root() {
                log::info!(
                    "{window}: {area} of {} pixels differ alike: another phase, not an anomaly",
                    bands.num_valid
                );
            }
            return Ok(false);
        }
        let around = bands.dilated(&inside, self.reach(BLUR_PX));
        self.explain(&around);
        let is_related = self.kinds.iter().any(|kind| kind.window == *window && kind.family == family);
        let is_common = grown.prominence < LEAST_PROMINENCE && !is_related;
        let is_small = area as f64 <= SMALL_SHARE * bands.num_valid as f64;
        let factor = misfit_factor(if is_small { grown.prominence } else { 0.0 });
        let needed = needed(grown.variance, factor) * if is_common { MARGIN } else { 1.0 };
        let accepted = start.surprise >= needed;
        if bands.comm.is_root() {
            log::debug!(
                "{window}: start at {:?}, {:?}, size {}: {area} pixels, {:.1} sigma, surprise {:.2} of {needed:.2}, variance {:.1}, prominence {:.2}: {}",
                start.pixel,
                start.group,
                start.size,
                grown.mean.strength(),
                start.surprise,
                grown.variance,
                grown.prominence,
                if accepted { "kept" } else { "dropped" }
            );
        }
        if !accepted {
            return Ok(false);
        }
        self.taken = union(&self.taken, &inside);
        let odds = Zip::from(&grown.odds).and(&inside).map_collect(|&odds, &inside| if inside { odds } else { 0.0 });
        self.odds.push(odds);
        self.kinds.push(Kind {
            window: window.clone(),
            family,
            area_px: area,
            strength: grown.mean.strength(),
            shift_ev,
        });
        Ok(true)
    }

    /// The pixels whose residual points the way of the start's.
    ///
    /// # Collective
    fn alike(&self, start: Start) -> Array2<bool> {
        let bands = self.sample.bands;
        let weights = self.setting.weights_without(Some(&self.taken));
        let disc = &self.setting.discs[start.size];
        let pooled =
            LeftOut::new(self.sample, self.setting.trust, disc, &weights, Some(&self.taken), self.setting.guard);
        let [y, x] = start.pixel;
        let model = pooled.model(pooled.blocks.of(y, x));
        let residuals = pooled.residuals_by(&model);
        let own =
            bands.pixel(start.pixel, |i| residuals.values[i * residuals.dimensions..][..residuals.dimensions].to_vec());
        let own: Vec<f64> = own.into_iter().map(f64::from).collect();
        let along = |direction: &[f64]| -> f64 { direction.iter().zip(&own).map(|(d, v)| d * v).sum() };
        let direction = match start.group {
            Group::Any => own.clone(),
            Group::Edge { window, change } => {
                let templates = self.basis.templates.iter().zip(&self.sample.templates);
                let own_group =
                    templates.filter(|(template, _)| (template.window, template.change) == (window, change));
                let directions = own_group.map(|(_, residual)| {
                    let direction = model.direction(residual);
                    let sign = if along(&direction) < 0.0 { -1.0 } else { 1.0 };
                    let is_two_sided = change == super::basis::Change::Height;
                    if is_two_sided { direction.iter().map(|d| d * sign).collect() } else { direction }
                });
                let best = directions.max_by(|a: &Vec<f64>, b| along(a).total_cmp(&along(b)));
                best.expect("a group has templates")
            }
        };
        let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt().max(1e-12);
        let direction: Vec<f64> = direction.iter().map(|d| d / length).collect();
        let peak = along(&direction) as f32;
        let marks = bands.map(residuals.along(&direction)).mapv(|value| value > ALIKE * peak);
        let alike = bands.dilated(&marks, self.reach(1));
        if bands.count(&alike) as f64 <= MAX_ALIKE * bands.num_valid as f64 {
            return alike;
        }
        let is_guarded = self.setting.guard > 0 && !bands.is_line_scan();
        if is_guarded { self.around(start.pixel, NEAR_PX) } else { Array2::from_elem(bands.shape(), false) }
    }

    fn reach(&self, pixels: usize) -> [usize; 2] {
        if self.sample.bands.is_line_scan() { [0, pixels] } else { [pixels, pixels] }
    }

    /// The pixels within `reach` of `pixel`. Rank-local.
    fn around(&self, pixel: [usize; 2], reach: usize) -> Array2<bool> {
        let first = self.sample.bands.own().start;
        Array2::from_shape_fn(self.sample.bands.shape(), |(y, x)| {
            (first + y).abs_diff(pixel[0]) <= reach && x.abs_diff(pixel[1]) <= reach
        })
    }

    /// A belief in the pixels of the start's disc. Rank-local.
    fn disc_around(&self, start: Start) -> Array2<f32> {
        let first = self.sample.bands.own().start;
        let disc = &self.setting.discs[start.size];
        Array2::from_shape_fn(self.sample.bands.shape(), |(y, x)| {
            let from = ((first + y) as isize - start.pixel[0] as isize, x as isize - start.pixel[1] as isize);
            f32::from(u8::from(disc.offsets().contains(&from)))
        })
    }

    fn explain(&mut self, marks: &Array2<bool>) {
        self.explained = union(&self.explained, marks);
    }

    fn is_too_large(&self, area: usize) -> bool {
        area as f64 > MAX_SHARE * self.sample.bands.num_valid as f64
    }
}

/// By how much misfit has to be exceeded by a small kind of some prominence.
fn misfit_factor(prominence: f64) -> f64 {
    let reached = MISFIT_FACTORS.iter().rev().find(|(_, least)| prominence >= *least);
    reached.expect("the first is reached by all").0
}

/// What the surprise of a start has to be, if the projection on its kind varies by `variance` where nothing is anomalous.
///
/// Noise is Gaussian, and its share of the variance has to be exceeded as chance has it. The rest is misfit, which has to be
/// exceeded by a `factor` more.
fn needed(variance: f64, factor: f64) -> f64 {
    let noise = 1.0 / variance;
    (noise + (1.0 - noise) * factor * factor).sqrt()
}

/// The areas of positive log odds that hold a pixel that is sure.
///
/// # Collective
fn sure_areas(bands: &Bands, odds: &Array2<f32>) -> Array2<bool> {
    let [height, width] = bands.field();
    let own: Vec<f32> = odds.iter().copied().collect();
    let mut marks = vec![0u8; height * width];
    if let Some(whole) = bands.comm.gather_bands(&own) {
        let whole = Array2::from_shape_vec((height, width), whole).expect("a value for each pixel");
        let inside = whole.mapv(|odds| odds > 0.0);
        let (areas, labels) = regions(whole.view(), inside.view());
        let sure = |&label: &i32| u8::from(label > 0 && areas[label as usize - 1].max_score > SURE);
        marks = labels.iter().map(sure).collect();
    }
    bands.comm.broadcast_into(&mut marks);
    bands.own_part(&marks).mapv(|mark| mark > 0)
}

fn union(a: &Array2<bool>, b: &Array2<bool>) -> Array2<bool> {
    Zip::from(a).and(b).map_collect(|&a, &b| a || b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_alone_has_to_exceed_chance_and_misfit_more() {
        assert_eq!(needed(1.0, misfit_factor(0.0)), 1.0);
        assert!((needed(1e9, misfit_factor(1.0)) - 2.25).abs() < 1e-6);
        assert!(needed(2.0, 2.25) < needed(4.0, 2.25));
        assert_eq!(needed(4.0, misfit_factor(9.0)), 1.0);
    }
}
