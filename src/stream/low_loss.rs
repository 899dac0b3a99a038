//! The low-loss spectra of a cube, streamed line by line: zero-loss peak and thickness of each pixel.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use ndarray::ArrayView2;

use crate::archive::Reader;
use crate::comm::{Comm, ExactSum};
use crate::shard::Blocks;
use crate::spectrum::{log_ratio, zero_loss_ev};

/// The zero-loss peak ends before this, eV.
const PEAK_END_EV: f64 = 15.0;
/// The zero-loss peak ends after this, eV.
const LEAST_END_EV: f64 = 1.0;
/// Beyond the end of the peak the mean spectrum stays above it for at least so many eV.
const RISE_EV: f64 = 0.5;
/// A thickness needs most of the plasmon losses, which reach up to here, eV.
const PLASMONS_EV: f64 = 60.0;

/// An open low-loss cube with the pixels of a core-loss one.
pub struct LowLoss {
    reader: Reader,
    /// The zero-loss peak lies at most so many eV from 0.
    bound_ev: f64,
}

impl LowLoss {
    pub(super) fn new(reader: Reader, bound_ev: f64) -> LowLoss {
        LowLoss { reader, bound_ev }
    }

    /// The path of its file, for messages.
    pub fn path(&self) -> String {
        self.reader.info().path.display().to_string()
    }

    /// As [`Reader::files`].
    pub fn files(&self) -> Vec<PathBuf> {
        self.reader.files()
    }

    /// As [`Reader::fingerprint`]. Rank-local.
    pub fn fingerprint(&self) -> Result<String> {
        self.reader.fingerprint()
    }

    /// Calls `work` with the `channels` of each of `lines` in turn, `[x, energy]`. Rank-local.
    fn each_line(
        &self,
        lines: Range<usize>,
        channels: Range<usize>,
        mut work: impl FnMut(usize, ArrayView2<f32>),
    ) -> Result<()> {
        let info = self.reader.info();
        let columns = info.x.size;
        let piece = Blocks::new([info.y.size, columns, channels.len()]).rows(0).len();
        for start in lines.clone().step_by(piece) {
            let rows = start..(start + piece).min(lines.end);
            let raw = self.reader.read(rows.clone(), 0..columns, channels.clone())?;
            rows.zip(raw.outer_iter()).for_each(|(y, line)| work(y, line));
        }
        Ok(())
    }

    /// The energy (eV) of the zero-loss peak of each pixel of `lines`; NaN where none is found, or `skip` `[lines, x]` is
    /// true. Rank-local.
    pub fn zero_loss(&self, lines: Range<usize>, skip: ArrayView2<bool>) -> Result<Vec<f32>> {
        let energy = &self.reader.info().energy;
        // With room for the smoothing at both ends.
        let channels = energy.indices(-1.5 * self.bound_ev - 2.0, 1.5 * self.bound_ev + 2.0);
        let near = energy.slice(channels.clone());
        let mut found = Vec::new();
        self.each_line(lines.clone(), channels, |y, line| {
            let skipped = skip.row(y - lines.start);
            found.extend(line.outer_iter().zip(skipped).map(|(spectrum, &skip)| {
                let peak_ev = (!skip).then(|| zero_loss_ev(spectrum, &near, self.bound_ev));
                peak_ev.flatten().map_or(f32::NAN, |ev| ev as f32)
            }));
        })?;
        Ok(found)
    }

    /// The thickness (inelastic mean free paths) of each pixel of `lines`, those of this rank; NaN as in
    /// [`LowLoss::zero_loss`].
    ///
    /// # Collective
    pub fn thickness(&self, comm: &Comm, lines: Range<usize>, skip: ArrayView2<bool>) -> Result<Vec<f32>> {
        let info = self.reader.info();
        let peaks_ev = comm.agree(self.zero_loss(lines.clone(), skip))?;
        let first = lines.start;
        let peaks_of_line = |y: usize| &peaks_ev[(y - first) * info.x.size..][..info.x.size];
        let threshold_ev = self.end_of_zero_loss(comm, lines.clone(), &peaks_of_line)?;
        let mut found = Vec::new();
        let measured = self.each_line(lines, 0..info.energy.size, |y, line| {
            let pixels = line.outer_iter().zip(peaks_of_line(y));
            found.extend(pixels.map(|(spectrum, &peak_ev)| {
                if peak_ev.is_nan() {
                    return f32::NAN;
                }
                log_ratio(spectrum, &info.energy, f64::from(peak_ev), threshold_ev)
            }));
        });
        comm.agree(measured)?;
        if comm.is_root() {
            let short = if info.energy.span()[1] < PLASMONS_EV {
                "; the spectra end before the plasmons do, so it is too small"
            } else {
                ""
            };
            log::info!(
                "{}: thickness by the log-ratio, the zero-loss peak ending {threshold_ev:.2} eV past its maximum{short}",
                self.path()
            );
        }
        Ok(found)
    }

    /// How far (eV) past its maximum the zero-loss peak ends: at the first minimum behind it of the mean spectrum of all
    /// pixels, their peaks aligned.
    ///
    /// # Collective
    fn end_of_zero_loss<'a>(
        &self,
        comm: &Comm,
        lines: Range<usize>,
        peaks_of_line: &impl Fn(usize) -> &'a [f32],
    ) -> Result<f64> {
        let info = self.reader.info();
        let energy = &info.energy;
        let tail = (PEAK_END_EV / energy.scale).ceil() as usize;
        let mut sum = ExactSum::new(tail, (info.y.size * info.x.size) as f64);
        let near = energy.indices(-self.bound_ev, self.bound_ev + PEAK_END_EV + 1.0);
        let first_ev = energy.value(near.start);
        let summed = self.each_line(lines, near, |y, line| {
            let mut behind = vec![0.0; tail];
            for (spectrum, &peak_ev) in line.outer_iter().zip(peaks_of_line(y)) {
                let highest = spectrum.iter().fold(0f32, |high, &v| high.max(v));
                if peak_ev.is_nan() || highest <= 0.0 || !highest.is_finite() {
                    continue;
                }
                let top = ((f64::from(peak_ev) - first_ev) / energy.scale).round().max(0.0);
                // In units of the peak, so that the sum is bounded and thick pixels count as much as thin ones.
                for (sum, &value) in behind.iter_mut().zip(spectrum.iter().skip(top as usize)) {
                    if value > 0.0 {
                        *sum += f64::from((value / highest).min(1.0));
                    }
                }
            }
            sum.add(&behind);
        });
        comm.agree(summed)?;
        let mean = sum.total(comm)?;
        let first = ((LEAST_END_EV / energy.scale).ceil() as usize).clamp(1, tail.max(2) - 1);
        let beyond = ((RISE_EV / energy.scale).ceil() as usize).max(1);
        let is_lowest = |&i: &usize| mean[i..].iter().take(beyond + 1).all(|&v| v >= mean[i]);
        let lowest = (first..tail).find(is_lowest).unwrap_or(tail - 1);
        Ok(lowest as f64 * energy.scale)
    }
}
