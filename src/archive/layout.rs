//! How a dataset is laid out: which stored dimension is the energy, which are y and x.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, bail};
use hdf5::datatype::ByteOrder;
use hdf5::types::{FloatSize, IntSize, TypeDescriptor};
use hdf5::{Dataset, Hyperslab, Selection, SliceOrIndex};
use ndarray::{Array3, ArrayD, Axis as Dimension};
use serde::{Deserialize, Serialize};

use super::element::Element;
use crate::cube::{Axis, CubeInfo};

/// What a file tells of the instrument and of its values; each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Microscope {
    pub title: Option<String>,
    pub instrument: Option<String>,
    /// Spectrometer or camera.
    pub detector: Option<String>,
    pub beam_energy_kev: Option<f64>,
    pub convergence_angle_mrad: Option<f64>,
    pub collection_angle_mrad: Option<f64>,
    pub camera_length_mm: Option<f64>,
    /// Entrance aperture of the spectrometer.
    pub aperture_mm: Option<f64>,
    /// Of one pixel, all its frames together.
    pub exposure_s: Option<f64>,
    /// Camera frames summed in one pixel.
    pub frames: Option<f64>,
    pub operator: Option<String>,
    pub specimen: Option<String>,
    /// When it began: `2021-03-12`.
    pub date: Option<String>,
    /// `15:16:22`, of the place where the instrument is.
    pub time: Option<String>,
    /// HyperSpy's `Variance_linear_model.gain_factor`, and what it takes from Gatan files for that: the scale of
    /// intensity, `(stored - gain_offset) * gain_factor` being in `intensity_units`.
    pub gain_factor: Option<f64>,
    pub gain_offset: Option<f64>,
    /// `Counts`, `e-`, ...
    pub intensity_units: Option<String>,
}

/// One dataset as its file describes it.
pub(crate) struct Layout {
    pub format: &'static str,
    pub dataset: String,
    /// One axis per stored dimension, in stored order.
    pub axes: Vec<Axis>,
    /// The stored dimension that is the energy loss, or why this is no EELS spectrum image.
    pub energy: Result<usize, String>,
    /// Whether x is stored before y.
    pub x_before_y: bool,
    /// What a reader should know, but can live with.
    pub problems: Vec<String>,
    pub microscope: Microscope,
}

impl Layout {
    /// Brings the energy axis to eV, and refuses what cannot be one.
    pub fn checked(mut self) -> Layout {
        let Ok(dim) = self.energy else { return self };
        for (place, axis) in self.axes.iter().enumerate() {
            if place != dim && (axis.scale == 0.0 || !axis.scale.is_finite()) {
                self.problems
                    .push(format!("axis {:?} has scale {}: its places are not calibrated", axis.name, axis.scale));
            }
        }
        let axis = &mut self.axes[dim];
        let counted = axis.offset == 0.0 && axis.scale == 1.0 && axis.size > 1;
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
        if counted {
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
        } else if self.axes.len() > 3 {
            self.energy = Err(format!("it has {} dimensions, not y, x and energy", self.axes.len()));
        } else if self.axes.iter().any(|axis| axis.size == 0) {
            let shape: Vec<usize> = self.axes.iter().map(|axis| axis.size).collect();
            self.energy = Err(format!("it has no values (shape {shape:?})"));
        }
        self
    }

    /// The stored dimensions of y and x: of a line its pixels are x, of a lone spectrum neither is stored.
    pub fn places(&self, energy: usize) -> [Option<usize>; 2] {
        let places: Vec<usize> = (0..self.axes.len()).filter(|&dim| dim != energy).collect();
        match places[..] {
            [x, y] if self.x_before_y => [Some(y), Some(x)],
            [y, x] => [Some(y), Some(x)],
            [x] => [None, Some(x)],
            _ => [None, None],
        }
    }

