//! Velox files, Thermo Fisher's dialect of EMD: one cube `[x, energy, y]` of plain numbers for each energy range, calibrated
//! by texts in JSON.
//!
//! Their X-ray spectra are packed in a way of their own, and their three-dimensional datasets are stacks of pictures: what
//! holds no EELS is refused in words.

use anyhow::{Context, Result, bail, ensure};
use hdf5::types::TypeDescriptor;
use hdf5::{Dataset, File};
use ndarray::s;
use serde_json::Value;

use super::attribute::strings;
use super::layout::Layout;
use super::metadata::Metadata;
use super::microscope::Microscope;
use crate::cube::Axis;

/// The group of the energy ranges.
pub(super) const RANGES: &str = "Data/EelsSpectrumImage";
/// Most bytes of a JSON text; real ones have 60 kB.
const MOST_BYTES: usize = 1 << 20;
/// Most levels of a JSON text that are kept.
pub(super) const DEEPEST: usize = 32;

/// Whether `file` was written by Velox, which says so in a dataset of the root.
pub(super) fn is_velox(file: &File) -> bool {
    let version = file.dataset("Version").ok().and_then(|version| strings(&version));
    version.unwrap_or_default().iter().any(|text| text.contains("Velox"))
}

/// Whether `file` holds EELS spectrum images; none of the other functions here is for other files.
pub(super) fn has_eels(file: &File) -> bool {
    is_velox(file) && names(file).is_ok_and(|names| !names.is_empty())
}

/// Why a Velox file without EELS is no cube.
pub(super) fn refusal(file: &File) -> String {
    let has = |name: &str| file.group(&format!("Data/{name}")).is_ok_and(|group| !group.is_empty());
    let what = if has("SpectrumImage") || has("SpectrumStream") {
        "a Velox file of X-ray (EDS) spectra, without EELS: coreloss scores energy losses"
    } else if has_fft(file) {
        "a Velox file of an FFT, which is complex and no spectrum image"
    } else {
        "a Velox file of pictures, without EELS"
    };
    format!("{what}; if a dataset of it is a cube all the same, name it by archive.dataset")
}

/// Whether an image in `file` has complex values.
fn has_fft(file: &File) -> bool {
    let Ok(images) = file.group("Data/Image") else {
        return false;
    };
    let is_compound = |name: &String| {
        let data = images.dataset(&format!("{name}/Data"));
        let dtype = data.and_then(|data| data.dtype()?.to_descriptor());
        dtype.is_ok_and(|dtype| matches!(dtype, TypeDescriptor::Compound(_)))
    };
    images.member_names().unwrap_or_default().iter().any(is_compound)
}

/// The core-loss range of `file`; or the one whose group or data are at `wanted`; or range `image`, counted from the lowest
/// energy. Rank-local.
///
/// # Errors
/// Several core-loss ranges, or none of that name or number: lists all, and how to choose.
pub(super) fn find(file: &File, wanted: Option<&str>, image: Option<usize>) -> Result<Layout> {
    let mut ranges = ranges(file)?;
    let listed = describe(&ranges).iter().enumerate().map(|(i, range)| format!("{i} ({range})")).collect::<Vec<_>>();
    let at = match (wanted, image) {
        (Some(wanted), _) => {
            let name = wanted.trim_end_matches("/Data");
            let found = ranges.iter().position(|range| range.dataset.trim_end_matches("/Data") == name);
            found.with_context(|| {
                let names: Vec<&str> = ranges.iter().map(|range| &range.dataset[..]).collect();
                format!("no EELS at {wanted:?} in it; archive.dataset can be one of: {}", names.join(", "))
            })?
        }
        (None, Some(image)) => {
            ensure!(
                image < ranges.len(),
                "no energy range {image} in it; archive.image can be one of: {}",
                listed.join(", ")
            );
            image
        }
        (None, None) => {
            let core: Vec<usize> = (0..ranges.len()).filter(|&i| !reaches_zero(&ranges[i])).collect();
            match (&core[..], ranges.len()) {
                (&[only], _) => only,
                (_, 1) => 0,
                _ => bail!("several energy ranges; choose one by archive.image: {}", listed.join(", ")),
            }
        }
    };
    Ok(ranges.swap_remove(at))
}

/// Each energy range of `file`, in the order in which `archive.image` counts them. Rank-local.
///
/// # Errors
/// A damaged file.
pub(super) fn images(file: &File) -> Result<Vec<String>> {
    Ok(describe(&ranges(file)?))
}

