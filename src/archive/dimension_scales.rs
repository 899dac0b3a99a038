//! HDF5's dimension scales: datasets attached to the dimensions of another, as netCDF4, h5py and NSID (sidpy) calibrate.

use hdf5::types::VarLenArray;
use hdf5::{Dataset, ObjectReference, ObjectReference1, ReferencedObject};

use super::attribute::{text, texts};

/// How the name of a scale begins that netCDF4 writes for a dimension without coordinates.
const WITHOUT_COORDINATES: &str = "This is a netCDF dimension but not a netCDF variable";

/// What is attached to a dimension.
#[derive(Default)]
pub(super) struct Dimension {
    /// Its label, or the name of its scale; empty if it has neither.
    pub name: String,
    /// The dataset with its coordinates.
    pub scale: Option<Dataset>,
}

/// What is attached to each dimension of `dataset`, the first scale where there are several.
pub(super) fn of(dataset: &Dataset) -> Vec<Dimension> {
    let labels = texts(dataset, "DIMENSION_LABELS");
    let mut scales = scales(dataset).unwrap_or_default().into_iter();
    let dimension = |dim: usize| {
        let scale = scales.next().flatten();
        let own_name = scale.as_ref().map(|scale| scale.name().rsplit('/').next().unwrap_or_default().to_string());
        let label = labels.get(dim).filter(|label| !label.is_empty()).cloned();
        let is_bare = |scale: &Dataset| text(scale, "NAME").is_some_and(|name| name.starts_with(WITHOUT_COORDINATES));
        Dimension { name: label.or(own_name).unwrap_or_default(), scale: scale.filter(|scale| !is_bare(scale)) }
    };
    (0..dataset.ndim()).map(dimension).collect()
}

fn scales(dataset: &Dataset) -> hdf5::Result<Vec<Option<Dataset>>> {
    let lists = dataset.attr("DIMENSION_LIST")?.read_raw::<VarLenArray<ObjectReference1>>()?;
    let first = |list: &VarLenArray<ObjectReference1>| match list.first()?.dereference(dataset) {
        Ok(ReferencedObject::Dataset(scale)) => Some(scale),
        _ => None,
    };
    Ok(lists.iter().map(first).collect())
}
