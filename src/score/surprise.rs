//! How surprising each pixel is: statistics of its left-out residual over discs of four sizes, against what chance reaches.

use ndarray::Array2;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::basis::{Basis, Change};
use super::left_out::{LeftOut, Model, Residuals};
use super::quantile::quantiles;
use super::sample::Sample;
use super::setting::Setting;
use crate::bands::Bands;
use crate::spectrum::{MAD_OF_SD, Middle, median};

/// False starts in a cube of white noise.
const FALSE_STARTS: f64 = 0.02;
/// Both signs and the correlation between sizes and groups, as tests that each pixel and statistic stands for.
const TESTS: f64 = 6.0;
/// The least spread of a statistic: a covariance from few pixels may promise less noise than there is.
const LEAST_SPREAD: f64 = 0.5;
/// Pixels as near to the border are judged by the spread of their own.
const BORDER_PX: usize = 5;
const LEAST_BORDER_PIXELS: usize = 20;
/// Beyond so many standard deviations a chi-square's cube root is 84.13 % of the pixels.
const ONE_SIGMA: f64 = 0.8413;

/// What a statistic looks for. Its number is an index of all that are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Group {
    /// A change of the edge of a window.
    Edge { window: usize, change: Change },
    /// Any residual that is large.
    Any,
}

/// A pixel to grow a kind from.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub pixel: [usize; 2],
    /// The statistic in units of what chance reaches.
    pub surprise: f64,
    /// Index of the disc size.
    pub size: usize,
    pub group: Group,
}

/// The most surprising statistic of each pixel; maps are this rank's band, NaN where ignored.
pub struct Surprise {
    /// In units of what chance reaches somewhere in the cube.
    pub any: Array2<f32>,
    /// Of the statistics of heights, and of energies.
    pub heights: Array2<f32>,
    pub energies: Array2<f32>,
    /// Size and group of `any`.
    origin: Array2<u16>,
    groups: Vec<Group>,
}

impl Surprise {
    /// Of all pixels but `left_out`, by the rest of those with a weight in `setting`.
    ///
    /// # Collective
    pub fn new(sample: &Sample, basis: &Basis, setting: &Setting, left_out: Option<&Array2<bool>>) -> Surprise {
        let bands = sample.bands;
        let groups = groups(basis);
        let map = || Array2::from_elem(bands.shape(), f32::NAN);
        let mut found =
            Surprise { any: map(), heights: map(), energies: map(), origin: Array2::zeros(bands.shape()), groups };
        let weights = setting.weights_without(left_out);
        for (size, disc) in setting.discs.iter().enumerate() {
            let pooled = LeftOut::new(sample, setting.trust, disc, &weights, left_out, setting.guard);
            let models = pooled.models();
            let residuals = pooled.residuals(&models);
            let border = border_spread(bands, &residuals);
            let limit = found.limit(bands, &pooled, &models);
            let statistics = edge_statistics(sample, basis, &pooled, &models, &residuals, &border);
            for (index, group) in found.groups.clone().into_iter().enumerate() {
                let statistic = match group {
                    Group::Edge { .. } => &statistics[index],
                    Group::Any => &size_statistic(bands, &residuals, &border),
                };
                found.offer(statistic, limit, size * found.groups.len() + index, group);
            }
        }
        found
    }

    /// The most surprising pixel that is not `explained`, if chance does not reach it.
    ///
    /// # Collective
    pub fn start(&self, bands: &Bands, explained: &Array2<bool>) -> Option<Start> {
        let first = bands.own().start;
        let mut best: Option<(f32, [usize; 2], u16)> = None;
        for ((y, x), &surprise) in self.any.indexed_iter() {
            if surprise > best.map_or(1.0, |best| best.0) && !explained[[y, x]] {
                best = Some((surprise, [first + y, x], self.origin[[y, x]]));
            }
        }
        let mut of_all: Option<(f32, [usize; 2], u16)> = None;
        // Of equals the first pixel of the cube.
        for found in bands.comm.all_gather(&best).into_iter().flatten() {
            if of_all.is_none_or(|best| found.0 > best.0) {
                of_all = Some(found);
            }
        }
        let (surprise, pixel, origin) = of_all?;
        let (size, group) = (origin as usize / self.groups.len(), self.groups[origin as usize % self.groups.len()]);
        Some(Start { pixel, surprise: f64::from(surprise), size, group })
    }

    fn offer(&mut self, statistic: &[f32], limit: f64, origin: usize, group: Group) {
        let family = match group {
            Group::Edge { change: Change::Height, .. } => Some(&mut self.heights),
            Group::Edge { change: Change::Energy, .. } => Some(&mut self.energies),
            Group::Any => None,
        };
        let surprise = |value: f32| value / limit as f32;
        if let Some(family) = family {
            family.iter_mut().zip(statistic).for_each(|(best, &value)| *best = best.max(surprise(value)));
        }
        for ((best, from), &value) in self.any.iter_mut().zip(&mut self.origin).zip(statistic) {
            let value = surprise(value);
            // NaN is less than all.
            if best.is_nan() || value > *best {
                (*best, *from) = (value, origin as u16);
            }
        }
    }

    /// What chance reaches somewhere in the cube, in standard deviations.
    ///
    /// # Collective
    /// # Source
    /// Student's t: a spread that follows from few independent pixels is itself uncertain.
    fn limit(&self, bands: &Bands, pooled: &LeftOut, models: &[Option<Model>]) -> f64 {
        let misfit = median(misfit(bands, models), Middle::Upper);
        let (pixels, disc) = (bands.num_valid.max(1) as f64, pooled.disc.pixels() as f64);
        let freedom = (pixels / disc - misfit - 1.0).max(2.0);
        let tests = pixels * f64::min(1.0, 4.0 / disc) * (4 * self.groups.len()) as f64 * TESTS;
        let student = StudentsT::new(0.0, 1.0, freedom).expect("a distribution with at least two degrees of freedom");
        // From the lower tail, where small probabilities keep their digits.
        -student.inverse_cdf(FALSE_STARTS / tests)
    }
}

