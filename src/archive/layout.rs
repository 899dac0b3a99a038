//! How a dataset is laid out: which stored dimension is the energy (first, last or between), which are y and x.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, bail};
use ndarray::{Array3, ArrayD, Axis as Dimension};

use super::microscope::Microscope;
use crate::cube::{Axis, CubeInfo};

/// A dataset as its file describes it.
pub(crate) struct Layout {
    pub format: &'static str,
    pub dataset: String,
    /// One axis per stored dimension, in stored order.
    pub axes: Vec<Axis>,
    /// The stored dimension of the energy loss, or the reason why this is no EELS spectrum image.
    pub energy: Result<usize, String>,
    /// Whether x is stored before y.
    pub x_before_y: bool,
    /// Defects that users should know of, though the data can be read.
    pub problems: Vec<String>,
    pub microscope: Microscope,
}

impl Layout {
    /// Converts the energy axis to eV; an axis that cannot be one becomes the reason in `energy`.
    pub fn checked(mut self) -> Layout {
        let Ok(dim) = self.energy else { return self };
        for (other, axis) in self.axes.iter_mut().enumerate() {
            if other != dim && (axis.scale == 0.0 || !axis.scale.is_finite() || !axis.offset.is_finite()) {
                self.problems.push(format!(
                    "axis {:?} has scale {} and offset {}: its indices are taken",
                    axis.name, axis.scale, axis.offset
                ));
                (axis.offset, axis.scale) = (0.0, 1.0);
                axis.units = String::new();
            }
        }
        let axis = &mut self.axes[dim];
        let is_uncalibrated = axis.offset == 0.0 && axis.scale == 1.0 && axis.size > 1;
        match in_ev(&axis.units) {
            Some(factor) => {
                axis.scale *= factor;
                axis.offset *= factor;
                axis.units = "eV".into();
            }
            None if axis.units.is_empty() => {
                self.problems.push("the energy axis has no units: taken as eV".into());
            }
            None => {
                self.problems.push(format!("the energy axis is in {}, which is no energy: taken as eV", axis.units))
            }
        }
        if is_uncalibrated {
            self.problems.push("no energy calibration: channels are counted from 0, as if 1 eV wide".into());
        }
        axis.navigate = false;
        if axis.name.is_empty() {
            axis.name = "Energy loss".into();
        }
        if !axis.scale.is_finite() || !axis.offset.is_finite() {
            self.energy = Err(format!(
                "its energy axis is not uniform, or not finite (offset {}, scale {})",
                axis.offset, axis.scale
            ));
        } else if axis.scale <= 0.0 {
            self.energy = Err(format!(
                "its energy axis runs backwards or stands still (scale {} eV per channel); reverse the data and the \
                 axis, for example in HyperSpy",
                axis.scale
            ));
        } else if self.axes.len() > 3 && (0..self.axes.len()).filter(|&i| i != dim && self.axes[i].size > 1).count() > 2
        {
            let shape: Vec<String> = self.axes.iter().map(|axis| axis.size.to_string()).collect();
            // HyperSpy counts axes from x on.
            self.energy = Err(format!(
                "it has {} dimensions ({}), not y, x and energy: of a series save the sum of all frames (in HyperSpy \
                 `s.sum(axis=2)`, where `print(s)` shows x, y, frames | energy) or one frame (`s.inav[:, :, 0]`), as .hspy",
                self.axes.len(),
                shape.join(" x ")
            ));
        } else if self.axes.iter().any(|axis| axis.size == 0) {
            let shape: Vec<usize> = self.axes.iter().map(|axis| axis.size).collect();
            self.energy = Err(format!("it has no values (shape {shape:?})"));
        }
        self
    }

    /// The stored dimensions of y and x. The pixels of a line scan are along x; a lone spectrum has neither.
    pub fn navigation(&self, energy: usize) -> [Option<usize>; 2] {
        let mut others: Vec<usize> = (0..self.axes.len()).filter(|&dim| dim != energy).collect();
        if others.len() > 2 {
            // One frame of a series.
            others.retain(|&dim| self.axes[dim].size > 1);
        }
        match others[..] {
            [x, y] if self.x_before_y => [Some(y), Some(x)],
            [y, x] => [Some(y), Some(x)],
            [x] => [None, Some(x)],
            _ => [None, None],
        }
    }

