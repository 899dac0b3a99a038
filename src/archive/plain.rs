//! HDF5 of any layout, NeXus and EMD included: which numeric dataset is the cube, with the axes beside it.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use hdf5::{Dataset, File, Group, LocationType};

use super::attribute::text;
use super::hdf5_file::numeric_dtype;
use super::layout::{Layout, in_ev, uniform};
use super::likely_energy::likely_energy;
use super::{dimension_scales, emd, microscope, nexus, swift, unreadable, velox};
use crate::cube::Axis;

/// Deep enough for any real file, and an end to links that lead in circles.
const DEEPEST: usize = 16;

/// The dataset `wanted`; without it the only three-dimensional numeric one of `file`, or, of several, the one that NeXus
/// or EMD attributes make the signal.
///
/// # Errors
/// Several, or none at all: lists the numeric datasets with their shapes, and how to choose.
pub(crate) fn find(file: &File, wanted: Option<&str>) -> Result<Layout> {
    if let Some(name) = wanted
        && let Ok(dataset) = file.dataset(name)
    {
        return describe(file, name, &dataset);
    }
    let mut found = Found::default();
    found.collect(file, "")?;
    let Found { datasets, unreadable, .. } = found;
    let (numeric, other): (Vec<_>, Vec<_>) =
        datasets.into_iter().partition(|(_, dataset)| numeric_dtype(dataset).is_ok());
    if numeric.is_empty() && !unreadable.is_empty() {
        bail!("{}", unreadable.join("; "));
    }
    let mut listed: Vec<String> =
        numeric.iter().map(|(name, dataset)| format!("{name} {:?}", dataset.shape())).collect();
    listed.extend(unreadable);
    let listed = match &listed[..] {
        [] => "no numeric dataset at all".to_string(),
        listed => listed.join(", "),
    };
    if let Some(name) = wanted {
        bail!("no dataset {name:?} in it; archive.dataset can be one of: {listed}");
    }
    let is_velox = velox::is_velox(file);
    let is_cube = |(_, dataset): &&(String, Dataset)| dataset.ndim() == 3;
    let mut cubes: Vec<&(String, Dataset)> = numeric.iter().filter(|cube| is_cube(cube) && !is_velox).collect();
    if cubes.is_empty() && !is_velox {
        // One frame of a series.
        let has_one_frame = |(_, dataset): &&(String, Dataset)| {
            dataset.ndim() > 3 && dataset.shape().iter().filter(|&&size| size > 1).count() <= 3
        };
        cubes = numeric.iter().filter(has_one_frame).collect();
    }
    let signals: Vec<&(String, Dataset)> =
        numeric.iter().filter(|(name, dataset)| is_signal(file, name, dataset, cubes.is_empty())).collect();
    match (&cubes[..], &signals[..]) {
        (&[(name, dataset)], _) | (_, &[(name, dataset)]) => return describe(file, name, dataset),
        ([], _) => (),
        _ => {
            let by_default = nexus::default_group(file);
            let mut chosen = signals.iter().filter(|(name, _)| parent_of(name) == by_default);
            if let (Some((name, dataset)), None) = (chosen.next(), chosen.next()) {
                return describe(file, name, dataset);
            }
            bail!("several three-dimensional datasets; choose one by archive.dataset, of: {listed}")
        }
    }
    let series: Vec<&(String, Dataset)> =
        numeric.iter().filter(|(_, dataset)| dataset.ndim() > 3 && !is_velox).collect();
    if let [(name, dataset)] = series[..] {
        // Refused for what it is.
        return describe(file, name, dataset);
    }
    // A cube of complex numbers is refused for that, not for being absent.
    if let Some((_, dataset)) = other.iter().find(|cube| is_cube(cube) && !is_velox) {
        numeric_dtype(dataset)?;
    }
    let reason = match is_velox {
        true => velox::refusal(file),
        false => format!("no three-dimensional numeric dataset; name one by archive.dataset, of: {listed}"),
    };
    // Described all the same, for `inspect`; the reader refuses it with the reason.
    match numeric.iter().max_by_key(|(_, dataset)| dataset.size()) {
        Some((name, dataset)) => Ok(Layout { energy: Err(reason), ..describe(file, name, dataset)? }),
        None => bail!(reason),
    }
}

/// What lies in a file.
#[derive(Default)]
struct Found {
    /// With their paths, each once even if it is linked from several places.
    datasets: Vec<(String, Dataset)>,
    /// What does not open, and why: no reason to refuse the rest.
    unreadable: Vec<String>,
    seen: HashSet<String>,
}

