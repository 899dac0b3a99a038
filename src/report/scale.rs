//! One axis of a chart: its range, its ticks and their labels.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use super::text::{number, tick_label, ticks};

/// One axis: its label, its range, and whether it is logarithmic.
pub struct Scale<'a> {
    pub label: &'a str,
    /// Least and greatest position; of a logarithmic axis those of the decimal logarithm.
    pub range: Range<f64>,
    log: bool,
}

impl<'a> Scale<'a> {
    /// Spans the finite `values`, with `margin` of the width added at both ends; 0 to 1 without values.
    pub fn linear(label: &'a str, values: impl Iterator<Item = f64>, margin: f64) -> Scale<'a> {
        let range = widen(bounds(values).unwrap_or(0.0..1.0), margin);
        Scale { label, range, log: false }
    }

    /// Spans the positive `values`, by their logarithms; 1 to 10 without values.
    pub fn log(label: &'a str, values: impl Iterator<Item = f64>, margin: f64) -> Scale<'a> {
        let logs = values.filter(|&v| v > 0.0).map(f64::log10);
        let range = widen(bounds(logs).unwrap_or(0.0..1.0), margin);
        Scale { label, range, log: true }
    }

    /// Moves the upper end up by `share` of the range, to make room for labels.
    pub fn headroom(mut self, share: f64) -> Scale<'a> {
        self.range.end += share * (self.range.end - self.range.start);
        self
    }

    /// The position of `value` on this axis; NaN where it has none.
    pub fn place(&self, value: f64) -> f64 {
        match self.log {
            true if value > 0.0 => value.log10(),
            true => f64::NAN,
            false => value,
        }
    }

    /// This axis for `plotters`, with about `count` ticks.
    pub fn coordinate(&self, count: usize) -> Coordinate {
        Coordinate { range: self.range.clone(), ticks: self.ticks(count).into_iter().map(|t| self.place(t)).collect() }
    }

    /// Round values within the range; on a wide logarithmic axis powers of ten, or 1, 2 and 5 times those.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let Range { start, end } = self.range;
        if !self.log {
            return ticks(start, end, count);
        }
        let decades = end - start;
        if decades < 0.7 {
            return ticks(10f64.powf(start), 10f64.powf(end), count);
        }
        let leads: &[f64] = if decades < 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let stride = (decades / count as f64).ceil().max(1.0) as i32;
        (start.floor() as i32..=end.ceil() as i32)
            .filter(|power| power.rem_euclid(stride) == 0)
            .flat_map(|power| leads.iter().map(move |lead| lead * 10f64.powi(power)))
            .filter(|tick| (start - 1e-9..=end + 1e-9).contains(&tick.log10()))
            .collect()
    }

    /// The label of the tick at `place`, one of `ticks`.
    pub fn text(&self, place: f64, ticks: &[f64]) -> String {
        if self.log { number(10f64.powf(place)) } else { tick_label(place, ticks) }
    }
}

/// An axis as `plotters` wants it: a range of positions, and the ticks.
pub struct Coordinate {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Coordinate {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * (to - from) as f64).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// Least and greatest of the finite `values`.
fn bounds(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    values.filter(|v| v.is_finite()).fold(None, |range, v| {
        let Range { start, end } = range.unwrap_or(v..v);
        Some(start.min(v)..end.max(v))
    })
}

/// `range` with `margin` of its width at both ends; a range without width gets one.
fn widen(range: Range<f64>, margin: f64) -> Range<f64> {
    let width = range.end - range.start;
    let pad = if width > 0.0 { width * margin } else { 0.5 * range.start.abs().max(1.0) };
    range.start - pad..range.end + pad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_axis_has_ticks_however_wide() {
        for (low, high) in [(1.0, 1.5), (1.0, 30.0), (1.0, 1e4), (1e-12, 1.0)] {
            let count = Scale::log("", [low, high].into_iter(), 0.0).ticks(6).len();
            assert!((2..=9).contains(&count), "{low}..{high}: {count}");
        }
    }
}
