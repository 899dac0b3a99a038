//! Reads HyperSpy's `.hspy` files (format 3.x): which experiment is the cube, and its axes.

use anyhow::{Context, Result, anyhow, bail, ensure};
use hdf5::{File, Group};

use super::attribute::{flag, number, text};
use super::layout::{Layout, in_ev, uniform};
use super::microscope::Microscope;
use super::unreadable;
use crate::cube::Axis;

/// The cube among the experiments of `file`: of those that are EELS, the one with the most dimensions.
///
/// `wanted` is `Experiments/NAME/data` or `Experiments/NAME`; without it there must be exactly one cube.
///
/// # Errors
/// No readable experiment; several cubes (names them, and how to choose).
pub(crate) fn find(file: &File, wanted: Option<&str>) -> Result<Layout> {
    let names = experiments(file)?;
    if names.is_empty() {
        let group = file.group("Experiments")?;
        for name in group.member_names()? {
            if let Some(inner) = group.group(&name).ok().filter(|inner| inner.link_exists("data")) {
                bail!("{}", unreadable::why(&inner, "data", &format!("Experiments/{name}/data")));
            }
        }
        bail!("a HyperSpy file without a signal: no Experiments/NAME/data in it");
    }
    if let Some(wanted) = wanted {
        let name = wanted.trim_start_matches("Experiments/").trim_end_matches("/data");
        ensure!(
            names.iter().any(|known| known == name),
            "no experiment {name:?} in it; archive.dataset can be {}",
            as_choices(&names)
        );
        return insist(describe(file, name)?);
    }

    let mut cubes = Vec::new();
    let mut others = Vec::new();
    let mut reasons = Vec::new();
    for name in &names {
        match describe(file, name) {
            Ok(layout) => match &layout.energy {
                Ok(_) => cubes.push((name.clone(), layout)),
                Err(reason) => {
                    reasons.push(format!("{name}: {reason}"));
                    others.push(layout);
                }
            },
            Err(error) => reasons.push(format!("{name}: {error:#}")),
        }
    }
    let most = cubes.iter().map(|(_, layout)| layout.axes.len()).max();
    cubes.retain(|(_, layout)| Some(layout.axes.len()) == most);
    let is_guessed = |layout: &Layout| layout.problems.iter().any(|problem| problem == GUESSED);
    if cubes.iter().any(|(_, layout)| !is_guessed(layout)) {
        cubes.retain(|(_, layout)| !is_guessed(layout));
    }
    if cubes.len() > 1 {
        let names: Vec<String> = cubes.into_iter().map(|(name, _)| name).collect();
        bail!("several EELS spectrum images; choose one by archive.dataset: {}", as_choices(&names));
    }
    if let Some((_, layout)) = cubes.pop() {
        return Ok(layout);
    }
    // Described all the same, for `inspect`; the reader refuses it with the reason.
    others.sort_by_key(|layout| std::cmp::Reverse(layout.axes.len()));
    match others.into_iter().next() {
        Some(layout) if names.len() == 1 => Ok(layout),
        Some(layout) => Ok(Layout { energy: Err(reasons.join("; ")), ..layout }),
        None => bail!("no experiment can be read: {}", reasons.join("; ")),
    }
}

/// The names of the experiments that hold data, in alphabetical order.
pub(crate) fn experiments(file: &File) -> Result<Vec<String>> {
    let group = file.group("Experiments").context("no group Experiments in it")?;
    let mut names = group.member_names()?;
    names.retain(|name| group.dataset(&format!("{name}/data")).is_ok());
    names.sort();
    Ok(names)
}

fn as_choices(names: &[String]) -> String {
    let paths: Vec<String> = names.iter().map(|name| format!("\"Experiments/{name}/data\"")).collect();
    paths.join(" or ")
}

/// The problem of a HyperSpy signal that was never calibrated: its axis has neither name nor units.
const GUESSED: &str = "nothing says that it is EELS: its only signal axis is taken as the energy";

/// The axes and the energy of experiment `name`.
fn describe(file: &File, name: &str) -> Result<Layout> {
    let group = file.group(&format!("Experiments/{name}"))?;
    let shape = group.dataset("data")?.shape();
    let mut problems = Vec::new();
    let axes = axes(&group, &shape, &mut problems)?;
    let signal_type = group.group("metadata/Signal").ok().and_then(|signal| text(&signal, "signal_type"));
    let energy = energy_dim(&axes, signal_type.as_deref());
    if signal_type.as_deref() != Some("EELS")
        && energy.as_ref().is_ok_and(|&dim| axes[dim].name.is_empty() && axes[dim].units.is_empty())
    {
        problems.push(GUESSED.into());
    }
    Ok(Layout {
        format: "hspy",
        dataset: format!("Experiments/{name}/data"),
        x_before_y: false,
        energy,
        axes,
        problems,
        microscope: microscope(&group),
    })
}

/// The dimension of the energy loss, or the reason why there is none.
fn energy_dim(axes: &[Axis], signal_type: Option<&str>) -> Result<usize, String> {
    let is_eels = signal_type == Some("EELS");
    match signal_type {
        // X-ray spectra have an energy axis too.
        Some(kind) if !is_eels && kind != "Signal1D" => return Err(format!("its signal_type is {kind}")),
        _ => (),
    }
    let signal: Vec<usize> = (0..axes.len()).filter(|&dim| !axes[dim].navigate).collect();
    let is_energy = |dim: usize| in_ev(&axes[dim].units).is_some();
    let energies: Vec<usize> = signal.iter().copied().filter(|&dim| is_energy(dim)).collect();
    match (&signal[..], &energies[..]) {
        // If no axis is flagged for navigation, the units alone decide.
        (_, &[dim]) if signal.len() == 1 || signal.len() == axes.len() => Ok(dim),
        (&[dim], _)
            if axes[dim].units.is_empty() && (is_eels || ["Energy loss", ""].contains(&&axes[dim].name[..])) =>
        {
            Ok(dim)
        }
        (&[dim], _) => {
            Err(format!("its signal axis {:?} is in {:?}, not in eV, keV or meV", axes[dim].name, axes[dim].units))
        }
        ([], _) => Err("it has no signal axis (every axis has navigate TRUE)".into()),
        _ => Err(format!("it has {} signal axes (navigate FALSE), not one energy axis", signal.len())),
    }
}

