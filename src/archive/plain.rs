//! Plain HDF5, NeXus (`NXdata`) and EMD (NCEM's): any numeric dataset, its axes from the datasets beside it.

use anyhow::{Context, Result, bail, ensure};
use hdf5::types::{VarLenAscii, VarLenUnicode};
use hdf5::{Dataset, File, Group};

use super::attribute::{number, text, texts};
use super::file::numeric_dtype;
use super::instrument;
use super::layout::{Layout, in_ev, index_axis, uniform};
use crate::cube::Axis;

/// Deep enough for any real file, and an end to links that go in circles.
const DEEPEST: usize = 16;

/// The dataset `wanted`, or the only three-dimensional numeric one of `file`, or of several the one that NeXus or EMD
/// attributes make the signal.
///
/// # Errors
/// Several, or none at all: lists the numeric datasets with their shapes, and how to choose.
pub(crate) fn find(file: &File, wanted: Option<&str>) -> Result<Layout> {
    if let Some(name) = wanted {
        if let Ok(dataset) = file.dataset(name) {
            return describe(file, name, &dataset);
        }
    }
    let mut found = Vec::new();
    collect(file, "", &mut Vec::new(), &mut found)?;
    let (numeric, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, dataset)| numeric_dtype(dataset).is_ok());
    let listed = match &numeric[..] {
        [] => "no numeric dataset at all".to_string(),
        numeric => {
            let lines: Vec<String> =
                numeric.iter().map(|(name, dataset)| format!("{name} {:?}", dataset.shape())).collect();
            lines.join(", ")
        }
    };
    if let Some(name) = wanted {
        bail!("no dataset {name:?} in it; archive.dataset can be one of: {listed}");
    }
    let is_cube = |(_, dataset): &&(String, Dataset)| dataset.ndim() == 3;
    // What is three-dimensional in a Velox file are stacks of pictures.
    let cubes: Vec<&(String, Dataset)> = numeric.iter().filter(|cube| is_cube(cube) && !is_velox(file)).collect();
    let signals: Vec<&(String, Dataset)> =
        numeric.iter().filter(|(name, dataset)| is_signal(file, name, dataset, cubes.is_empty())).collect();
    match (&cubes[..], &signals[..]) {
        (&[(name, dataset)], _) | (_, &[(name, dataset)]) => return describe(file, name, dataset),
        ([], _) => (),
        _ => {
            let by_default = default_group(file);
            let of_default = |(name, _): &&&(String, Dataset)| parent_of(name) == by_default;
            let mut chosen = signals.iter().filter(of_default);
            if let (Some((name, dataset)), None) = (chosen.next(), chosen.next()) {
                return describe(file, name, dataset);
            }
            bail!("several three-dimensional datasets; choose one by archive.dataset, of: {listed}")
        }
    }
    // A cube of complex numbers deserves a better answer than that there is no cube.
    if let Some((_, dataset)) = other.iter().find(is_cube) {
        numeric_dtype(dataset)?;
    }
    let reason = if is_velox(file) {
        format!(
            "a Velox file, whose spectra are packed in a way that is not read; save its EELS spectrum image as .dm4 or \
             .hspy, or name a plain dataset by archive.dataset, of: {listed}"
        )
    } else {
        format!("no three-dimensional numeric dataset; name one by archive.dataset, of: {listed}")
    };
    // Still worth describing: the reader refuses it with the reason.
    match numeric.iter().max_by_key(|(_, dataset)| dataset.size()) {
        Some((name, dataset)) => Ok(Layout { energy: Err(reason), ..describe(file, name, dataset)? }),
        None => bail!(reason),
    }
}