/// The dataset of the only range of `file` with `pixels` `[y, x]` that reaches the zero-loss peak; none if there is none, or
/// several. Rank-local.
///
/// # Errors
/// A damaged file.
pub(super) fn low_loss(file: &File, pixels: [usize; 2]) -> Result<Option<String>> {
    let mut ranges = ranges(file)?;
    ranges.retain(|range| reaches_zero(range) && range.axes.len() == 3);
    ranges.retain(|range| [range.axes[2].size, range.axes[0].size] == pixels);
    Ok(match &ranges[..] {
        [range] => Some(range.dataset.clone()),
        _ => None,
    })
}

/// The JSON texts beside the cube at `dataset`. Rank-local.
pub(super) fn metadata(file: &File, dataset: &str) -> Metadata {
    let texts = ["Metadata", "AcquisitionMetadata"].into_iter().filter_map(|name| {
        let text = file.dataset(&format!("{}/{name}", dataset.trim_end_matches("/Data"))).ok()?;
        Some((name.to_string(), tree(&json(&text)?, DEEPEST)?))
    });
    Metadata::Group(texts.collect())
}

/// Whether the energies of `range` include 0.
fn reaches_zero(range: &Layout) -> bool {
    let energy = range.energy.as_ref().ok().and_then(|&dim| range.axes.get(dim));
    energy.is_some_and(|axis| {
        let [first, last] = axis.span();
        first <= 0.0 && last >= 0.0
    })
}

fn describe(ranges: &[Layout]) -> Vec<String> {
    let described = ranges.iter().map(|range| {
        let sizes: Vec<usize> = range.axes.iter().map(|axis| axis.size).collect();
        match &range.energy {
            Ok(dim) => {
                let axis = &range.axes[*dim];
                let last = axis.value(axis.size.saturating_sub(1));
                format!("{:.1} to {last:.1} eV, {sizes:?}, {}", axis.offset, range.dataset)
            }
            Err(reason) => format!("{sizes:?}, {}: {reason}", range.dataset),
        }
    });
    described.collect()
}

/// The names of the groups that hold energy ranges.
fn names(file: &File) -> Result<Vec<String>> {
    let group = file.group(RANGES)?;
    let mut names = group.member_names()?;
    names.retain(|name| group.dataset(&format!("{name}/Data")).is_ok());
    Ok(names)
}

/// All energy ranges, from the lowest energy to the highest.
fn ranges(file: &File) -> Result<Vec<Layout>> {
    let mut ranges = names(file)?.iter().map(|name| range(file, name)).collect::<Result<Vec<Layout>>>()?;
    let energy = |range: &Layout| range.axes.get(1).map_or(f64::INFINITY, |axis| axis.offset);
    ranges.sort_by(|a, b| energy(a).total_cmp(&energy(b)).then_with(|| a.dataset.cmp(&b.dataset)));
    Ok(ranges)
}

/// Axes and energy of range `name`.
fn range(file: &File, name: &str) -> Result<Layout> {
    let path = format!("{RANGES}/{name}");
    let group = file.group(&path)?;
    let shape = group.dataset("Data")?.shape();
    let read = |name: &str| group.dataset(name).ok().and_then(|text| json(&text));
    let calibration = Calibration { optics: read("Metadata"), acquisition: read("AcquisitionMetadata") };
    let mut problems = Vec::new();
    let (axes, energy) = match shape[..] {
        [x, channels, y] => {
            let axes =
                vec![calibration.scan("x", x), calibration.energy(channels, &mut problems), calibration.scan("y", y)];
            (axes, Ok(1))
        }
        _ => {
            let axes = shape.iter().map(|&size| Axis::of_indices("", size, false)).collect();
            (axes, Err(format!("it has shape {shape:?}, not x, energy and y")))
        }
    };
    Ok(Layout {
        format: "velox",
        dataset: format!("{path}/Data"),
        axes,
        energy,
        x_before_y: true,
        problems,
        microscope: calibration.microscope(),
    })
}

/// What the JSON texts of a range say.
pub(super) struct Calibration {
    /// `Metadata`: the microscope, with numbers as texts.
    pub optics: Option<Value>,
    /// `AcquisitionMetadata`: the spectrometer, for the first line.
    pub acquisition: Option<Value>,
}

impl Calibration {
    pub(super) fn energy(&self, size: usize, problems: &mut Vec<String>) -> Axis {
        let of = |name: &str| number(&self.acquisition, &format!("/Data/{name}"));
        let mut axis = Axis::of_indices("Energy loss", size, false);
        axis.units = "eV".into();
        match (of("offset"), of("dispersion")) {
            (Some(offset), Some(scale)) => (axis.offset, axis.scale) = (offset, scale),
            _ => problems.push("its AcquisitionMetadata tell no offset and dispersion".into()),
        }
        axis
    }

