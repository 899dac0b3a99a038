//! Wall time of the phases of a run.

use std::time::Instant;

/// Wall time of the phases, as root saw it.
pub struct Clock {
    since: Instant,
    laps: Vec<(String, f64)>,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { since: Instant::now(), laps: Vec::new() }
    }

    /// Adds the time since the last lap to the phase `name`.
    pub fn lap(&mut self, name: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        match self.laps.iter_mut().find(|(other, _)| other == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.laps.push((name.to_string(), seconds)),
        }
    }

    /// Seconds of each phase, in the order in which they began.
    pub fn laps(&self) -> &[(String, f64)] {
        &self.laps
    }
}
