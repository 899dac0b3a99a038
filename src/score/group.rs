//! The residuals of one window as one family of anomalies shows in them, in coordinates of unit noise.

use anyhow::Result;

use super::covariance::{Columns, Whitening};
use super::features::dot;
use super::line::{LineFeatures, LineScorer};
use super::templates::{EdgeProfile, SHIFTS_EV};
use crate::comm::{Comm, ExactSum};

/// What sort of anomaly a group looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// An edge at another energy or of another fine structure: amounts and backgrounds do not count.
    Shift,
    /// An edge of another height.
    Composition,
}

/// Steps of the search for a kind's shift, eV, and how far it goes.
const SHIFT_STEP_EV: f64 = 0.05;
const MAX_SHIFT_EV: f64 = 15.0;
/// An edge that moved further would leave its window: what looks so is of another shape.
const FARTHEST_EV: f64 = 13.0;
/// Of a channel: how well an edge that is as sharp as a channel is wide can be placed, beside noise (rms of the estimates
/// of `configs/experiments/e1_shift_phys.yaml`, where noise counts for little).
const PLACING: f64 = 0.07;
/// By which the share of an edge that moved is off 1: the model has followed some of it, and thickness varies.
const MOVED_SHARE_SD: f64 = 0.2;

/// Of what a kind's residual holds beside noise: a shift that explains less is another change of shape.
const LEAST_EXPLAINED: f64 = 0.5;

/// One window and family.
pub struct Group<'a> {
    pub window: usize,
    pub family: Family,
    start: usize,
    len: usize,
    whitening: Whitening,
    edge: EdgeProfile<'a>,
    /// Unit vectors in whitened coordinates: what is looked for by name.
    pub templates: Vec<Vec<f64>>,
    /// How many pixels' worth of noise a pixel shares with those around it; 1 for white noise.
    pub relation: f64,
}