    /// Axis `name` of the scan, in nm from the middle of the whole field; indices where the texts do not tell.
    pub(super) fn scan(&self, name: &str, size: usize) -> Axis {
        let [low, high] = if name == "x" { ["left", "right"] } else { ["top", "bottom"] };
        let field = number(&self.optics, &format!("/Optics/FullScanFieldOfView/{name}"));
        // Shares of the field.
        let share = |end: &str| number(&self.optics, &format!("/Scan/ScanArea/{end}"));
        let axis = Axis::of_indices(name, size, true);
        match (field, share(low), share(high)) {
            (Some(field), Some(low), Some(high)) if field > 0.0 && high > low && size > 0 => Axis {
                units: "nm".into(),
                scale: field * 1e9 * (high - low) / size as f64,
                offset: field * 1e9 * (low - 0.5),
                ..axis
            },
            _ => axis,
        }
    }

    pub(super) fn microscope(&self) -> Microscope {
        let of = |path: &str| number(&self.optics, path).filter(|&value| value > 0.0);
        let text = |path: &str| text(self.optics.as_ref()?.pointer(path)?);
        let spectrometer = |name: &str| number(&self.acquisition, &format!("/Data/{name}"));
        let frames = spectrometer("detectorFramesAveraged").filter(|&frames| frames > 0.0);
        let scale = spectrometer("intensityScale").filter(|&scale| scale != 0.0);
        let names = [text("/Instrument/InstrumentClass"), text("/Instrument/InstrumentModel")];
        let names: Vec<String> = names.into_iter().flatten().collect();
        let start = of("/Acquisition/AcquisitionStartDatetime/DateTime")
            .and_then(|seconds| chrono::DateTime::from_timestamp(seconds as i64, 0));
        Microscope {
            instrument: (!names.is_empty()).then(|| names.join(" ")),
            detector: text("/BinaryResult/Detector"),
            beam_energy_kev: of("/Optics/AccelerationVoltage").map(|volts| volts / 1e3),
            convergence_angle_mrad: of("/Optics/BeamConvergence").map(|rad| rad * 1e3),
            camera_length_mm: of("/Optics/CameraLength").map(|metres| metres * 1e3),
            exposure_s: spectrometer("exposureTime").map(|seconds| seconds * frames.unwrap_or(1.0)),
            frames,
            date: start.map(|time| time.date_naive().to_string()),
            time: start.map(|time| time.time().to_string()),
            // Velox writes stored * scale + offset.
            gain_factor: scale,
            gain_offset: scale.and_then(|scale| Some(0.0 - spectrometer("intensityOffset")? / scale)),
            intensity_units: scale.map(|_| "counts".into()),
            ..Microscope::default()
        }
    }
}

/// The JSON text in the first column of `dataset`, whose bytes run down, padded with zeros.
fn json(dataset: &Dataset) -> Option<Value> {
    if dataset.ndim() != 2 || dataset.shape()[0] > MOST_BYTES || dataset.shape()[1] == 0 {
        return None;
    }
    let bytes: Vec<u8> = dataset.read_slice_1d(s![.., 0]).ok()?.to_vec();
    parse(&bytes)
}

/// The JSON value in `bytes`, which zeros may follow.
pub(super) fn parse(bytes: &[u8]) -> Option<Value> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    serde_json::from_slice(&bytes[..end]).ok()
}

/// The finite number at `path`; Velox writes most of them as texts.
fn number(value: &Option<Value>, path: &str) -> Option<f64> {
    let number = match value.as_ref()?.pointer(path)? {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_string)
}

/// `value` without empty members; none if nothing is left.
pub(super) fn tree(value: &Value, depth: usize) -> Option<Metadata> {
    let below = |name: String, value: &Value| Some((name, tree(value, depth.checked_sub(1)?)?));
    let members: Vec<(String, Metadata)> = match value {
        Value::Number(number) => return number.as_f64().map(Metadata::Number),
        Value::Bool(flag) => return Some(Metadata::Text(flag.to_string())),
        Value::String(_) => return text(value).map(Metadata::Text),
        Value::Null => return None,
        Value::Array(values) => match values.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>() {
            Some(numbers) => return (!numbers.is_empty()).then_some(Metadata::Numbers(numbers)),
            None => values.iter().enumerate().filter_map(|(i, value)| below(i.to_string(), value)).collect(),
        },
        Value::Object(values) => values.iter().filter_map(|(name, value)| below(name.clone(), value)).collect(),
    };
    (!members.is_empty()).then_some(Metadata::Group(members))
}
