//! The kinds of anomaly in a cube, found one after the other, each from its most surprising pixel.

use std::fmt;

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Ix2, SliceInfo, SliceInfoElem, Zip, s};

use super::features::dot;
use super::group::{Family, Group};
use super::line::{LineFeatures, LineScorer};
use super::mean_field::mean_field;
use super::pixels::{Pixels, WithHalo};
use super::scan::Scan;
use crate::comm::ExactSum;

/// Normal maps in which chance starts a kind, on average.
const FALSE_STARTS: f64 = 0.1;
/// More kinds than a report can show.
const MAX_KINDS: usize = 16;
/// Rounds of learning what a kind looks like and where it is; most settle in ten.
const MAX_ROUNDS: usize = 20;
/// A kind that holds more of the pixels than this is another phase, not an anomaly.
const MAX_SHARE: f64 = 0.25;
/// Pixels around a kind in which its blur may start no other.
const BLUR: usize = 2;

/// One kind of anomaly: pixels whose residuals are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// Name of the window in which it shows.
    pub window: String,
    pub family: Family,
    pub area_px: usize,
    /// Length of its residual in units of one pixel's noise.
    pub strength: f64,
    /// Where the edge only moved: by how much, and the standard error, eV.
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

/// What was found; maps are this rank's part.
pub struct Found {
    pub kinds: Vec<Kind>,
    /// Log odds of each family, and of both, that a pixel is anomalous.
    pub odds: Odds,
    /// Which of `kinds` a pixel belongs to, from 1; 0 where it belongs to none.
    pub kind_of: Array2<f32>,
}

/// `[y, x]` each, NaN where a pixel does not count.
pub struct Odds {
    pub shift: Array2<f32>,
    pub composition: Array2<f32>,
    pub combined: Array2<f32>,
}

/// Looks for kinds of anomaly in all `groups`.
///
/// # Collective
pub fn find_kinds(pixels: &Pixels, scorer: &LineScorer, lines: &[LineFeatures], groups: &mut [Group]) -> Result<Found> {
    let mut search = Search::new(pixels, scorer, lines, groups)?;
    for _ in 0..MAX_KINDS {
        let Some((group, place)) = search.start.next(pixels) else {
            break;
        };
        let grown = search.grow(&groups[group], place)?;
        search.take(&groups[group], place, grown);
    }
    Ok(search.finish())
}

/// The state of a search; maps are this rank's part.
struct Search<'a> {
    pixels: &'a Pixels<'a>,
    scorer: &'a LineScorer,
    lines: &'a [LineFeatures],
    start: Starts,
    kinds: Vec<Kind>,
    /// Best log odds so far of each family; `None` until it has a kind.
    odds: [Option<Array2<f32>>; 2],
    /// Best log odds of either family so far, and of which kind, from 1.
    most: Array2<f32>,
    kind_of: Array2<f32>,
}

/// Where a kind may start.
struct Starts {
    /// What the family's best test says of each pixel, `-ln p`, less what chance reaches somewhere in the map.
    excess: [Array2<f32>; 2],
    /// The group of that test.
    origin: [Array2<u16>; 2],
    /// Belongs to a kind or its blur.
    explained: Array2<bool>,
}

/// What became of a start, the same on all ranks but for the map, of which each has its part.
struct Grown {
    odds: Option<Array2<f32>>,
    area: usize,
    strength: f64,
    shift_ev: Option<(f64, f64)>,
}