/// Adds the datasets at and below `group` with their paths, each once however often it is linked.
fn collect(group: &Group, path: &str, seen: &mut Vec<String>, found: &mut Vec<(String, Dataset)>) -> Result<()> {
    let mut names = group.member_names()?;
    names.sort();
    for name in names {
        let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        // A link that leads nowhere is no reason to refuse the rest.
        let Ok(about) = group.loc_info_by_name(&name) else {
            continue;
        };
        let identity = format!("{} {:?}", about.fileno, about.token);
        if seen.contains(&identity) {
            continue;
        }
        seen.push(identity);
        match group.dataset(&name) {
            Ok(dataset) => {
                if dataset.ndim() > 0 {
                    found.push((below, dataset));
                }
            }
            _ => match group.group(&name) {
                Ok(inner) => {
                    if below.matches('/').count() < DEEPEST {
                        collect(&inner, &below, seen, found)?;
                    }
                }
                _ => {}
            },
        }
    }
    Ok(())
}

/// The group that holds `path`; the root's name is empty.
fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn open_parent(file: &File, path: &str) -> Result<Group> {
    let parent = parent_of(path);
    let place = if parent.is_empty() { "/" } else { parent };
    file.group(place).with_context(|| format!("group {place}"))
}

/// Whether attributes make `dataset` at `path` the spectra of its group: a cube, or, where `flat` ones will do, a line
/// or a spectrum with an axis in eV.
fn is_signal(file: &File, path: &str, dataset: &Dataset, flat: bool) -> bool {
    let Ok(parent) = open_parent(file, path) else {
        return false;
    };
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_told = text(&parent, "signal").as_deref() == Some(name)
        || number(dataset, "signal") == Some(1.0)
        || (parent.attr("emd_group_type").is_ok() && name.starts_with("data"));
    let is_flat = || {
        (1..3).contains(&dataset.ndim())
            && describe(file, path, dataset)
                .is_ok_and(|layout| layout.energy.is_ok_and(|dim| in_ev(&layout.axes[dim].units).is_some()))
    };
    is_told && (dataset.ndim() == 3 || (flat && is_flat()))
}

/// Where the attributes `default` lead from the root, NeXus's way to say what to show first.
fn default_group(file: &File) -> String {
    let mut path = String::new();
    for _ in 0..DEEPEST {
        let place = if path.is_empty() { "/" } else { &path };
        let Some(next) = file.group(place).ok().and_then(|group| text(&group, "default")) else {
            break;
        };
        path = if path.is_empty() { next } else { format!("{path}/{next}") };
    }
    path
}

/// Thermo Fisher's dialect of EMD: it says so in a dataset of its root.
fn is_velox(file: &File) -> bool {
    let Ok(version) = file.dataset("Version") else {
        return false;
    };
    version
        .read_raw::<VarLenAscii>()
        .map(|texts| texts.iter().any(|text| text.contains("Velox")))
        .or_else(|_| {
            let texts = version.read_raw::<VarLenUnicode>()?;
            Ok::<bool, hdf5::Error>(texts.iter().any(|text| text.contains("Velox")))
        })
        .unwrap_or(false)
}

/// Axes and energy of `dataset` at `path`.
fn describe(file: &File, path: &str, dataset: &Dataset) -> Result<Layout> {
    let shape = dataset.shape();
    ensure!(!shape.is_empty(), "dataset {path} is a single value, not a spectrum image");
    let parent = open_parent(file, path)?;
    let mut problems = Vec::new();
    let named = axis_names(&parent, dataset);
    let mut axes = Vec::new();
    for (dim, &size) in shape.iter().enumerate() {
        let axis = match named.get(dim) {
            Some(name) => axis(&parent, name, size, &mut problems),
            None => None,
        };
        axes.push(axis.unwrap_or_else(|| index_axis("", size)));
    }

    let energies: Vec<usize> = (0..axes.len()).filter(|&dim| in_ev(&axes[dim].units).is_some()).collect();
    let called: Vec<usize> = (0..axes.len()).filter(|&dim| is_called_energy(&axes[dim].name)).collect();
    let energy = match (&energies[..], &called[..]) {
        (&[dim], _) | (_, &[dim]) => dim,
        _ => {
            problems.push("no axis tells that it is the energy: the last one is taken".into());
            axes.len() - 1
        }
    };
    for (dim, axis) in axes.iter_mut().enumerate() {
        axis.navigate = dim != energy;
    }
    if axes[energy] == index_axis("", shape[energy]) {
        axes[energy].units = "eV".into();
    }
    let places = axes.iter().filter(|axis| axis.navigate);
    let places: Vec<String> = places.map(|axis| axis.name.to_lowercase()).collect();
    Ok(Layout {
        format: format_of(&parent),
        // EMD files of several programs turn the cube round.
        x_before_y: places == ["x", "y"],
        dataset: path.to_string(),
        axes,
        energy: Ok(energy),
        problems,
        microscope: instrument::microscope(file, path),
    })
}

