//! NeXus files: `NXdata` groups name their signal and the datasets that are its axes.

use hdf5::{Dataset, File, Group};

use super::attribute::{number, text, texts};

/// An end to `default` attributes that lead in circles.
const DEEPEST: usize = 16;

/// Whether `group` is of a NeXus class.
pub(super) fn is_nexus(group: &Group) -> bool {
    text(group, "NX_class").is_some()
}

/// Whether NeXus makes `dataset`, called `name` in `group`, the signal.
pub(super) fn is_signal(group: &Group, name: &str, dataset: &Dataset) -> bool {
    // An attribute of the group, or in older files of the dataset.
    text(group, "signal").as_deref() == Some(name) || number(dataset, "signal") == Some(1.0)
}

/// The path of the group to show first: where the attributes `default` lead from the root. Empty for the root itself.
pub(super) fn default_group(file: &File) -> String {
    let mut path = String::new();
    for _ in 0..DEEPEST {
        let at = if path.is_empty() { "/" } else { &path };
        let Some(next) = file.group(at).ok().and_then(|group| text(&group, "default")) else {
            break;
        };
        path = if path.is_empty() { next } else { format!("{path}/{next}") };
    }
    path
}

/// The names of the datasets in `group` that calibrate the dimensions of `dataset`, in their order, `.` for a dimension
/// without an axis; none if the attributes name no axis, or not one for each dimension.
///
/// Each axis may say which dimension it is of. Some programs count these from the end: where sizes contradict them, sizes
/// decide, which goes to `problems`.
pub(super) fn axis_names(group: &Group, dataset: &Dataset, problems: &mut Vec<String>) -> Option<Vec<String>> {
    let shape = dataset.shape();
    let ndim = shape.len();
    let fits = |names: &Vec<String>| {
        let mut dims = names.iter().zip(&shape);
        dims.all(|(name, &size)| group.dataset(name).map_or(true, |axis| [size, size + 1].contains(&axis.size())))
    };
    // An attribute of the group, or in older files of the dataset, there also as "y:x:energy".
    [texts(group, "axes"), texts(dataset, "axes")].into_iter().find_map(|attribute| {
        let names: Vec<String> = attribute
            .iter()
            .flat_map(|names| names.trim_matches(['[', ']']).split([':', ',']))
            .map(|name| name.trim().to_string())
            .collect();
        let listed = (names.len() == ndim).then(|| names.clone());
        let indices: Vec<Option<f64>> = names.iter().map(|name| number(group, &format!("{name}_indices"))).collect();
        if names.is_empty() || !indices.iter().all(Option::is_some) {
            return listed;
        }
        let of_dim = |dim: usize| indices.iter().position(|&index| index == Some(dim as f64));
        let told = (0..ndim).map(|dim| of_dim(dim).map_or(".".into(), |at| names[at].clone())).collect();
        let reversed = listed.clone().map(|names| names.into_iter().rev().collect());
        let by_size = [listed, reversed].into_iter().flatten().find(&fits);
        match by_size {
            Some(names) if !fits(&told) => {
                problems.push(format!(
                    "its {}_indices contradict the sizes of its axes: the sizes decide",
                    names.join("_indices, ")
                ));
                Some(names)
            }
            _ => Some(told),
        }
    })
}
