//! HyperSpy's `.hspy` files (format 3.x): experiments with axes, one of them the cube.

use anyhow::{Context, Result, anyhow, bail, ensure};
use hdf5::{File, Group};

use super::attribute::{flag, number, text};
use super::layout::{Layout, Microscope, in_ev, index_axis, uniform};
use crate::cube::Axis;

/// The cube among the experiments of `file`: the one of most dimensions that is an EELS spectrum image.
///
/// `wanted` is `Experiments/NAME/data` or `Experiments/NAME`; without it there must be exactly one.
///
/// # Errors
/// No readable experiment, or several cubes: names them and how to choose.
pub(crate) fn find(file: &File, wanted: Option<&str>) -> Result<Layout> {
    let names = experiments(file)?;
    ensure!(!names.is_empty(), "a HyperSpy file without a signal: no Experiments/NAME/data in it");
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
    if cubes.len() > 1 {
        let names: Vec<String> = cubes.into_iter().map(|(name, _)| name).collect();
        bail!("several EELS spectrum images; choose one by archive.dataset: {}", as_choices(&names));
    }
    if let Some((_, layout)) = cubes.pop() {
        return Ok(layout);
    }
    // Still worth describing: the reader refuses it with the reason.
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

/// Axes and energy of experiment `name`.
fn describe(file: &File, name: &str) -> Result<Layout> {
    let group = file.group(&format!("Experiments/{name}"))?;
    let shape = group.dataset("data")?.shape();
    let mut problems = Vec::new();
    let axes = axes(&group, &shape, &mut problems)?;
    let signal_type = group.group("metadata/Signal").ok().and_then(|signal| text(&signal, "signal_type"));
    Ok(Layout {
        format: "hspy",
        dataset: format!("Experiments/{name}/data"),
        x_before_y: false,
        energy: energy_dim(&axes, signal_type.as_deref()),
        axes,
        problems,
        microscope: microscope(&group),
    })
}

/// The dimension of the energy loss, or why there is none.
fn energy_dim(axes: &[Axis], signal_type: Option<&str>) -> Result<usize, String> {
    let is_eels = signal_type == Some("EELS");
    match signal_type {
        // X-ray spectra have an energy axis as well.
        Some(kind) if !is_eels && kind != "Signal1D" => return Err(format!("its signal_type is {kind}")),
        _ => (),
    }
    let signal: Vec<usize> = (0..axes.len()).filter(|&dim| !axes[dim].navigate).collect();
    let is_energy = |dim: usize| in_ev(&axes[dim].units).is_some();
    let energies: Vec<usize> = signal.iter().copied().filter(|&dim| is_energy(dim)).collect();
    match (&signal[..], &energies[..]) {
        // Without any flag, units alone can tell.
        (_, &[dim]) if signal.len() == 1 || signal.len() == axes.len() => Ok(dim),
        (&[dim], _) if axes[dim].units.is_empty() && (is_eels || axes[dim].name == "Energy loss") => Ok(dim),
        (&[dim], _) => {
            Err(format!("its signal axis {:?} is in {:?}, not in eV, keV or meV", axes[dim].name, axes[dim].units))
        }
        ([], _) => Err("it has no signal axis (every axis has navigate TRUE)".into()),
        _ => Err(format!("it has {} signal axes (navigate FALSE), not one energy axis", signal.len())),
    }
}

/// Takes an experiment that the user named for a cube: the only signal axis, else the last, is the energy.
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

/// The axes of the signal in `group`, one per dimension of `shape`; what is missing has HyperSpy's defaults.
///
/// # Errors
/// Axes that contradict the data.
pub(crate) fn axes(group: &Group, shape: &[usize], problems: &mut Vec<String>) -> Result<Vec<Axis>> {
    shape.iter().enumerate().map(|(i, &size)| axis(group, i, size, problems)).collect()
}

fn axis(group: &Group, i: usize, size: usize, problems: &mut Vec<String>) -> Result<Axis> {
    let Ok(described) = group.group(&format!("axis-{i}")) else {
        problems.push(format!("axis-{i} is missing: its indices are taken"));
        return Ok(index_axis("", size));
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
    if let Some(told) = number(&described, "size") {
        ensure!(
            told == size as f64,
            "axis-{i} ({}) has size {told}, but its data have {size}; the file contradicts itself, save it again",
            axis.name
        );
    }
    if kind.is_empty() || kind == "UniformDataAxis" {
        return Ok(axis);
    }
    let values =
        (described.dataset("axis").ok()).filter(|values| values.size() == size).map(|values| values.read_raw::<f64>());
    let even = match values {
        Some(Ok(values)) => uniform(&values),
        _ => Err(anyhow!("its values are not stored")),
    };
    match even {
        Ok((offset, scale)) => (axis.offset, axis.scale) = (offset, scale),
        Err(error) if navigate => {
            problems.push(format!("axis-{i} ({}) is a {kind}, not uniform: its indices are taken", axis.name));
            log::debug!("axis-{i}: {error:#}");
            axis = Axis { name: axis.name, navigate, ..index_axis("", size) };
        }
        Err(error) => {
            // It must not pass for a calibrated one: the energy check refuses this scale.
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

/// What the metadata of the signal in `group` tell of the instrument.
fn microscope(group: &Group) -> Microscope {
    let of =
        |path: &str, name: &str| group.group(&format!("metadata/{path}")).ok().and_then(|group| number(&group, name));
    let text_of =
        |path: &str, name: &str| group.group(&format!("metadata/{path}")).ok().and_then(|group| text(&group, name));
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

/// `Electrons (Counts)` is in `Counts`.
fn units_of(quantity: &str) -> String {
    let inner = quantity.split_once('(').map(|(_, rest)| rest);
    let inner = inner.and_then(|rest| rest.strip_suffix(')'));
    inner.unwrap_or(quantity).trim().into()
}