fn groups(basis: &Basis) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for template in &basis.templates {
        let group = Group::Edge { window: template.window, change: template.change };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups.push(Group::Any);
    groups
}

/// The number of directions of misfit that each block of the cube is judged with.
///
/// # Collective
fn misfit(bands: &Bands, models: &[Option<Model>]) -> Vec<f64> {
    let own: Vec<Option<u32>> = models.iter().map(|model| model.as_ref().map(|model| model.misfit as u32)).collect();
    let ranks = bands.comm.all_gather(&own);
    (0..models.len()).filter_map(|block| ranks.iter().find_map(|rank| rank[block])).map(f64::from).collect()
}

/// By group of edges: the largest statistic of its templates, in robust standard deviations.
///
/// # Collective
fn edge_statistics(
    sample: &Sample,
    basis: &Basis,
    pooled: &LeftOut,
    models: &[Option<Model>],
    residuals: &Residuals,
    border: &Border,
) -> Vec<Vec<f32>> {
    let bands = sample.bands;
    let groups = groups(basis);
    let mut best = vec![vec![f32::NAN; residuals.likelihood.len()]; groups.len() - 1];
    for (template, residual) in basis.templates.iter().zip(&sample.templates) {
        let directions: Vec<Option<Vec<f64>>> =
            models.iter().map(|model| model.as_ref().map(|model| model.direction(residual))).collect();
        let mut values = pooled.along(residuals, |block| directions[block].as_deref().expect("a model for each block"));
        border.divide(&mut values);
        let sizes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
        let spread = (quantiles(bands.comm, &sizes, &[0.5])[0] / MAD_OF_SD).max(LEAST_SPREAD);
        let group = Group::Edge { window: template.window, change: template.change };
        let index = groups.iter().position(|other| *other == group).expect("a group for each template");
        let statistics = if template.change == Change::Height { sizes } else { values };
        best[index].iter_mut().zip(statistics).for_each(|(best, value)| *best = best.max(value / spread as f32));
    }
    best
}

/// How far the size of each residual lies above the usual one, in robust standard deviations.
///
/// # Collective
/// # Source
/// Wilson & Hilferty, PNAS 17 (1931) 684: the cube root of a chi-square is nearly normal.
fn size_statistic(bands: &Bands, residuals: &Residuals, border: &Border) -> Vec<f32> {
    let mut roots: Vec<f32> =
        residuals.squares().iter().map(|square| (square / residuals.dimensions as f32).sqrt()).collect();
    border.divide(&mut roots);
    roots.iter_mut().for_each(|root| *root = (*root * *root).cbrt());
    let found = quantiles(bands.comm, &roots, &[0.5, ONE_SIGMA]);
    let (usual, sigma) = (found[0], (found[1] - found[0]).max(1e-9));
    roots.iter().map(|&root| ((f64::from(root) - usual) / sigma) as f32).collect()
}

/// How much more residuals vary near the border of the field than further in.
pub struct Border {
    /// By distance from the border; the last for all further in.
    spread: [f32; BORDER_PX + 1],
    distances: Vec<u8>,
}

impl Border {
    /// Divides `values`, one for each pixel of this rank.
    pub fn divide(&self, values: &mut [f32]) {
        values.iter_mut().zip(&self.distances).for_each(|(value, &d)| *value /= self.spread[d as usize]);
    }
}

/// # Collective
pub fn border_spread(bands: &Bands, residuals: &Residuals) -> Border {
    let [height, width] = bands.field();
    let own = bands.own();
    let of_size = |size: usize, i: usize| i.min(size - 1 - i);
    let distance = |y: usize, x: usize| match height {
        1 => of_size(width, x),
        _ => of_size(width, x).min(of_size(height, y)),
    };
    let pixels = own.flat_map(|y| (0..width).map(move |x| (y, x)));
    let distances: Vec<u8> = pixels.map(|(y, x)| distance(y, x).min(BORDER_PX) as u8).collect();
    let middle = |pixel: &[f32]| match pixel[0].is_nan() {
        true => f32::NAN,
        false => median(pixel.iter().map(|value| value.abs()), Middle::Upper) as f32,
    };
    let sizes: Vec<f32> = residuals.values.chunks(residuals.dimensions).map(middle).collect();
    // The median over pixels at a distance, and their number.
    let usual = |wanted: &dyn Fn(usize) -> bool| {
        let chosen = sizes.iter().zip(&distances).filter(|&(size, &d)| wanted(d as usize) && !size.is_nan());
        let chosen: Vec<f32> = chosen.map(|(&size, _)| size).collect();
        (quantiles(bands.comm, &chosen, &[0.5])[0], bands.comm.sum_u64(chosen.len() as u64) as usize)
    };
    let (inner, count) = usual(&|d| d == BORDER_PX);
    let reference = if count >= LEAST_BORDER_PIXELS { inner } else { usual(&|_| true).0 };
    let least = if height == 1 { 2 } else { 12 };
    let mut spread = [1f32; BORDER_PX + 1];
    for (d, spread) in spread.iter_mut().enumerate().take(BORDER_PX) {
        let (found, count) = usual(&|other| other == d);
        if count >= least && found.is_finite() && reference > 0.0 {
            *spread = (found / reference).max(1.0) as f32;
        }
    }
    Border { spread, distances }
}
