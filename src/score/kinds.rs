//! The kinds of anomaly in a cube, found one after the other, each from its most surprising pixel.

use std::fmt;

use anyhow::Result;
use ndarray::{s, Array2, Zip};

use super::features::dot;
use super::group::{Family, Group};
use super::line::{LineFeatures, LineScorer};
use super::pixels::Pixels;
use super::scan::Scan;
use super::settle::settle;

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
        write!(
            f,
            "{}: {area} pixels differ alike by {strength:.1} sigma each",
            self.window
        )?;
        match self.shift_ev {
            Some((shift, error)) => write!(f, ", the edge shifted by {shift:.2} +- {error:.2} eV"),
            None if self.family == Family::Shift => f.write_str(", the edge of another shape"),
            None => f.write_str(", the edge of another height"),
        }
    }
}

/// What was found; the maps are root's, `None` on the other ranks.
pub struct Found {
    pub kinds: Vec<Kind>,
    /// Log odds of each family, and of both, that a pixel is anomalous.
    pub odds: Option<Odds>,
    /// Which of `kinds` a pixel belongs to, from 1; 0 where it belongs to none.
    pub kind_of: Option<Array2<f32>>,
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
pub fn find_kinds(
    pixels: &Pixels,
    scorer: &LineScorer,
    lines: &[LineFeatures],
    groups: &mut [Group],
) -> Result<Found> {
    let mut search = Search::new(pixels, scorer, lines, groups);
    for _ in 0..MAX_KINDS {
        let start = search.start.as_ref().and_then(Starts::next);
        let Some((group, place)) = pixels.comm.broadcast(Some(start)) else {
            break;
        };
        let grown = search.grow(&groups[group], place)?;
        search.take(&groups[group], place, grown);
    }
    Ok(search.finish())
}

/// The state of a search; the maps are root's.
struct Search<'a> {
    pixels: &'a Pixels<'a>,
    scorer: &'a LineScorer,
    lines: &'a [LineFeatures],
    start: Option<Starts>,
    kinds: Vec<Kind>,
    /// Best log odds so far of each family; `None` until it has a kind.
    odds: [Option<Array2<f32>>; 2],
    /// Best log odds of either family so far, and of which kind, from 1.
    kind_of: Option<(Array2<f32>, Array2<f32>)>,
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

/// What became of a start, the same on all ranks but for the map, which is root's.
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
    ) -> Search<'a> {
        let tests = (groups.len() * Scan::num_tests()) as f64;
        let limit = (pixels.num_valid as f64 * tests / FALSE_STARTS).ln() as f32;
        let mut start = pixels.comm.is_root().then(|| Starts::none(pixels.size));
        for (index, group) in groups.iter_mut().enumerate() {
            let mut scan = pixels.comm.is_root().then(|| Scan::new(pixels.size));
            let mut show = |direction: &[f64], template: bool, count: usize| {
                let local = group.project(scorer, lines, direction);
                if let (Some(scan), Some(map)) = (&mut scan, pixels.gather(&local)) {
                    if template {
                        scan.template(map.view(), count);
                    } else {
                        scan.coordinate(map.view());
                    }
                }
            };
            for coordinate in 0..group.dimensions() {
                let mut direction = vec![0.0; group.dimensions()];
                direction[coordinate] = 1.0;
                show(&direction, false, 1);
            }
            for template in &group.templates {
                show(template, true, group.templates.len());
            }
            let scanned = scan.map(Scan::finish);
            let relation = scanned.as_ref().map(|(_, relation)| *relation);
            group.relation = pixels.comm.broadcast(relation);
            if let (Some(start), Some((surprise, _))) = (&mut start, scanned) {
                start.offer(group.family, index, &surprise, limit);
            }
        }
        Search {
            pixels,
            scorer,
            lines,
            start,
            kinds: Vec::new(),
            odds: [None, None],
            kind_of: pixels
                .comm
                .is_root()
                .then(|| (Array2::zeros(pixels.size), Array2::zeros(pixels.size))),
        }
    }

    /// Learns by turns what the kind that starts at `place` looks like, and which pixels show it.
    ///
    /// # Collective
    /// # Source
    /// Dempster, Laird & Rubin, J. R. Stat. Soc. B 39 (1977) 1, with the mean field in the place of the expectation.
    fn grow(&self, group: &Group, place: [usize; 2]) -> Result<Grown> {
        let Pixels { comm, .. } = *self.pixels;
        let mut belief = comm.is_root().then(|| {
            let mut belief = Array2::zeros(self.pixels.size);
            belief
                .slice_mut(around(place, 1, self.pixels.size))
                .fill(1f32);
            belief
        });
        let mut grown = Grown {
            odds: None,
            area: 0,
            strength: 0.0,
            shift_ev: None,
        };
        let mut before: Option<Array2<bool>> = None;
        let mut last = None;
        for _ in 0..MAX_ROUNDS {
            let total = belief
                .as_ref()
                .map(|map| map.iter().map(|&q| f64::from(q)).sum::<f64>());
            let total = comm.broadcast(total);
            if total < 0.5 {
                grown.area = 0;
                break;
            }
            let weights = self.pixels.share(belief.as_ref());
            let mean = group.mean(comm, self.scorer, self.lines, &weights, total)?;
            let look = group.believable(&mean, total);
            let square = dot(&look, &look);
            let mut evidence = group.project(self.scorer, self.lines, &look);
            // Noise that neighbours share is no evidence of its own.
            let shared = group.relation;
            for value in &mut evidence {
                *value = ((f64::from(*value) - 0.5 * square) / shared) as f32;
            }
            let gathered = self.pixels.gather(&evidence);
            let mut settled = None;
            if let (Some(evidence), Some(belief)) = (gathered, &mut belief) {
                let odds = settle(evidence.view(), belief);
                let now = odds.mapv(|odds| odds > 0.0);
                let area = now.iter().filter(|&&inside| inside).count();
                let same = before.as_ref() == Some(&now);
                before = Some(now);
                grown.odds = Some(odds);
                settled = Some((area, same));
            }
            let (area, same) = comm.broadcast(settled);
            grown.area = area;
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

    /// Keeps what was grown, or drops it; either way nothing starts there again.
    fn take(&mut self, group: &Group, place: [usize; 2], grown: Grown) {
        let size = self.pixels.size;
        if let Some(start) = &mut self.start {
            start.explained.slice_mut(around(place, 1, size)).fill(true);
            if let Some(odds) = grown.odds.as_ref().filter(|_| grown.area > 0) {
                for ((y, x), _) in odds.indexed_iter().filter(|(_, &odds)| odds > 0.0) {
                    let blur = around([y, x], BLUR, size);
                    start.explained.slice_mut(blur).fill(true);
                }
            }
        }
        let window = &self.scorer.scored_windows()[group.window].window.name;
        if grown.area == 0 {
            return;
        }
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
        let family = group.family as usize;
        let place = self.kinds.len() + 1;
        if let (Some(odds), Some((most, kind_of))) = (grown.odds, &mut self.kind_of) {
            let best = self.odds[family]
                .get_or_insert_with(|| odds.mapv(|v| if v.is_nan() { v } else { f32::MIN }));
            Zip::from(best).and(&odds).for_each(|best, &odds| {
                if odds > *best {
                    *best = odds;
                }
            });
            Zip::from(most)
                .and(kind_of)
                .and(&odds)
                .for_each(|most, kind, &odds| {
                    // Even odds are where `most` starts.
                    if odds > *most {
                        (*most, *kind) = (odds, place as f32);
                    }
                });
        }
        self.kinds.push(Kind {
            window: window.clone(),
            family: group.family,
            area_px: grown.area,
            strength: grown.strength,
            shift_ev: grown.shift_ev,
        });
    }

    fn finish(self) -> Found {
        let odds = self.start.map(|start| {
            let [shift, composition] = &start.excess;
            // Where no kind was found, the tests rank the pixels, all of them below even odds.
            let below = |excess: f32| {
                if excess.is_nan() {
                    excess
                } else {
                    excess.min(-f32::EPSILON)
                }
            };
            let chance = |map: &Array2<f32>| map.mapv(below);
            let [found_shift, found_composition] = self.odds;
            let combined = match (&found_shift, &found_composition) {
                (Some(a), Some(b)) => larger(a, b),
                (Some(only), None) | (None, Some(only)) => only.clone(),
                (None, None) => larger(&chance(shift), &chance(composition)),
            };
            Odds {
                shift: found_shift.unwrap_or_else(|| chance(shift)),
                composition: found_composition.unwrap_or_else(|| chance(composition)),
                combined,
            }
        });
        Found {
            kinds: self.kinds,
            odds,
            kind_of: self.kind_of.map(|(_, kind_of)| kind_of),
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
        let (excess, origin) = (
            &mut self.excess[family as usize],
            &mut self.origin[family as usize],
        );
        for ((excess, origin), &surprise) in excess.iter_mut().zip(origin).zip(surprise) {
            if surprise.is_nan() || surprise - limit > *excess {
                *excess = surprise - limit;
                *origin = group as u16;
            }
        }
    }

    /// The group and place of the most surprising pixel that nothing explains yet, if chance does not either.
    fn next(&self) -> Option<(usize, [usize; 2])> {
        let mut best: Option<(f32, usize, [usize; 2])> = None;
        for (excess, origin) in self.excess.iter().zip(&self.origin) {
            for ((y, x), &excess) in excess.indexed_iter() {
                let more = excess > best.map_or(0.0, |best| best.0);
                if more && !self.explained[[y, x]] {
                    best = Some((excess, origin[[y, x]] as usize, [y, x]));
                }
            }
        }
        best.map(|(_, group, place)| (group, place))
    }
}

/// The pixels within `reach` of a place, as a slice of a map.
fn around(
    [y, x]: [usize; 2],
    reach: usize,
    (height, width): (usize, usize),
) -> ndarray::SliceInfo<[ndarray::SliceInfoElem; 2], ndarray::Ix2, ndarray::Ix2> {
    s![
        y.saturating_sub(reach)..(y + reach + 1).min(height),
        x.saturating_sub(reach)..(x + reach + 1).min(width)
    ]
}

fn larger(a: &Array2<f32>, b: &Array2<f32>) -> Array2<f32> {
    Zip::from(a).and(b).map_collect(|&a, &b| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            a.max(b)
        }
    })
}