impl Found {
    /// Adds what lies at and below `group`.
    fn collect(&mut self, group: &Group, path: &str) -> Result<()> {
        let mut names = group.member_names()?;
        names.sort();
        for name in names {
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let Ok(about) = group.loc_info_by_name(&name) else {
                self.unreadable.push(unreadable::why(group, &name, &below));
                continue;
            };
            if !self.seen.insert(format!("{} {:?}", about.fileno, about.token)) {
                continue;
            }
            match about.loc_type {
                LocationType::Dataset => match group.dataset(&name) {
                    Ok(dataset) if dataset.ndim() > 0 => self.datasets.push((below, dataset)),
                    Ok(_) => (),
                    Err(_) => self.unreadable.push(unreadable::why(group, &name, &below)),
                },
                LocationType::Group if below.matches('/').count() < DEEPEST => {
                    if let Ok(inner) = group.group(&name) {
                        self.collect(&inner, &below)?;
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }
}

/// The path of the group that holds `path`; empty for the root.
fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn open_parent(file: &File, path: &str) -> Result<Group> {
    let parent = parent_of(path);
    let parent = if parent.is_empty() { "/" } else { parent };
    file.group(parent).with_context(|| format!("group {parent}"))
}

/// Whether attributes make `dataset` at `path` the spectra of its group: a cube, or with `flat` also a series of
/// them, or a line scan or a lone spectrum with an axis in eV.
fn is_signal(file: &File, path: &str, dataset: &Dataset, flat: bool) -> bool {
    let Ok(parent) = open_parent(file, path) else {
        return false;
    };
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_flat = || {
        (1..3).contains(&dataset.ndim())
            && describe(file, path, dataset)
                .is_ok_and(|layout| layout.energy.is_ok_and(|dim| in_ev(&layout.axes[dim].units).is_some()))
    };
    (nexus::is_signal(&parent, name, dataset) || emd::is_signal(&parent, name))
        && (dataset.ndim() == 3 || (flat && (dataset.ndim() > 3 || is_flat())))
}

/// Axes and energy of `dataset` at `path`.
fn describe(file: &File, path: &str, dataset: &Dataset) -> Result<Layout> {
    let shape = dataset.shape();
    ensure!(!shape.is_empty(), "dataset {path} is a single value, not a spectrum image");
    let parent = open_parent(file, path)?;
    let mut problems = Vec::new();
    let names = nexus::axis_names(&parent, dataset, &mut problems).or_else(|| emd::axis_names(&parent, dataset));
    let axes = match names {
        Some(names) => axes_of(&shape, |dim, size| axis(&parent.dataset(names.get(dim)?).ok()?, size, &mut problems)),
        None => swift::axes(dataset).unwrap_or_else(|| {
            let attached = dimension_scales::of(dataset);
            axes_of(&shape, |dim, size| {
                let attached = &attached[dim];
                let scale = attached.scale.as_ref().and_then(|scale| axis(scale, size, &mut problems));
                Some(scale.unwrap_or_else(|| Axis::of_indices(&attached.name, size, false)))
            })
        }),
    };
    let mut axes: Vec<Axis> = axes;

    let in_ev: Vec<usize> = (0..axes.len()).filter(|&dim| in_ev(&axes[dim].units).is_some()).collect();
    let called: Vec<usize> = (0..axes.len()).filter(|&dim| is_called_energy(&axes[dim].name)).collect();
    let energy = match (&in_ev[..], &called[..]) {
        (&[dim], _) | (_, &[dim]) => dim,
        _ => match likely_energy(dataset) {
            Some(dim) => {
                problems.push(format!(
                    "no axis tells that it is the energy: dimension {dim} of {shape:?} is taken, by far the longest, along \
                     which the counts fall"
                ));
                dim
            }
            None => {
                problems.push("no axis tells that it is the energy: the last one is taken".into());
                axes.len() - 1
            }
        },
    };
    for (dim, axis) in axes.iter_mut().enumerate() {
        axis.navigate = dim != energy;
    }
    if axes[energy] == Axis::of_indices("", shape[energy], false) {
        axes[energy].units = "eV".into();
    }
    let has_frames = axes.len() > 3;
    let navigation = axes.iter().filter(|axis| axis.navigate && (!has_frames || axis.size > 1));
    let navigation: Vec<String> = navigation.map(|axis| axis.name.to_lowercase()).collect();
    Ok(Layout {
        format: if nexus::is_nexus(&parent) {
            "nexus"
        } else if emd::is_emd(&parent) {
            "emd"
        } else {
            "hdf5"
        },
        // Several programs transpose the cube in EMD files.
        x_before_y: navigation == ["x", "y"],
        dataset: path.to_string(),
        axes,
        energy: Ok(energy),
        problems,
        microscope: microscope::of_hdf5(file, path),
    })
}

/// An axis for each dimension of `shape`: what `axis` makes of it, or its indices. NeXus names "." where there is none.
fn axes_of(shape: &[usize], mut axis: impl FnMut(usize, usize) -> Option<Axis>) -> Vec<Axis> {
    let sizes = shape.iter().enumerate();
    sizes.map(|(dim, &size)| axis(dim, size).unwrap_or_else(|| Axis::of_indices("", size, false))).collect()
}

/// The axis described by `dataset`; none if it does not fit `size` values, which is noted.
fn axis(dataset: &Dataset, size: usize, problems: &mut Vec<String>) -> Option<Axis> {
    let path = dataset.name();
    let name = path.rsplit('/').next().unwrap_or(&path);
    // EMD may give only the first two values; NeXus may give the edges of channels, one more than there are.
    let are_edges = size > 1 && dataset.size() == size + 1;
    if dataset.size() != size && dataset.size() != 2 && !are_edges {
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
    let units = text(dataset, "units").unwrap_or_default().replace(['[', ']', '_'], "");
    let (offset, scale) = match uniform(&values) {
        Ok((first, step)) if are_edges => (first + step / 2.0, step),
        Ok(calibration) => calibration,
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
    let name = ["long_name", "name"].iter().find_map(|key| text(dataset, key)).unwrap_or(name.to_string());
    Some(Axis { name, units, scale, offset, size, navigate: false })
}

fn is_called_energy(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("energy") || name.contains("eloss")
}
