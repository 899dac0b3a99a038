//! What is known of a measurement, in the places where HyperSpy and eXSpy look for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hdf5::{Group, Location};

use super::hspy::{group, set, set_text};
use crate::archive::{Metadata, Microscope, Reader, open_hdf5};

/// Longest name of a group that HDF5 and people can use.
const LONGEST_NAME: usize = 200;

/// Goes into the metadata of every signal of a file.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub microscope: Microscope,
    /// Name of the file that the values come from.
    pub original_filename: Option<String>,
    /// `original_metadata`.
    pub original: Metadata,
    /// A HyperSpy file and the experiment in it whose `metadata` and `original_metadata` are taken over first.
    pub copied: Option<(PathBuf, String)>,
}

impl About {
    /// All that the file of `reader` tells, for a copy of its cube. Rank-local.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn of(reader: &Reader) -> Result<About> {
        let path = &reader.info().path;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let experiment = reader.experiment();
        Ok(About {
            microscope: reader.microscope().clone(),
            original_filename: Some(name.into_owned()),
            original: reader.metadata()?,
            copied: experiment.map(|experiment| (path.clone(), experiment.to_string())),
        })
    }
}

/// Writes `about` into a new experiment. Rank-local.
///
/// # Source
/// The paths of HyperSpy's metadata structure, and of eXSpy's for `Acquisition_instrument/TEM/Detector/EELS`.
pub(super) fn add(experiment: &Group, about: &About) -> Result<()> {
    if let Some((path, from)) = &about.copied {
        copy(experiment, path, from).with_context(|| format!("{}: its metadata cannot be copied", path.display()))?;
    }
    let scope = &about.microscope;
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
            let place = group(experiment, path)?;
            set(&place, name, &value)?;
        }
    }
    let units = scope.intensity_units.as_deref();
    let quantity = units.map(|units| format!("Intensity ({units})"));
    let texts = [
        (tem, "microscope", &scope.instrument),
        (eels, "spectrometer", &scope.detector),
        ("metadata/General", "authors", &scope.operator),
        ("metadata/General", "original_filename", &about.original_filename),
        ("metadata/General", "date", &scope.date),
        ("metadata/General", "time", &scope.time),
        ("metadata/Sample", "description", &scope.specimen),
        ("metadata/Signal", "quantity", &quantity),
    ];
    for (path, name, text) in texts {
        let Some(text) = text else { continue };
        let place = group(experiment, path)?;
        // What was copied tells it in its own words.
        if place.attr(name).is_err() {
            set_text(&place, name, text)?;
        }
    }
    // HyperSpy refuses files without it.
    let original = group(experiment, "original_metadata")?;
    add_members(&original, &about.original).context("original metadata")
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

fn add_members(place: &Group, metadata: &Metadata) -> Result<()> {
    let Metadata::Group(members) = metadata else {
        return Ok(());
    };
    for (name, member) in members {
        let name = plain(name);
        match member {
            Metadata::Group(_) => add_members(&group(place, &name)?, member)?,
            Metadata::Number(number) => set(place, &name, number)?,
            Metadata::Numbers(numbers) => set_numbers(place, &name, numbers)?,
            Metadata::Text(text) => set_text(place, &name, text)?,
        }
    }
    Ok(())
}

fn set_numbers(place: &Location, name: &str, numbers: &[f64]) -> Result<()> {
    if place.attr(name).is_ok() {
        place.delete_attr(name)?;
    }
    place
        .new_attr_builder()
        .with_data(numbers)
        .create(name)
        .with_context(|| format!("attribute {name} cannot be written"))?;
    Ok(())
}

/// `name` as that of one group or attribute: no path, nothing that HDF5 or HyperSpy take for more than a name.
fn plain(name: &str) -> String {
    let odd = |c: char| c == '/' || c == '.' || c.is_control();
    let name: String = name.chars().take(LONGEST_NAME).map(|c| if odd(c) { '-' } else { c }).collect();
    if name.is_empty() { "-".into() } else { name }
}