impl<'a> Group<'a> {
    /// Measures the noise of the family's columns of `window` and prepares its templates.
    ///
    /// `mean` is the cube's mean reconstruction (`[E]` counts).
    ///
    /// # Collective
    pub fn new(
        comm: &Comm,
        scorer: &'a LineScorer,
        lines: &[LineFeatures],
        (window, family): (usize, Family),
        mean: &'a [f64],
        num_valid: u64,
    ) -> Result<Group<'a>> {
        let scored = &scorer.scored_windows()[window];
        let range = match family {
            Family::Shift => &scored.shift_columns,
            Family::Composition => &scored.composition_columns,
        };
        let columns = columns(scorer, lines, range.start, range.len()).at_most_for(num_valid);
        let whitening = Whitening::trimmed(comm, &columns)?;
        let mut group = Group {
            window,
            family,
            start: range.start,
            len: columns.len(),
            whitening,
            edge: EdgeProfile::new(scorer.energy(), scored, mean),
            templates: Vec::new(),
            relation: 1.0,
        };
        let templates: Vec<Vec<f64>> = match family {
            Family::Shift => SHIFTS_EV
                .iter()
                .flat_map(|&shift| [-shift, shift])
                .map(|shift| group.whitened(group.edge.moved(0.0, shift)))
                .collect(),
            Family::Composition => {
                let more = group.whitened(group.edge.higher());
                vec![more.iter().map(|v| -v).collect(), more]
            }
        };
        group.templates = templates.into_iter().filter_map(unit).collect();
        Ok(group)
    }

    /// Number of whitened coordinates.
    pub fn dimensions(&self) -> usize {
        self.whitening.dimensions()
    }

    /// This rank's pixels along `direction`, NaN where they do not count. Rank-local.
    pub fn project(&self, scorer: &LineScorer, lines: &[LineFeatures], direction: &[f64]) -> Vec<f32> {
        let (weights, offset) = self.whitening.along(direction);
        columns(scorer, lines, self.start, self.len).map(|pixel| {
            let sum: f64 = pixel.iter().zip(&weights).map(|(&v, w)| f64::from(v) * w).sum();
            (sum - offset) as f32
        })
    }

    /// The mean of all pixels' whitened coordinates, weighted by this rank's `weights`, which sum to `total` over ranks.
    ///
    /// # Collective
    pub fn mean(
        &self,
        comm: &Comm,
        scorer: &LineScorer,
        lines: &[LineFeatures],
        weights: &[f32],
        total: f64,
    ) -> Result<Vec<f64>> {
        let sums = columns(scorer, lines, self.start, self.len).weighted_sum(comm, weights)?;
        let means: Vec<f32> = sums.iter().map(|sum| (sum / total) as f32).collect();
        Ok(self.whitening.pixel(&means))
    }

    /// Where the window's edge lies in the lines of the pixels that `weights` mean, eV above its place in the mean
    /// spectrum.
    ///
    /// # Collective
    pub fn position_ev(&self, comm: &Comm, lines: &[LineFeatures], weights: &[f32], total: f64) -> Result<f64> {
        let mut sum = ExactSum::new(1, total.max(1.0) * 4.0 * MAX_SHIFT_EV);
        let mut first = 0;
        for line in lines {
            let own = &weights[first..first + line.valid.len()];
            first += own.len();
            let weight: f64 = own.iter().map(|&weight| f64::from(weight)).sum();
            sum.add(&[weight * f64::from(line.position_ev[self.window])]);
        }
        Ok(sum.total(comm)?[0] / total)
    }

    /// What is believable of a mean residual `mean` of `pixels` pixels: its part along the best template whole, the rest
    /// less what noise would leave of it.
    ///
    /// # Source
    /// James & Stein, Proc. 4th Berkeley Symp. 1 (1961) 361, positive part, about the template.
    pub fn believable(&self, mean: &[f64], pixels: f64) -> Vec<f64> {
        let along = |template: &&Vec<f64>| dot(template, mean);
        let best = self.templates.iter().max_by(|a, b| along(a).total_cmp(&along(b)));
        let (amount, template) = match best {
            Some(template) => (along(&template).max(0.0), template.clone()),
            None => (0.0, vec![0.0; mean.len()]),
        };
        let rest: Vec<f64> = mean.iter().zip(&template).map(|(m, t)| m - amount * t).collect();
        let noise = (mean.len() as f64 - 1.0) * self.relation / pixels;
        let kept = (1.0 - noise / dot(&rest, &rest).max(1e-12)).max(0.0);
        rest.iter().zip(&template).map(|(r, t)| amount * t + kept * r).collect()
    }

    /// The shift of the edge (eV) that explains `mean`, the mean residual of `pixels` pixels, best, and its standard
    /// error; `None` for other families and where no shift explains anything.
    ///
    /// `at_ev`: by how much higher the edge lies there anyway, as lines drift.
    ///
    /// A small shift shows in the size of its residual, not in the shape: nearly all of an edge is taken to have moved.
    ///
    /// # Source
    /// Profile likelihood over the shift, with a normal prior of the share that moved; the error is where twice its
    /// logarithm has fallen by 1, and that of placing an edge between channels, added in squares.
    pub fn shift_ev(&self, mean: &[f64], pixels: f64, at_ev: f64) -> Option<(f64, f64)> {
        if self.family != Family::Shift {
            return None;
        }
        let weight = pixels / self.relation;
        let certainty = MOVED_SHARE_SD.powi(-2);
        let steps = (MAX_SHIFT_EV / SHIFT_STEP_EV) as i64;
        let profile: Vec<(f64, f64)> = (-steps..=steps)
            .map(|step| {
                let shift = step as f64 * SHIFT_STEP_EV;
                let moved = self.whitened(self.edge.moved(at_ev, shift));
                let (along, square) = (dot(&moved, mean), dot(&moved, &moved));
                let share = (weight * along + certainty) / (weight * square + certainty);
                let explained = weight * share * (2.0 * along - share * square);
                (shift, explained - certainty * (share - 1.0).powi(2))
            })
            .collect();
        let best = profile.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let beside_noise = weight * dot(mean, mean) - mean.len() as f64;
        if best.1 <= f64::max(1.0, LEAST_EXPLAINED * beside_noise) || best.0.abs() > FARTHEST_EV {
            return None;
        }
        let near = profile.iter().filter(|p| p.1 >= best.1 - 1.0 && p.0.signum() == best.0.signum());
        let farthest = near.map(|p| (p.0 - best.0).abs()).fold(0.0, f64::max);
        let placing = PLACING * self.edge.scale_ev;
        Some((best.0, farthest.max(0.5 * SHIFT_STEP_EV).hypot(placing)))
    }

    fn whitened(&self, mut coefficients: Vec<f64>) -> Vec<f64> {
        coefficients.truncate(self.len);
        self.whitening.direction(&coefficients)
    }
}

fn columns<'b>(scorer: &LineScorer, lines: &'b [LineFeatures], start: usize, len: usize) -> Columns<'b> {
    let values = lines.iter().map(|line| line.columns.as_slice()).collect();
    Columns::new(values, scorer.num_columns(), start, len)
}

/// `vector` at length 1; `None` where it has next to none.
fn unit(vector: Vec<f64>) -> Option<Vec<f64>> {
    let length = dot(&vector, &vector).sqrt();
    (length > 1e-9 && length.is_finite()).then(|| vector.iter().map(|v| v / length).collect())
}