/// Takes the experiment that the user named as a cube: its energy is the only signal axis, else the last axis.
fn insist(mut layout: Layout) -> Result<Layout> {
    if let Err(reason) = &layout.energy {
        let signal: Vec<usize> = (0..layout.axes.len()).filter(|&dim| !layout.axes[dim].navigate).collect();
        let dim = match signal[..] {
            [dim] => dim,
            _ => layout.axes.len().checked_sub(1).context("its data are a single value")?,
        };
        layout.problems.push(format!("{reason}; read as EELS because archive.dataset names it"));
        layout.energy = Ok(dim);
    }
    Ok(layout)
}

/// The axes of the signal in `group`, one per dimension of `shape`, with HyperSpy's defaults for what is missing.
///
/// # Errors
/// Axes that contradict the data.
pub(crate) fn axes(group: &Group, shape: &[usize], problems: &mut Vec<String>) -> Result<Vec<Axis>> {
    shape.iter().enumerate().map(|(i, &size)| axis(group, i, size, problems)).collect()
}

fn axis(group: &Group, i: usize, size: usize, problems: &mut Vec<String>) -> Result<Axis> {
    let Ok(described) = group.group(&format!("axis-{i}")) else {
        problems.push(format!("axis-{i} is missing: its indices are taken"));
        return Ok(Axis::of_indices("", size, false));
    };
    let name = text(&described, "name").unwrap_or_default();
    let navigate = flag(&described, "navigate").unwrap_or(false);
    let kind = text(&described, "_type").unwrap_or_default();
    let mut axis = Axis {
        units: text(&described, "units").unwrap_or_default(),
        scale: number(&described, "scale").unwrap_or(1.0),
        offset: number(&described, "offset").unwrap_or(0.0),
        name,
        size,
        navigate,
    };
    if let Some(stated) = number(&described, "size") {
        ensure!(
            stated == size as f64,
            "axis-{i} ({}) has size {stated}, but its data have {size}; the file contradicts itself, save it again",
            axis.name
        );
    }
    if kind.is_empty() || kind == "UniformDataAxis" {
        return Ok(axis);
    }
    let values =
        (described.dataset("axis").ok()).filter(|values| values.size() == size).map(|values| values.read_raw::<f64>());
    let calibration = match values {
        Some(Ok(values)) => uniform(&values),
        _ => Err(anyhow!("its values are not stored")),
    };
    match calibration {
        Ok((offset, scale)) => (axis.offset, axis.scale) = (offset, scale),
        Err(error) if navigate => {
            problems.push(format!("axis-{i} ({}) is a {kind}, not uniform: its indices are taken", axis.name));
            log::debug!("axis-{i}: {error:#}");
            axis = Axis { name: axis.name, navigate, ..Axis::of_indices("", size, false) };
        }
        Err(error) => {
            // An uneven energy axis must not pass for a calibrated one: the energy check refuses this scale.
            axis.scale = f64::NAN;
            problems.push(format!(
                "axis-{i} ({}) is a {kind} and not uniform: {error:#}; in HyperSpy, \
                 s.interpolate_on_axis('uniform', axis={i}) makes it so",
                axis.name
            ));
        }
    }
    Ok(axis)
}

/// What the metadata of the signal in `group` say of the instrument.
fn microscope(group: &Group) -> Microscope {
    let metadata = |path: &str| group.group(&format!("metadata/{path}")).ok();
    let of = |path: &str, name: &str| number(&*metadata(path)?, name);
    let text_of = |path: &str, name: &str| text(&*metadata(path)?, name);
    let tem = "Acquisition_instrument/TEM";
    let eels = "Acquisition_instrument/TEM/Detector/EELS";
    let noise = "Signal/Noise_properties/Variance_linear_model";
    Microscope {
        title: text_of("General", "title"),
        instrument: text_of(tem, "microscope"),
        detector: text_of(eels, "spectrometer"),
        beam_energy_kev: of(tem, "beam_energy"),
        convergence_angle_mrad: of(tem, "convergence_angle"),
        collection_angle_mrad: of(eels, "collection_angle"),
        camera_length_mm: of(tem, "camera_length"),
        aperture_mm: of(eels, "aperture_size"),
        exposure_s: of(eels, "dwell_time").or_else(|| of(eels, "exposure")),
        frames: of(eels, "frame_number"),
        operator: text_of("General", "authors"),
        specimen: text_of("Sample", "description"),
        date: text_of("General", "date"),
        time: text_of("General", "time"),
        gain_factor: of(noise, "gain_factor"),
        gain_offset: of(noise, "gain_offset"),
        intensity_units: text_of("Signal", "quantity").map(|quantity| units_of(&quantity)),
    }
}

/// The units in a quantity: `Counts` in `Electrons (Counts)`.
fn units_of(quantity: &str) -> String {
    let inner = quantity.split_once('(').map(|(_, rest)| rest);
    let inner = inner.and_then(|rest| rest.strip_suffix(')'));
    inner.unwrap_or(quantity).trim().into()
}
