//! Nion Swift's calibrations: JSON in the attribute `properties` of a dataset.

use hdf5::Dataset;
use serde_json::Value;

use super::attribute::text;
use crate::cube::Axis;

/// The axes of `dataset` in its stored order; none if it was not written by Nion Swift.
pub(super) fn axes(dataset: &Dataset) -> Option<Vec<Axis>> {
    of_properties(&text(dataset, "properties")?, &dataset.shape())
}

/// The axes of an array of `shape` that the JSON `properties` calibrate.
pub(super) fn of_properties(properties: &str, shape: &[usize]) -> Option<Vec<Axis>> {
    let properties: Value = serde_json::from_str(properties).ok()?;
    let found = calibrations(&properties, shape.len())?;
    let axis = |(size, found): (usize, &Value)| Axis {
        units: found["units"].as_str().unwrap_or_default().into(),
        scale: found["scale"].as_f64().unwrap_or(1.0),
        offset: found["offset"].as_f64().unwrap_or(0.0),
        ..Axis::of_indices("", size, false)
    };
    Some(shape.iter().copied().zip(found).map(axis).collect())
}

/// The first list of `count` calibrations in `value` and all that it holds: its place differs between versions.
fn calibrations(value: &Value, count: usize) -> Option<&Vec<Value>> {
    match value {
        Value::Object(members) => {
            let named = ["dimensional_calibrations", "spatial_calibrations"].iter();
            let own = named.filter_map(|name| members.get(*name)?.as_array()).find(|list| list.len() == count);
            own.or_else(|| members.values().find_map(|member| calibrations(member, count)))
        }
        Value::Array(members) => members.iter().find_map(|member| calibrations(member, count)),
        _ => None,
    }
}