    /// The cube in this dataset, whose energy is dimension `energy`. `chunk` is its stored chunk shape.
    pub fn cube(&self, energy: usize, path: &Path, dtype: String, chunk: Option<&[usize]>) -> CubeInfo {
        let [y, x] = self.navigation(energy);
        let axis = |dim: Option<usize>, name: &str| match dim {
            Some(dim) => Axis {
                navigate: true,
                name: if self.axes[dim].name.is_empty() { name.into() } else { self.axes[dim].name.clone() },
                ..self.axes[dim].clone()
            },
            None => Axis::of_indices(name, 1, true),
        };
        let chunk_rows = y.and_then(|y| chunk.map(|chunk| chunk[y].min(self.axes[y].size)));
        CubeInfo {
            id: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_path_buf(),
            format: self.format.into(),
            dtype,
            y: axis(y, "y"),
            x: axis(x, "x"),
            energy: self.axes[energy].clone(),
            chunk_rows: chunk_rows.unwrap_or(1),
        }
    }

    /// Reads `part` as `[y, x, energy]`, whatever the stored order; `stored` reads one range per stored dimension.
    pub fn read<T: Copy + Default>(
        &self,
        energy: usize,
        part: [Range<usize>; 3],
        stored: impl FnOnce(Vec<Range<usize>>) -> Result<ArrayD<T>>,
    ) -> Result<Array3<T>> {
        let [y, x] = self.navigation(energy);
        let [rows, columns, channels] = part;
        let shape = [rows.len(), columns.len(), channels.len()];
        // What is neither y, x nor energy has one place.
        let mut ranges = vec![0..1; self.axes.len()];
        ranges[energy] = channels;
        for (dim, range) in [(y, rows), (x, columns)] {
            if let Some(dim) = dim {
                ranges[dim] = range;
            }
        }
        if shape.contains(&0) {
            return Ok(Array3::from_elem(shape, T::default()));
        }
        let stored = stored(ranges)?;
        let mut order: Vec<usize> = [y, x, Some(energy)].into_iter().flatten().collect();
        let single: Vec<usize> = (0..self.axes.len()).filter(|dim| !order.contains(dim)).collect();
        order.splice(0..0, single.iter().copied());
        let mut cube = stored.permuted_axes(order);
        for _ in single {
            cube = cube.index_axis_move(Dimension(0), 0);
        }
        while cube.ndim() < 3 {
            cube = cube.insert_axis(Dimension(0));
        }
        let cube = cube.into_dimensionality()?;
        // A cube stored as y, x, energy is not copied.
        Ok(if cube.is_standard_layout() { cube } else { cube.as_standard_layout().into_owned() })
    }
}

/// The factor from `units` to eV; none if they are no units of energy.
pub(crate) fn in_ev(units: &str) -> Option<f64> {
    match units.trim() {
        "eV" | "ev" | "EV" | "[eV]" | "electronvolt" | "electron_volt" => Some(1.0),
        "keV" | "KeV" | "kev" | "[keV]" => Some(1e3),
        "meV" | "mev" | "[meV]" => Some(1e-3),
        _ => None,
    }
}

/// Offset and scale of evenly spaced `values`.
///
/// # Errors
/// No values; steps that differ by more than a thousandth (names the narrowest and the widest).
pub(crate) fn uniform(values: &[f64]) -> Result<(f64, f64)> {
    let [first, .., last] = values else {
        return match values {
            [only] => Ok((*only, 1.0)),
            _ => bail!("it has no values"),
        };
    };
    let scale = (last - first) / (values.len() - 1) as f64;
    let steps = values.windows(2).map(|pair| pair[1] - pair[0]);
    let (narrow, wide) =
        steps.fold((f64::INFINITY, f64::NEG_INFINITY), |(narrow, wide), step| (narrow.min(step), wide.max(step)));
    // Values kept in single precision are rounded relative to the largest of them.
    let rounding = first.abs().max(last.abs()) * f64::from(f32::EPSILON) * 2.0;
    if wide - narrow > scale.abs() * 1e-3 + rounding || !scale.is_finite() {
        bail!("its steps vary from {narrow} to {wide}");
    }
    Ok((*first, scale))
}
