//! The residuals of one window in which one family of anomalies shows, whitened.

use anyhow::Result;

use super::covariance::{Columns, Whitening};
use super::features::dot;
use super::line::{Family, LineFeatures, LineScorer};
use super::templates::{EdgeProfile, SHIFTS_EV};
use crate::comm::{Comm, ExactSum};

/// Step and range of the search for the shift of a kind, eV.
const SHIFT_STEP_EV: f64 = 0.05;
const MAX_SHIFT_EV: f64 = 15.0;
/// An edge shifted further would leave its window: what looks so has another shape.
const FARTHEST_EV: f64 = 13.0;
/// Standard error of the position of an edge between channels, besides noise, in channels (the rms of the estimates of
/// `configs/experiments/e1_shift_phys.yaml`, where there is little noise).
const POSITION_ERROR: f64 = 0.07;
/// Prior standard deviation of the share of an edge that moved about 1: the model has followed some of it, and
/// thickness varies.
const MOVED_SHARE_SD: f64 = 0.2;
/// A shift that explains a smaller share of a kind's residual, noise aside, is another change of shape.
const LEAST_EXPLAINED: f64 = 0.5;

/// The features of one window and family, in whitened coordinates.
pub struct Subspace<'a> {
    scorer: &'a LineScorer,
    /// The index of the window.
    window: usize,
    pub family: Family,
    start: usize,
    len: usize,
    whitening: Whitening,
    edge: EdgeProfile<'a>,
    /// Unit vectors in whitened coordinates: the residuals that known anomalies would leave.
    pub templates: Vec<Vec<f64>>,
    /// Sum of the noise's correlations between a pixel and those around it, itself included: 1 for white noise.
    pub noise_correlation: f64,
}

impl<'a> Subspace<'a> {
    /// Measures the whitening of the family's columns in `window`, and prepares its templates.
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
    ) -> Result<Subspace<'a>> {
        let scored = &scorer.scored_windows()[window];
        let range = scored.columns(family);
        let columns = columns(scorer, lines, range.start, range.len()).at_most_for(num_valid);
        let whitening = Whitening::trimmed(comm, &columns)?;
        let mut subspace = Subspace {
            scorer,
            window,
            family,
            start: range.start,
            len: columns.len(),
            whitening,
            edge: EdgeProfile::new(scorer.energy(), scored, mean),
            templates: Vec::new(),
            noise_correlation: 1.0,
        };
        let templates: Vec<Vec<f64>> = match family {
            Family::Shift => SHIFTS_EV
                .iter()
                .flat_map(|&shift| [-shift, shift])
                .map(|shift| subspace.whitened(subspace.edge.moved(0.0, shift)))
                .collect(),
            Family::Composition => {
                let more = subspace.whitened(subspace.edge.higher());
                vec![more.iter().map(|v| -v).collect(), more]
            }
        };
        subspace.templates = templates.into_iter().filter_map(unit).collect();
        Ok(subspace)
    }

    /// The name of the window.
    pub fn window_name(&self) -> &str {
        &self.scorer.scored_windows()[self.window].window.name
    }

    /// Number of whitened coordinates.
    pub fn dimensions(&self) -> usize {
        self.whitening.dimensions()
    }

    /// The coordinate of this rank's pixels along `direction`, NaN where they are not valid. Rank-local.
    pub fn project(&self, lines: &[LineFeatures], direction: &[f64]) -> Vec<f32> {
        let (weights, offset) = self.whitening.along(direction);
        columns(self.scorer, lines, self.start, self.len).map(|pixel| {
            let sum: f64 = pixel.iter().zip(&weights).map(|(&v, w)| f64::from(v) * w).sum();
            (sum - offset) as f32
        })
    }

    /// The weighted mean of all pixels' whitened coordinates; this rank's `weights` sum to `total` over all ranks.
    ///
    /// # Collective
    pub fn mean(&self, comm: &Comm, lines: &[LineFeatures], weights: &[f32], total: f64) -> Result<Vec<f64>> {
        let sums = columns(self.scorer, lines, self.start, self.len).weighted_sum(comm, weights)?;
        let means: Vec<f32> = sums.iter().map(|sum| (sum / total) as f32).collect();
        Ok(self.whitening.pixel(&means))
    }

    /// The weighted mean shift of the window's edge in the lines of the pixels, eV above its position in the mean
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

    /// The mean residual `mean` of `pixels` pixels, shrunk towards its best template: the part along the template
    /// stays, the rest is shrunk by the noise that it is expected to hold.
    ///
    /// # Source
    /// James & Stein, Proc. 4th Berkeley Symp. 1 (1961) 361, positive part, about the template.
    pub fn shrunk(&self, mean: &[f64], pixels: f64) -> Vec<f64> {
        let along = |template: &&Vec<f64>| dot(template, mean);
        let best = self.templates.iter().max_by(|a, b| along(a).total_cmp(&along(b)));
        let (amount, template) = match best {
            Some(template) => (along(&template).max(0.0), template.clone()),
            None => (0.0, vec![0.0; mean.len()]),
        };
        let rest: Vec<f64> = mean.iter().zip(&template).map(|(m, t)| m - amount * t).collect();
        let noise = (mean.len() as f64 - 1.0) * self.noise_correlation / pixels;
        let kept = (1.0 - noise / dot(&rest, &rest).max(1e-12)).max(0.0);
        rest.iter().zip(&template).map(|(r, t)| amount * t + kept * r).collect()
    }

    /// The shift of the edge (eV) that explains `mean`, the mean residual of `pixels` pixels, best, and its standard
    /// error; `None` for other families, and where no shift explains enough.
    ///
    /// `at_ev` is how much higher the edge lies there anyway, because lines drift. A small shift shows in the size of
    /// its residual, not in its shape: a prior therefore says that nearly all of the edge has moved.
    ///
    /// # Source
    /// Profile likelihood over the shift, with a normal prior on the share that moved. The standard error is where
    /// twice the log likelihood has fallen by 1, added in squares to that of positions between channels.
    pub fn shift_ev(&self, mean: &[f64], pixels: f64, at_ev: f64) -> Option<(f64, f64)> {
        if self.family != Family::Shift {
            return None;
        }
        let weight = pixels / self.noise_correlation;
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
        let signal = weight * dot(mean, mean) - mean.len() as f64;
        if best.1 <= f64::max(1.0, LEAST_EXPLAINED * signal) || best.0.abs() > FARTHEST_EV {
            return None;
        }
        let near = profile.iter().filter(|p| p.1 >= best.1 - 1.0 && p.0.signum() == best.0.signum());
        let farthest = near.map(|p| (p.0 - best.0).abs()).fold(0.0, f64::max);
        let position_error = POSITION_ERROR * self.edge.scale_ev;
        Some((best.0, farthest.max(0.5 * SHIFT_STEP_EV).hypot(position_error)))
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

/// `vector` scaled to length 1; `None` where it is zero but for rounding.
fn unit(vector: Vec<f64>) -> Option<Vec<f64>> {
    let length = dot(&vector, &vector).sqrt();
    (length > 1e-9 && length.is_finite()).then(|| vector.iter().map(|v| v / length).collect())
}
