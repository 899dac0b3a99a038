//! The kinds of anomaly in a cube, found one after the other, each grown from its most surprising pixel.

use std::fmt;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Ix2, SliceInfo, SliceInfoElem, Zip, s};

use super::features::dot;
use super::line::{Family, LineFeatures};
use super::mean_field::mean_field;
use super::scan::Scan;
use super::seeds::Seeds;
use super::subspace::Subspace;
use crate::bands::{Bands, WithHalo};
use crate::comm::ExactSum;
use crate::cube::neighbourhood;

/// Seeds that chance makes in a normal map, on average.
const FALSE_SEEDS: f64 = 0.1;
/// A report shows no more kinds than this.
const MAX_KINDS: usize = 16;
/// Rounds of expectation and maximisation; most kinds converge in ten.
const MAX_ROUNDS: usize = 20;
/// A kind with a larger share of the pixels is another phase, not an anomaly.
const MAX_SHARE: f64 = 0.25;
/// Bands around a kind that may seed no other kind, because of its blur.
const BLUR: usize = 2;

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
    /// Posterior log odds that a pixel is anomalous, by family and for both together.
    pub odds: Odds,
    /// Which of `kinds` a pixel belongs to, from 1; 0 where it belongs to none.
    pub kind_of: Array2<f32>,
}

/// `[y, x]` each, NaN where a pixel is not valid.
pub struct Odds {
    pub shift: Array2<f32>,
    pub composition: Array2<f32>,
    pub combined: Array2<f32>,
}

/// Finds the kinds of anomaly in all `subspaces`, whose noise correlations it sets.
///
/// # Collective
pub fn find_kinds(bands: &Bands, lines: &[LineFeatures], subspaces: &mut [Subspace]) -> Result<Found> {
    let mut search = Search::new(bands, lines, subspaces)?;
    for _ in 0..MAX_KINDS {
        let Some((subspace, seed)) = search.seeds.next(bands) else {
            break;
        };
        let grown = search.grow(&subspaces[subspace], seed)?;
        search.keep(&subspaces[subspace], seed, grown);
    }
    Ok(search.finish())
}

/// The state of a search; maps are this rank's bands.
struct Search<'a> {
    bands: &'a Bands<'a>,
    lines: &'a [LineFeatures],
    seeds: Seeds,
    kinds: Vec<Kind>,
    /// The highest log odds so far of each family; `None` until it has a kind.
    odds: [Option<Array2<f32>>; 2],
    /// The highest log odds so far of either family, at least 0, and the kind that has them, from 1.
    highest: Array2<f32>,
    kind_of: Array2<f32>,
}

/// What has grown from a seed: the same on all ranks, but for the map, of which each has its band.
struct Grown {
    odds: Option<Array2<f32>>,
    area: usize,
    strength: f64,
    shift_ev: Option<(f64, f64)>,
}