    /// The cube that this dataset is. `chunk` is its stored chunk shape.
    pub fn cube(&self, energy: usize, path: &Path, dtype: String, chunk: Option<&[usize]>) -> CubeInfo {
        let [y, x] = self.places(energy);
        let place = |dim: Option<usize>, name: &str| match dim {
            Some(dim) => Axis {
                navigate: true,
                name: if self.axes[dim].name.is_empty() { name.into() } else { self.axes[dim].name.clone() },
                ..self.axes[dim].clone()
            },
            None => Axis { navigate: true, ..index_axis(name, 1) },
        };
        let chunk_rows = y.and_then(|y| chunk.map(|chunk| chunk[y].min(self.axes[y].size)));
        CubeInfo {
            id: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_path_buf(),
            format: self.format.into(),
            dtype,
            y: place(y, "y"),
            x: place(x, "x"),
            energy: self.axes[energy].clone(),
            chunk_rows: chunk_rows.unwrap_or(1),
        }
    }

    /// Reads `[y, x, energy]`, whatever order it is stored in: `stored` reads one range per stored dimension.
    pub fn read<T: Copy + Default>(
        &self,
        energy: usize,
        part: [Range<usize>; 3],
        stored: impl FnOnce(Vec<Range<usize>>) -> Result<ArrayD<T>>,
    ) -> Result<Array3<T>> {
        let [y, x] = self.places(energy);
        let [rows, columns, channels] = part;
        let shape = [rows.len(), columns.len(), channels.len()];
        let mut ranges = vec![0..0; self.axes.len()];
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
        let order: Vec<usize> = [y, x, Some(energy)].into_iter().flatten().collect();
        let mut cube = stored.permuted_axes(order);
        while cube.ndim() < 3 {
            cube = cube.insert_axis(Dimension(0));
        }
        let cube = cube.into_dimensionality()?;
        // The usual order costs no copy.
        Ok(if cube.is_standard_layout() { cube } else { cube.as_standard_layout().into_owned() })
    }
}

/// Reads `part` as float32, rounded to the nearest as Rust and numpy do.
///
/// HDF5 rounds so as well, but not where it must swap the bytes of wide numbers first; these are read as they are,
/// which costs their size in memory once more.
pub(crate) fn read_f32(dataset: &Dataset, part: Vec<Range<usize>>) -> hdf5::Result<ArrayD<f32>> {
    let part = selection(part);
    let stored = dataset.dtype()?;
    let is_swapped = !matches!(stored.byte_order(), ByteOrder::None) && stored.byte_order() != native_order();
    if !is_swapped {
        return dataset.read_slice(part);
    }
    Ok(match stored.to_descriptor()? {
        TypeDescriptor::Float(FloatSize::U8) => dataset.read_slice(part)?.mapv(|value: f64| value as f32),
        TypeDescriptor::Integer(IntSize::U4 | IntSize::U8) => dataset.read_slice(part)?.mapv(|value: i64| value as f32),
        TypeDescriptor::Unsigned(IntSize::U4 | IntSize::U8) => {
            dataset.read_slice(part)?.mapv(|value: u64| value as f32)
        }
        _ => dataset.read_slice(part)?,
    })
}

/// Reads `part` in this machine's byte order, its values as they are; `T` has to be the stored type.
pub(crate) fn read_stored<T: Element>(dataset: &Dataset, part: Vec<Range<usize>>) -> hdf5::Result<ArrayD<T>> {
    dataset.read_slice(selection(part))
}

fn selection(part: Vec<Range<usize>>) -> Selection {
    let ranges: Vec<SliceOrIndex> = part.into_iter().map(SliceOrIndex::from).collect();
    Hyperslab::from(ranges).into()
}

fn native_order() -> ByteOrder {
    if cfg!(target_endian = "big") { ByteOrder::BigEndian } else { ByteOrder::LittleEndian }
}

/// An axis that counts its own indices.
pub(crate) fn index_axis(name: &str, size: usize) -> Axis {
    Axis { name: name.into(), units: String::new(), scale: 1.0, offset: 0.0, size, navigate: false }
}

/// How many eV one of `units` is; none where it is no energy.
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
/// Names the widest and the narrowest step where they differ by more than a thousandth.
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
    // Single-precision vectors are rounded at the size of their largest value.
    let rounding = first.abs().max(last.abs()) * f64::from(f32::EPSILON) * 2.0;
    if wide - narrow > scale.abs() * 1e-3 + rounding || !scale.is_finite() {
        bail!("its steps vary from {narrow} to {wide}");
    }
    Ok((*first, scale))
}
