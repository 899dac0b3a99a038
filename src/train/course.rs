//! The course of a training: cycles of the learning rate, until another one no longer helps.
//!
//! The first cycle is as long as [`TrainingLength::steps`], each further one twice as long as the one before, within
//! [`TrainingLength::most`]. After each the network is judged by pixels that it was not trained on; the weights of the best
//! cycle are kept.

use serde::{Deserialize, Serialize};

use crate::config::TrainingLength;

/// Nats a pixel by which another cycle must have improved the network for one more to be taken.
const IMPROVED: f64 = 0.2;
/// Nats a pixel by which the held-out loss may be above that of the cycle before, halfway through a cycle, for it to go on.
const HOPELESS: f64 = 2.0;
/// The share of the first cycle after which a network is looked at whether it has collapsed.
const LOOKED_AT: f64 = 0.5;
/// Steps before which a network has not collapsed but hardly begun.
const LEAST_AGE: usize = 100;
/// A network whose latent code carries less, nats a pixel, has collapsed to the mean spectrum.
const COLLAPSED: f64 = 0.02;
/// With what a network that has collapsed is begun anew: lower weights of the Kullback-Leibler term and lower rates let it
/// learn faint differences.
const CURE: Cure = Cure { kl_weight: 0.1, learning_rate: 0.375 };

/// Factors of the configuration's values.
pub struct Cure {
    pub kl_weight: f64,
    pub learning_rate: f64,
}

/// Where a training is; all steps count from 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The step in which the network was begun, not 0 where it was begun anew.
    origin: usize,
    /// The first step of the cycle, and its length; 0 is that of the first cycle.
    began: usize,
    steps: usize,
    /// How the best cycle was judged: the lower, the better.
    best: Option<f64>,
    /// Its loss at pixels that it was not trained on.
    held: Option<f64>,
    /// Whether the network was begun anew because it had collapsed.
    pub cured: bool,
    pub finished: bool,
}

/// What follows a cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The weights are the best so far; another cycle follows.
    Better,
    /// The weights are the best, and the training ends.
    Best,
    /// Those of the cycle before are the best, and the training ends.
    Worse,
}

impl Course {
    /// The course of a network that is begun anew in `step`.
    pub fn anew(step: usize) -> Course {
        Course { origin: step, began: step, cured: true, ..Course::default() }
    }

    fn steps(&self, length: TrainingLength) -> usize {
        if self.steps == 0 { length.steps } else { self.steps }
    }

    /// The step after the last of the cycle.
    pub fn end(&self, length: TrainingLength) -> usize {
        self.began + self.steps(length)
    }

    /// The step after the last of all cycles at most.
    pub fn last(&self, length: TrainingLength) -> usize {
        self.origin + length.most
    }

    /// The place of `step` in its cycle, and the cycle's length.
    pub fn in_cycle(&self, step: usize, length: TrainingLength) -> (usize, usize) {
        (step - self.began, self.steps(length))
    }

    /// Steps since the network was begun.
    pub fn age(&self, step: usize) -> usize {
        step - self.origin
    }

    /// What the configuration's values are multiplied with.
    pub fn cure(&self) -> Cure {
        if self.cured { CURE } else { Cure { kl_weight: 1.0, learning_rate: 1.0 } }
    }

    /// Whether it is time, after `done` steps, to look whether the network has collapsed.
    pub fn looks_for_collapse(&self, done: usize, length: TrainingLength) -> bool {
        let age = ((LOOKED_AT * length.steps as f64) as usize).max(LEAST_AGE);
        !self.cured && done == age && age < length.steps
    }

    /// Whether a network has collapsed whose latent code carries `kl` nats a pixel.
    pub fn has_collapsed(kl: f64) -> bool {
        kl < COLLAPSED
    }

    /// Whether the cycle that is under way after `done` steps will not help, by its `held` loss so far; then the training ends
    /// with the weights of the cycle before.
    pub fn gives_up(&mut self, done: usize, held: Option<f64>, length: TrainingLength) -> bool {
        let (in_cycle, cycle) = self.in_cycle(done, length);
        let (Some(held), Some(before)) = (held, self.held) else { return false };
        self.finished |= 2 * in_cycle >= cycle && held > before + HOPELESS;
        self.finished
    }

    /// Ends the cycle whose network is `judged`, with its `held` loss; without a judgement the training ends.
    pub fn end_cycle(&mut self, judged: Option<f64>, held: Option<f64>, length: TrainingLength) -> Verdict {
        let (end, steps) = (self.end(length), self.steps(length));
        let improved = match (judged, self.best) {
            (Some(judged), Some(best)) => best - judged,
            _ => f64::INFINITY,
        };
        let left = self.last(length).saturating_sub(end);
        if improved < 0.0 {
            self.finished = true;
            return Verdict::Worse;
        }
        // A cycle that is cut to less than its predecessor would not tell much.
        if judged.is_none() || improved < IMPROVED || left < steps {
            self.finished = true;
            return Verdict::Best;
        }
        (self.began, self.steps) = (end, (2 * steps).min(left));
        (self.best, self.held) = (judged, held);
        Verdict::Better
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: TrainingLength = TrainingLength { steps: 100, most: 700, steps_per_epoch: 10 };

    #[test]
    fn cycles_go_on_while_they_help() {
        let mut course = Course::default();
        assert_eq!(course.end(LENGTH), 100);
        assert_eq!(course.end_cycle(Some(9.0), Some(9.0), LENGTH), Verdict::Better);
        assert_eq!((course.in_cycle(100, LENGTH), course.end(LENGTH)), ((0, 200), 300));
        assert!(!course.gives_up(150, Some(20.0), LENGTH) && !course.gives_up(200, Some(10.0), LENGTH));
        assert!(course.clone().gives_up(200, Some(12.0), LENGTH));
        assert_eq!(course.clone().end_cycle(Some(9.5), Some(9.5), LENGTH), Verdict::Worse);
        assert_eq!(course.clone().end_cycle(Some(8.9), Some(8.9), LENGTH), Verdict::Best);
        assert_eq!(course.end_cycle(Some(5.0), Some(5.0), LENGTH), Verdict::Better);
        assert_eq!(course.end(LENGTH), 700);
        assert_eq!(course.end_cycle(Some(1.0), Some(1.0), LENGTH), Verdict::Best);
        assert!(course.finished);
    }

    #[test]
    fn a_given_length_is_one_cycle() {
        let length = TrainingLength { most: 100, ..LENGTH };
        let mut course = Course::default();
        assert_eq!(course.end_cycle(Some(9.0), Some(9.0), length), Verdict::Best);
        assert!(course.finished);
    }

    #[test]
    fn a_network_begun_anew_has_its_own_cycles() {
        let course = Course::anew(50);
        assert_eq!((course.end(LENGTH), course.age(60), course.in_cycle(60, LENGTH)), (150, 10, (10, 100)));
        let longer = TrainingLength { steps: 400, ..LENGTH };
        assert!(!course.looks_for_collapse(200, longer) && Course::default().looks_for_collapse(200, longer));
        assert!(!Course::default().looks_for_collapse(50, LENGTH), "hardly begun");
    }
}