impl<'a> Search<'a> {
    /// # Collective
    fn new(bands: &'a Bands, lines: &'a [LineFeatures], subspaces: &mut [Subspace]) -> Result<Search<'a>> {
        let tests = (subspaces.len() * Scan::num_tests()) as f64;
        let limit = (bands.num_valid as f64 * tests / FALSE_SEEDS).ln() as f32;
        let mut seeds = Seeds::none(bands.shape());
        for (index, subspace) in subspaces.iter_mut().enumerate() {
            let mut scan = Scan::new(bands);
            let along = |direction: &[f64]| bands.map(subspace.project(lines, direction));
            for coordinate in 0..subspace.dimensions() {
                let mut direction = vec![0.0; subspace.dimensions()];
                direction[coordinate] = 1.0;
                scan.coordinate(along(&direction))?;
            }
            for template in &subspace.templates {
                scan.template(along(template), subspace.templates.len());
            }
            let (surprise, noise_correlation) = scan.finish();
            subspace.noise_correlation = noise_correlation;
            seeds.offer(subspace.family, index, &surprise, limit);
        }
        Ok(Search {
            bands,
            lines,
            seeds,
            kinds: Vec::new(),
            odds: [None, None],
            highest: Array2::zeros(bands.shape()),
            kind_of: Array2::zeros(bands.shape()),
        })
    }

    /// Learns in turns the mean residual of the kind around `seed`, and which pixels show it.
    ///
    /// # Collective
    /// # Source
    /// Expectation-maximisation, Dempster, Laird & Rubin, J. R. Stat. Soc. B 39 (1977) 1, with the mean field for the
    /// expectation. The evidence of a pixel is its log likelihood ratio for a mean of `signature` against 0 in white
    /// noise.
    fn grow(&self, subspace: &Subspace, seed: [usize; 2]) -> Result<Grown> {
        let Bands { comm, .. } = *self.bands;
        let mut belief = Array2::zeros(self.bands.shape());
        belief.slice_mut(self.around(seed, 1)).fill(1f32);
        let mut grown = Grown { odds: None, area: 0, strength: 0.0, shift_ev: None };
        let mut before: Option<Array2<bool>> = None;
        let mut last = None;
        for _ in 0..MAX_ROUNDS {
            let total = self.total(&belief)?;
            if total < 0.5 {
                grown.area = 0;
                break;
            }
            let weights: Vec<f32> = belief.iter().copied().collect();
            let mean = subspace.mean(comm, self.lines, &weights, total)?;
            let signature = subspace.shrunk(&mean, total);
            let square = dot(&signature, &signature);
            let mut evidence = subspace.project(self.lines, &signature);
            // Neighbours share noise: their evidence is not independent.
            for value in &mut evidence {
                *value = ((f64::from(*value) - 0.5 * square) / subspace.noise_correlation) as f32;
            }
            let evidence = self.bands.map(evidence);
            let with_halo = |map: ArrayView2<f32>| self.bands.with_halo(map, 1);
            let odds = mean_field(evidence.view(), &mut belief, with_halo);
            let members = odds.mapv(|odds| odds > 0.0);
            let area = members.iter().filter(|&&inside| inside).count();
            grown.area = comm.sum_u64(area as u64) as usize;
            grown.odds = Some(odds);
            let has_converged = !comm.any(before.as_ref() != Some(&members));
            before = Some(members);
            grown.strength = square.sqrt();
            last = Some((mean, weights, total));
            if has_converged {
                break;
            }
        }
        if let Some((mean, weights, total)) = last {
            let position = subspace.position_ev(comm, self.lines, &weights, total)?;
            grown.shift_ev = subspace.shift_ev(&mean, total, position);
        }
        Ok(grown)
    }

    /// The sum of `belief` over all ranks.
    ///
    /// # Collective
    fn total(&self, belief: &Array2<f32>) -> Result<f64> {
        let mut sum = ExactSum::new(1, self.bands.num_valid.max(9) as f64);
        for line in belief.rows() {
            sum.add(&[line.iter().map(|&q| f64::from(q)).sum()]);
        }
        Ok(sum.total(self.bands.comm)?[0])
    }

    /// This rank's pixels within `reach` of a pixel of the cube, as a slice of its band of a map.
    fn around(&self, [y, x]: [usize; 2], reach: usize) -> Slice2 {
        let (band, (_, width)) = (self.bands.own(), self.bands.shape());
        let local = |y: usize| y.clamp(band.start, band.end) - band.start;
        s![local(y.saturating_sub(reach))..local(y + reach + 1), neighbourhood(x, reach, width)]
    }

    /// Keeps what has grown from `seed`, or drops it; either way no other kind starts there.
    ///
    /// # Collective
    fn keep(&mut self, subspace: &Subspace, seed: [usize; 2], grown: Grown) {
        let here = self.around(seed, 1);
        self.seeds.explained.slice_mut(here).fill(true);
        let Some(odds) = grown.odds.filter(|_| grown.area > 0) else {
            return;
        };
        let WithHalo { map, own } = self.bands.with_halo(odds.view(), BLUR);
        for ((y, x), _) in map.indexed_iter().filter(|&(_, &odds)| odds > 0.0) {
            // Lines of this rank, counted from its first.
            let local = |y: usize| y.clamp(own.start, own.end) - own.start;
            let blur = s![local(y.saturating_sub(BLUR))..local(y + BLUR + 1), neighbourhood(x, BLUR, map.ncols())];
            self.seeds.explained.slice_mut(blur).fill(true);
        }
        let window = subspace.window_name();
        if grown.area as f64 > MAX_SHARE * self.bands.num_valid as f64 {
            if self.bands.comm.is_root() {
                log::info!(
                    "{window}: {} of {} pixels differ alike: another phase, not flagged as an anomaly",
                    grown.area,
                    self.bands.num_valid
                );
            }
            return;
        }
        let number = self.kinds.len() + 1;
        let best = self.odds[subspace.family as usize]
            .get_or_insert_with(|| odds.mapv(|v| if v.is_nan() { v } else { f32::MIN }));
        Zip::from(best).and(&odds).for_each(|best, &odds| {
            if odds > *best {
                *best = odds;
            }
        });
        Zip::from(&mut self.highest).and(&mut self.kind_of).and(&odds).for_each(|highest, kind, &odds| {
            if odds > *highest {
                (*highest, *kind) = (odds, number as f32);
            }
        });
        self.kinds.push(Kind {
            window: window.into(),
            family: subspace.family,
            area_px: grown.area,
            strength: grown.strength,
            shift_ev: grown.shift_ev,
        });
    }

    fn finish(self) -> Found {
        // Where no kind was found the tests rank the pixels, all of them below even odds.
        let [shift, composition] = self
            .seeds
            .excess
            .map(|excess| excess.mapv_into(|excess| if excess.is_nan() { excess } else { excess.min(-f32::EPSILON) }));
        let [found_shift, found_composition] = self.odds;
        let combined = match (&found_shift, &found_composition) {
            (Some(a), Some(b)) => larger(a, b),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => larger(&shift, &composition),
        };
        Found {
            kinds: self.kinds,
            odds: Odds {
                shift: found_shift.unwrap_or(shift),
                composition: found_composition.unwrap_or(composition),
                combined,
            },
            kind_of: self.kind_of,
        }
    }
}

/// A slice of a map.
type Slice2 = SliceInfo<[SliceInfoElem; 2], Ix2, Ix2>;

fn larger(a: &Array2<f32>, b: &Array2<f32>) -> Array2<f32> {
    Zip::from(a).and(b).map_collect(|&a, &b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) })
}