/// `nexus`, `emd` or `hdf5`, by the attributes that those formats put beside their data.
fn format_of(parent: &Group) -> &'static str {
    if text(parent, "NX_class").is_some() {
        "nexus"
    } else if parent.attr("emd_group_type").is_ok() {
        "emd"
    } else {
        "hdf5"
    }
}

/// The names of the datasets beside `dataset` that calibrate its dimensions, in order; empty where none are told.
fn axis_names(parent: &Group, dataset: &Dataset) -> Vec<String> {
    let ndim = dataset.ndim();
    // NeXus: an attribute of the group, or in older files of the dataset, there also as "y:x:energy".
    for told in [texts(parent, "axes"), texts(dataset, "axes")] {
        let names: Vec<String> = told
            .iter()
            .flat_map(|names| names.trim_matches(['[', ']']).split([':', ',']))
            .map(|name| name.trim().to_string())
            .collect();
        // NeXus may tell each axis its dimension.
        let indices: Vec<Option<f64>> = names.iter().map(|name| number(parent, &format!("{name}_indices"))).collect();
        if !names.is_empty() && indices.iter().all(Option::is_some) {
            let place = |dim: usize| indices.iter().position(|&index| index == Some(dim as f64));
            let named = |dim| place(dim).map_or(".".into(), |at| names[at].clone());
            return (0..ndim).map(named).collect();
        }
        if names.len() == ndim {
            return names;
        }
    }
    // EMD counts from 1, py4DSTEM from 0.
    for first in [1, 0] {
        let names: Vec<String> = (first..first + ndim).map(|i| format!("dim{i}")).collect();
        if names.iter().all(|name| parent.dataset(name).is_ok()) {
            return names;
        }
    }
    Vec::new()
}

/// The axis that dataset `name` beside the data describes; none where it does not fit, which is noted.
fn axis(parent: &Group, name: &str, size: usize, problems: &mut Vec<String>) -> Option<Axis> {
    // NeXus writes "." for a dimension without an axis.
    let dataset = parent.dataset(name).ok()?;
    // EMD may give only the first two points.
    if dataset.size() != size && dataset.size() != 2 {
        problems.push(format!("axis {name} has {} values for {size} places: not used", dataset.size()));
        return None;
    }
    let values = match dataset.read_raw::<f64>() {
        Ok(values) => values,
        Err(error) => {
            problems.push(format!("axis {name} cannot be read ({error}): not used"));
            return None;
        }
    };
    let units = text(&dataset, "units").unwrap_or_default().replace(['[', ']', '_'], "");
    let (offset, scale) = match uniform(&values) {
        Ok(even) => even,
        // An uneven energy axis must not pass for a calibrated one: the energy check refuses this scale.
        Err(error) if in_ev(&units).is_some() || is_called_energy(name) => {
            problems.push(format!("axis {name} is not uniform: {error:#}"));
            (values[0], f64::NAN)
        }
        Err(error) => {
            problems.push(format!("axis {name} is not uniform ({error:#}): its indices are taken"));
            return None;
        }
    };
    let name = ["long_name", "name"].iter().find_map(|key| text(&dataset, key)).unwrap_or(name.to_string());
    Some(Axis { name, units, scale, offset, size, navigate: false })
}

fn is_called_energy(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("energy") || name.contains("eloss")
}