impl<'a> Search<'a> {
    /// # Collective
    fn new(
        pixels: &'a Pixels,
        scorer: &'a LineScorer,
        lines: &'a [LineFeatures],
        groups: &mut [Group],
    ) -> Result<Search<'a>> {
        let tests = (groups.len() * Scan::num_tests()) as f64;
        let limit = (pixels.num_valid as f64 * tests / FALSE_STARTS).ln() as f32;
        let mut start = Starts::none(pixels.shape());
        for (index, group) in groups.iter_mut().enumerate() {
            let mut scan = Scan::new(pixels);
            let along = |direction: &[f64]| pixels.map(group.project(scorer, lines, direction));
            for coordinate in 0..group.dimensions() {
                let mut direction = vec![0.0; group.dimensions()];
                direction[coordinate] = 1.0;
                scan.coordinate(along(&direction))?;
            }
            for template in &group.templates {
                scan.template(along(template), group.templates.len());
            }
            let (surprise, relation) = scan.finish();
            group.relation = relation;
            start.offer(group.family, index, &surprise, limit);
        }
        Ok(Search {
            pixels,
            scorer,
            lines,
            start,
            kinds: Vec::new(),
            odds: [None, None],
            most: Array2::zeros(pixels.shape()),
            kind_of: Array2::zeros(pixels.shape()),
        })
    }

    /// Learns by turns what the kind that starts at `place` looks like, and which pixels show it.
    ///
    /// # Collective
    /// # Source
    /// Dempster, Laird & Rubin, J. R. Stat. Soc. B 39 (1977) 1, with the mean field in the place of the expectation.
    fn grow(&self, group: &Group, place: [usize; 2]) -> Result<Grown> {
        let Pixels { comm, .. } = *self.pixels;
        let mut belief = Array2::zeros(self.pixels.shape());
        belief.slice_mut(self.around(place, 1)).fill(1f32);
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
            let mean = group.mean(comm, self.scorer, self.lines, &weights, total)?;
            let look = group.believable(&mean, total);
            let square = dot(&look, &look);
            let mut evidence = group.project(self.scorer, self.lines, &look);
            // Noise that neighbours share is no evidence of its own.
            let shared = group.relation;
            for value in &mut evidence {
                *value = ((f64::from(*value) - 0.5 * square) / shared) as f32;
            }
            let evidence = self.pixels.map(evidence);
            let beside = |map: ArrayView2<f32>| self.pixels.beside(map, 1);
            let odds = mean_field(evidence.view(), &mut belief, beside);
            let now = odds.mapv(|odds| odds > 0.0);
            let area = now.iter().filter(|&&inside| inside).count();
            grown.area = comm.sum_u64(area as u64) as usize;
            grown.odds = Some(odds);
            let same = !comm.any(before.as_ref() != Some(&now));
            before = Some(now);
            grown.strength = square.sqrt();
            last = Some((mean, weights, total));
            if same {
                break;
            }
        }
        if let Some((mean, weights, total)) = last {
            let position = group.position_ev(comm, self.lines, &weights, total)?;
            grown.shift_ev = group.shift_ev(&mean, total, position);
        }
        Ok(grown)
    }

    /// The sum of `belief` over all ranks.
    ///
    /// # Collective
    fn total(&self, belief: &Array2<f32>) -> Result<f64> {
        let mut sum = ExactSum::new(1, self.pixels.num_valid.max(9) as f64);
        for line in belief.rows() {
            sum.add(&[line.iter().map(|&q| f64::from(q)).sum()]);
        }
        Ok(sum.total(self.pixels.comm)?[0])
    }

    /// This rank's pixels within `reach` of a place of the cube, as a slice of its part of a map.
    fn around(&self, [y, x]: [usize; 2], reach: usize) -> Window {
        let (band, (_, width)) = (self.pixels.band(), self.pixels.shape());
        let local = |y: usize| y.clamp(band.start, band.end) - band.start;
        s![local(y.saturating_sub(reach))..local(y + reach + 1), x.saturating_sub(reach)..(x + reach + 1).min(width)]
    }

    /// Keeps what was grown, or drops it; either way nothing starts there again.
    ///
    /// # Collective
    fn take(&mut self, group: &Group, place: [usize; 2], grown: Grown) {
        let here = self.around(place, 1);
        self.start.explained.slice_mut(here).fill(true);
        let Some(odds) = grown.odds.filter(|_| grown.area > 0) else {
            return;
        };
        let WithHalo { map, own } = self.pixels.beside(odds.view(), BLUR);
        for ((y, x), _) in map.indexed_iter().filter(|&(_, &odds)| odds > 0.0) {
            // Lines of this rank's, from its first.
            let local = |y: usize| y.clamp(own.start, own.end) - own.start;
            let blur = s![
                local(y.saturating_sub(BLUR))..local(y + BLUR + 1),
                x.saturating_sub(BLUR)..(x + BLUR + 1).min(map.ncols())
            ];
            self.start.explained.slice_mut(blur).fill(true);
        }
        let window = &self.scorer.scored_windows()[group.window].window.name;
        if grown.area as f64 > MAX_SHARE * self.pixels.num_valid as f64 {
            if self.pixels.comm.is_root() {
                log::info!(
                    "{window}: {} of {} pixels differ alike: another phase, not flagged as an anomaly",
                    grown.area,
                    self.pixels.num_valid
                );
            }
            return;
        }
        let place = self.kinds.len() + 1;
        let best = self.odds[group.family as usize]
            .get_or_insert_with(|| odds.mapv(|v| if v.is_nan() { v } else { f32::MIN }));
        Zip::from(best).and(&odds).for_each(|best, &odds| {
            if odds > *best {
                *best = odds;
            }
        });
        Zip::from(&mut self.most).and(&mut self.kind_of).and(&odds).for_each(|most, kind, &odds| {
            // Even odds are where `most` starts.
            if odds > *most {
                (*most, *kind) = (odds, place as f32);
            }
        });
        self.kinds.push(Kind {
            window: window.clone(),
            family: group.family,
            area_px: grown.area,
            strength: grown.strength,
            shift_ev: grown.shift_ev,
        });
    }

    fn finish(self) -> Found {
        // Where no kind was found, the tests rank the pixels, all of them below even odds.
        let [shift, composition] = self
            .start
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

impl Starts {
    fn none(size: (usize, usize)) -> Starts {
        Starts {
            excess: [(); 2].map(|_| Array2::from_elem(size, f32::MIN)),
            origin: [(); 2].map(|_| Array2::zeros(size)),
            explained: Array2::from_elem(size, false),
        }
    }

    /// Takes in the tests of one more group.
    fn offer(&mut self, family: Family, group: usize, surprise: &Array2<f32>, limit: f32) {
        let (excess, origin) = (&mut self.excess[family as usize], &mut self.origin[family as usize]);
        for ((excess, origin), &surprise) in excess.iter_mut().zip(origin).zip(surprise) {
            if surprise.is_nan() || surprise - limit > *excess {
                *excess = surprise - limit;
                *origin = group as u16;
            }
        }
    }

    /// The group and place in the cube of the most surprising pixel that nothing explains yet, if chance does not either.
    ///
    /// # Collective
    fn next(&self, pixels: &Pixels) -> Option<(usize, [usize; 2])> {
        let first = pixels.band().start;
        let best_here = |family: usize| {
            let mut best: Option<(f32, usize, [usize; 2])> = None;
            for ((y, x), &excess) in self.excess[family].indexed_iter() {
                let more = excess > best.map_or(0.0, |best| best.0);
                if more && !self.explained[[y, x]] {
                    let group = self.origin[family][[y, x]] as usize;
                    best = Some((excess, group, [first + y, x]));
                }
            }
            best
        };
        let ranks = pixels.comm.all_gather(&[0, 1].map(best_here));
        let mut best: Option<(f32, usize, [usize; 2])> = None;
        // Of equals the first family's, and the first of the cube's.
        for family in [0, 1] {
            for found in ranks.iter().filter_map(|rank| rank[family]) {
                if best.is_none_or(|best| found.0 > best.0) {
                    best = Some(found);
                }
            }
        }
        best.map(|(_, group, place)| (group, place))
    }
}

/// A slice of a map.
type Window = SliceInfo<[SliceInfoElem; 2], Ix2, Ix2>;

fn larger(a: &Array2<f32>, b: &Array2<f32>) -> Array2<f32> {
    Zip::from(a).and(b).map_collect(|&a, &b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) })
}
