//! What is known of a measurement, written where HyperSpy and eXSpy look for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hdf5::Group;

use super::attribute::{group, set, set_array, set_text};
use crate::archive::{Metadata, Microscope, Reader, open_hdf5};

/// Characters of the longest name of a group or attribute.
const LONGEST_NAME: usize = 200;

/// Metadata of a measurement, for every signal of a file.
#[derive(Clone, Debug, Default)]
pub struct Measurement {
    pub microscope: Microscope,
    /// Name of the source file.
    pub original_filename: Option<String>,
    /// HyperSpy's `original_metadata`.
    pub original: Metadata,
    /// A HyperSpy file, and its experiment whose `metadata` and `original_metadata` are copied first.
    pub copied: Option<(PathBuf, String)>,
}

impl Measurement {
    /// All that the file of `reader` says, for a copy of its cube. Rank-local.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn of(reader: &Reader) -> Result<Measurement> {
        let path = &reader.info().path;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let experiment = reader.experiment();
        Ok(Measurement {
            microscope: reader.microscope().clone(),
            original_filename: Some(name.into_owned()),
            original: reader.metadata()?,
            copied: experiment.map(|experiment| (path.clone(), experiment.to_string())),
        })
    }
}

/// Writes `measurement` into a new experiment. Rank-local.
///
/// # Source
/// The paths of HyperSpy's metadata structure, and of eXSpy's for `Acquisition_instrument/TEM/Detector/EELS`.
pub(super) fn add(experiment: &Group, measurement: &Measurement) -> Result<()> {
    if let Some((path, from)) = &measurement.copied {
        copy(experiment, path, from).with_context(|| format!("{}: its metadata cannot be copied", path.display()))?;
    }
    let scope = &measurement.microscope;
    let tem = "metadata/Acquisition_instrument/TEM";
    let eels = "metadata/Acquisition_instrument/TEM/Detector/EELS";
    let noise = "metadata/Signal/Noise_properties/Variance_linear_model";
    let numbers = [
        (tem, "beam_energy", scope.beam_energy_kev),
        (tem, "convergence_angle", scope.convergence_angle_mrad),
        (tem, "camera_length", scope.camera_length_mm),
        (eels, "collection_angle", scope.collection_angle_mrad),
        (eels, "aperture_size", scope.aperture_mm),
        (eels, "dwell_time", scope.exposure_s),
        (eels, "frame_number", scope.frames),
        (noise, "gain_factor", scope.gain_factor),
        (noise, "gain_offset", scope.gain_offset),
    ];
    for (path, name, value) in numbers {
        if let Some(value) = value {
            set(&*group(experiment, path)?, name, &value)?;
        }
    }
    let units = scope.intensity_units.as_deref();
    let quantity = units.map(|units| format!("Intensity ({units})"));
    let texts = [
        (tem, "microscope", &scope.instrument),
        (eels, "spectrometer", &scope.detector),
        ("metadata/General", "authors", &scope.operator),
        ("metadata/General", "original_filename", &measurement.original_filename),
        ("metadata/General", "date", &scope.date),
        ("metadata/General", "time", &scope.time),
        ("metadata/Sample", "description", &scope.specimen),
        ("metadata/Signal", "quantity", &quantity),
    ];
    for (path, name, text) in texts {
        let Some(text) = text else { continue };
        let location = group(experiment, path)?;
        // What was copied takes precedence.
        if location.attr(name).is_err() {
            set_text(&location, name, text)?;
        }
    }
    // HyperSpy refuses files without this group.
    let original = group(experiment, "original_metadata")?;
    add_members(&original, &measurement.original).context("original metadata")
}

fn copy(experiment: &Group, path: &Path, from: &str) -> Result<()> {
    let source = open_hdf5(path, 0)?.group(from)?;
    for name in ["metadata", "original_metadata"] {
        if source.link_exists(name) {
            source.group(name)?.copy_to(experiment, name)?;
        }
    }
    Ok(())
}

fn add_members(location: &Group, metadata: &Metadata) -> Result<()> {
    let Metadata::Group(members) = metadata else {
        return Ok(());
    };
    for (name, member) in members {
        let name = cleaned(name);
        match member {
            Metadata::Group(_) => add_members(&group(location, &name)?, member)?,
            Metadata::Number(number) => set(location, &name, number)?,
            Metadata::Numbers(numbers) => set_array(location, &name, numbers)?,
            Metadata::Text(text) => set_text(location, &name, text)?,
        }
    }
    Ok(())
}

/// `name` without the characters in which HDF5 or HyperSpy see more than a name, such as those of a path.
fn cleaned(name: &str) -> String {
    let odd = |c: char| c == '/' || c == '.' || c.is_control();
    let name: String = name.chars().take(LONGEST_NAME).map(|c| if odd(c) { '-' } else { c }).collect();
    if name.is_empty() { "-".into() } else { name }
}
