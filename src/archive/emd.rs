//! EMD files (NCEM's, and those of py4DSTEM): groups marked by `emd_group_type`, axes in the datasets `dim1`, `dim2`, ...

use hdf5::{Dataset, Group};

/// Whether `group` holds an EMD signal.
pub(super) fn is_emd(group: &Group) -> bool {
    group.attr("emd_group_type").is_ok()
}

/// Whether EMD makes the dataset `name` of `group` a signal.
pub(super) fn is_signal(group: &Group, name: &str) -> bool {
    is_emd(group) && name.starts_with("data")
}

/// The names of the datasets beside `dataset` that calibrate its dimensions, in their order; none if they are not all
/// there.
pub(super) fn axis_names(group: &Group, dataset: &Dataset) -> Option<Vec<String>> {
    // EMD counts from 1, py4DSTEM from 0.
    [1, 0].into_iter().find_map(|first| {
        let names: Vec<String> = (first..first + dataset.ndim()).map(|i| format!("dim{i}")).collect();
        names.iter().all(|name| group.dataset(name).is_ok()).then_some(names)
    })
}
